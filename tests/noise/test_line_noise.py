"""Offsets of rows and columns are found where they are, and removed from whole planes; nothing else counts as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_direct_denoiser import load
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import GaussianNoise, LineNoise, MixtureNoise, diagnose, fit_noise, from_document
from napari_direct_denoiser.noise.line_noise import left_variance, measure_lines
from napari_direct_denoiser.prediction import tiling

SIGMA = 10.0  # counts, of the pixel noise
Image = NDArray[np.float32]  # (planes, Y, X)


def lined(rows: float = 0.0, columns: float = 0.0, planes: int = 4, size: int = 128) -> tuple[Image, Image]:
    """Filaments with pixel noise of std 10 counts: with offsets of lines of some std (counts), and without."""
    rng = np.random.default_rng(1)
    truth = simulate(planes, size, seed=0, photons=20.0, gain=2.0).truth
    white = truth + rng.normal(0, SIGMA, truth.shape)
    offsets = rng.normal(0, 1, (planes, size, 1)) * rows + rng.normal(0, 1, (planes, 1, size)) * columns
    return (white + offsets).astype(np.float32), white.astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(3.0, 0.0), (0.0, 3.0), (10.0, 0.0), (10.0, 3.0), (0.0, 10.0)])
@pytest.mark.parametrize("planes", [1, 4])
def test_offsets_are_measured(rows: float, columns: float, planes: int) -> None:
    noisy, _ = lined(rows, columns, planes)
    assert measure_lines([Frames(noisy)]) == pytest.approx((rows, columns), rel=0.25)


@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("weak", [0.0, 0.5])
def test_noise_without_offsets_or_with_weak_ones_is_left_alone(planes: int, weak: float) -> None:
    assert measure_lines([Frames(lined(weak, weak, planes)[0])]) == (0.0, 0.0)


@pytest.mark.parametrize("rows", [3.0, 10.0, 40.0])
def test_what_is_left_of_offsets_is_known_without_the_truth(rows: float) -> None:
    noisy, white = lined(rows, planes=8, size=256)
    noise = LineNoise(GaussianNoise(SIGMA), row_std=rows)
    planes = noise.measured(noisy)
    found = np.stack([planes[index] for index in range(8)])
    left = (found - white).astype(np.float64)
    expected = left_variance(noise, list(found)) ** 0.5
    assert expected == pytest.approx(np.mean(left**2) ** 0.5, rel=0.3)
    assert left_variance(GaussianNoise(SIGMA), list(found)) == 0


def test_offsets_of_a_tenth_of_the_noise_are_measured_or_left() -> None:
    found = measure_lines([Frames(lined(1.0)[0])])
    assert found[0] == 0.0 or found[0] == pytest.approx(1.0, rel=0.4)
    assert found[1] == 0.0


def test_a_fixed_pattern_is_no_line_noise() -> None:
    noisy = lined()[1] + np.random.default_rng(2).normal(0, SIGMA, (1, 128, 1))
    assert measure_lines([Frames(noisy)]) == (0.0, 0.0)


def test_noise_that_neighbours_of_a_row_share_is_no_line_noise() -> None:
    white = lined()[1]
    assert measure_lines([Frames(white + np.roll(white, 1, axis=2))]) == (0.0, 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "convallaria_calibration_frame.tif",
        "convallaria_frame.tif",
        "fmd_confocal_fish.tif",
        "fmd_twophoton_mice.tif",
        "fmd_widefield_bpae_g.tif",
        "lysosome_clean_8fov_50t.tif",
        "tirf_scmos_20frames.tif",
        "twophoton_row_correlated_20frames.tif",
        "w2s_ch1_noisy.tif",
    ],
)
def test_real_images_are_free_of_line_noise(data_dir: Path, name: str) -> None:
    image = tifffile.imread(data_dir / name)
    stack = image.reshape(-1, *image.shape[-2:])
    assert measure_lines([Frames(stack)]) == (0.0, 0.0)
    assert measure_lines([Frames(stack[:1])]) == (0.0, 0.0)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("std", [3.0, 10.0, 100.0])
def test_what_stays_of_the_offsets_is_near_the_optimum(std: float, axis: int) -> None:
    noisy, white = lined(std, size=256)
    if axis == 2:
        noisy, white = noisy.swapaxes(1, 2), white.swapaxes(1, 2)
    straight = LineNoise(GaussianNoise(SIGMA), *((std, 0.0) if axis == 1 else (0.0, std))).measured(noisy)
    error = np.stack([(straight[index] - white[index]).mean(3 - axis - 1) for index in range(4)])
    least = (1 / (1 / std**2 + 256 / SIGMA**2)) ** 0.5  # nothing but pixel noise in the way
    assert error.std(axis=1).mean() < 2 * least + 0.06 * std  # slow changes over many rows stay


def test_regions_of_a_plane_are_those_of_the_whole_plane() -> None:
    noisy, _ = lined(10.0, 5.0)
    straight = LineNoise(GaussianNoise(SIGMA), 10.0, 5.0).measured(noisy)
    assert straight.shape == noisy.shape
    assert straight.dtype == straight[0].dtype == np.float32
    np.testing.assert_array_equal(straight[2, 30:40, 50:70], straight[2][30:40, 50:70])
    np.testing.assert_array_equal(straight[-1], straight[3])


def test_pixels_that_are_missing_stay_so_and_spoil_no_other() -> None:
    noisy, white = lined(10.0)
    noisy[1, 3, 4] = np.nan
    straight = LineNoise(GaussianNoise(SIGMA), 10.0).measured(noisy)[1]
    assert np.count_nonzero(np.isnan(straight)) == 1
    assert np.nanstd(np.nanmean(straight - white[1], axis=1)) < 4.0


def test_auto_finds_the_noise_of_pixels_beside_that_of_lines() -> None:
    noisy, white = lined(20.0, 8.0)
    fit, plain = fit_noise("auto", [Frames(noisy)]), fit_noise("auto", [Frames(white)])
    assert isinstance(fit.model, LineNoise)
    assert not isinstance(plain.model, LineNoise)
    assert np.median(fit.variances) == pytest.approx(np.median(plain.variances), rel=0.08)
    assert "row offsets of std" in fit.model.describe()
    assert "column offsets of std" in fit.model.describe()
    kinds = {finding.kind: finding for finding in diagnose([Frames(noisy)], fit)}
    assert kinds["lines"].value == pytest.approx(20.0, rel=0.2)
    assert "removed" in kinds["lines"].words
    assert not {"fixed pattern", "correlated"} & set(kinds)
    assert "lines" not in {finding.kind for finding in diagnose([Frames(white)], plain)}


def test_a_given_noise_of_pixels_is_kept_beside_that_of_lines() -> None:
    noisy, white = lined(20.0)
    given = GaussianNoise(SIGMA)
    found = fit_noise(given, [Frames(noisy)]).model
    assert isinstance(found, LineNoise)
    assert found.base is given
    assert fit_noise(found, [Frames(noisy)]).model is found
    assert fit_noise(given, [Frames(white)]).model is given


def test_a_new_model_of_pixels_leaves_the_lines(mixture_example: MixtureNoise) -> None:
    new = LineNoise(GaussianNoise(SIGMA), 3.0, 4.0).with_innovation(mixture_example)
    assert isinstance(new, LineNoise)
    assert (new.base, new.row_std, new.column_std) == (mixture_example, 3.0, 4.0)


@pytest.mark.parametrize("std", [-1.0, np.nan, np.inf])
def test_an_impossible_deviation_is_refused(std: float) -> None:
    with pytest.raises(SettingError, match="columns"):
        LineNoise(GaussianNoise(1.0), 1.0, std)


def test_a_document_gives_the_same_model() -> None:
    model = LineNoise(GaussianNoise(SIGMA), 3.0, 4.0)
    again = from_document(model.document())
    assert again.document() == model.document()
    assert again.describe() == model.describe()


@pytest.fixture(scope="module")
def trained() -> tuple[Denoiser, Image, Image]:
    """A model trained for two steps on images with offsets of rows, and images with and without them."""
    noisy, white = lined(30.0, planes=8)
    denoiser = Denoiser.for_images(noisy, train_settings(max_steps=2, device="cpu", seed=0), "ZYX")
    for _ in denoiser.train_steps():
        pass
    return denoiser, noisy, white


def rows_of(image: NDArray[Any]) -> float:
    """Std of what neighbouring rows differ by, as if they were independent."""
    return float(np.diff(np.median(image, axis=-1), 2, axis=-1).std() / 6**0.5)


def test_results_have_no_offsets(trained: tuple[Denoiser, Image, Image], tmp_path: Path) -> None:
    denoiser, noisy, white = trained
    found, wanted = denoiser.denoise(noisy), denoiser.denoise(white)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.3 * 30
    assert rows_of(found) < 0.1 * 30
    denoiser.save(tmp_path / "lines.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "lines.safetensors", device="cpu").denoise(noisy), found)


def test_tiles_take_the_offsets_of_whole_planes(
    trained: tuple[Denoiser, Image, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, _, _ = trained
    noisy, _ = lined(30.0, planes=1, size=384)
    whole = denoiser.denoise(noisy)
    monkeypatch.setattr(tiling, "WHOLE_BYTES", 320**2 * denoiser.model.pixel_bytes)
    monkeypatch.setattr(tiling, "WHOLE_PIXELS", 320**2)
    tiled = denoiser.denoise(noisy)
    assert not np.array_equal(tiled, whole)
    np.testing.assert_allclose(tiled, whole, atol=5e-3 * np.ptp(whole))


def test_networks_are_trained_and_normalized_without_offsets(trained: tuple[Denoiser, Image, Image]) -> None:
    denoiser, _, white = trained
    plain = Denoiser.for_images(white, train_settings(max_steps=2, device="cpu", seed=0), "ZYX")
    for _ in plain.train_steps():
        pass
    assert denoiser.model.normalization.std == pytest.approx(plain.model.normalization.std, rel=0.03)
    with_offsets, without = (one.provenance.history[-1].neg_elbo for one in (denoiser, plain))
    assert with_offsets == pytest.approx(without, abs=0.05)


def test_training_goes_on_without_offsets_that_earlier_images_did_not_have() -> None:
    noisy, white = lined(30.0)
    first = Denoiser.for_images(white, train_settings(max_steps=2, device="cpu", seed=0), "ZYX")
    again = first.continued(noisy, "ZYX", max_steps=1, device="cpu")
    assert isinstance(again.model.noise, LineNoise)
    assert again.model.noise.base.document() == first.model.noise.document()
    assert not isinstance(first.model.noise, LineNoise)
