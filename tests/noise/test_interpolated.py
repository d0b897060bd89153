"""Interpolated pixels of a colour camera are found; measured ones are denoised, and the others interpolated again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter, zoom
from scipy.signal import lfilter

from napari_direct_denoiser import load
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import ImageError, SettingError
from napari_direct_denoiser.evaluation.domain_shift import differences
from napari_direct_denoiser.evaluation.estimated_errors import estimated_errors_steps
from napari_direct_denoiser.noise import (
    GaussianNoise,
    InterpolatedNoise,
    LineNoise,
    PoissonGaussianNoise,
    diagnose,
    fit_noise,
    from_document,
)
from napari_direct_denoiser.noise import colour_camera as cameras
from napari_direct_denoiser.noise.interpolated import CUBIC_OF_FOUR, Lattice, Measured, Pattern, Weights
from napari_direct_denoiser.progress import drain

Image = NDArray[Any]  # (planes, Y, X)
CAMERA = PoissonGaussianNoise(2.0, 100.0, 3.0)
ALL: list[tuple[Pattern, int, int]] = [
    ("checkerboard", 0, 0),
    ("checkerboard", 1, 0),
    *(("quarter", row, column) for row in (0, 1) for column in (0, 1)),
]
PLUS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
PYRAMID = np.outer([1, 2, 1], [1, 2, 1]) / 4


def is_measured(shape: tuple[int, int], pattern: Pattern, row: int, column: int) -> NDArray[np.bool_]:
    y, x = np.indices(shape)
    return (y + x) % 2 == row if pattern == "checkerboard" else (y % 2 == row) & (x % 2 == column)


def colour_camera(images: Image, *pattern: Any) -> Image:
    """Keep the measured pixels, and put the mean of their nearest measured neighbours into the others."""
    kernel = PLUS if pattern[0] == "checkerboard" else PYRAMID
    kept = images * is_measured(images.shape[-2:], *pattern)
    return np.stack([convolve(plane, kernel, mode="mirror") for plane in kept]).astype(np.float32)


def find_pattern(stacks: list[Frames]) -> tuple[Pattern, int, int] | None:
    return cameras.find_pattern(cameras.quietest(stacks), stacks)


def scene(planes: int = 2, size: int = 256) -> tuple[Image, Image]:
    """Truth, as blurred as optics that a colour camera resolves makes it, and counts of all pixels."""
    sharp = simulate(planes, size // 2, seed=3, photons=40.0).truth
    truth = np.stack([gaussian_filter(zoom(plane, 2, order=1), 1.5) for plane in sharp]).astype(np.float32)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, truth.shape) * np.sqrt(2.0 * (truth - 100.0).clip(0) + 9.0)
    return truth, (truth + noise).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (61, 64), (64, 35), (37, 93)])
@pytest.mark.parametrize("pattern", ALL)
def test_what_is_measured_is_restored_and_the_rest_is_interpolated(
    shape: tuple[int, int], pattern: tuple[Pattern, int, int]
) -> None:
    y, x = np.indices(shape)
    smooth = (100 + 20 * np.sin(y / 4) + 10 * np.cos(x / 5 + y / 7)).astype(np.float32)
    model = InterpolatedNoise(CAMERA, *pattern)
    lattice = np.asarray(model.measured(smooth[None])[0])
    restored = model.restored(np.stack([lattice, lattice + 1]), shape)
    kept = is_measured(shape, *pattern)
    np.testing.assert_array_equal(restored[0][kept], smooth[kept])
    np.testing.assert_allclose(restored[0], smooth, atol=6.0)  # at the edge pixels are reflected
    np.testing.assert_allclose(restored[0][4:-4, 4:-4], smooth[4:-4, 4:-4], atol=0.1)
    np.testing.assert_allclose(restored[1] - restored[0], 1, atol=1e-4)
    assert set(np.unique(lattice)) == set(np.unique(smooth[kept]))
    np.testing.assert_array_equal(model.at_measured(smooth[None])[0], lattice)


@pytest.mark.parametrize("pattern", ALL)
def test_neighbours_on_the_lattice_are_neighbours_in_the_image(pattern: tuple[Pattern, int, int]) -> None:
    lattice = Lattice(*pattern, (50, 70))
    y, x = lattice.pixels(*(np.arange(side) for side in lattice.shape))
    squared = np.diff(y, axis=0) ** 2 + np.diff(x, axis=0) ** 2
    assert set(np.unique(squared)) <= {0, 1, 2, 4} - ({4} if pattern[0] == "checkerboard" else {2, 1})
    assert is_measured((50, 70), *pattern)[y, x].all()


@pytest.mark.parametrize("pattern", ALL[1:4])
def test_regions_of_a_plane_are_those_of_the_whole_plane(pattern: tuple[Pattern, int, int]) -> None:
    planes = np.random.default_rng(0).integers(0, 99, (3, 40, 56), dtype=np.uint16)
    measured = Measured(planes, *pattern)
    assert measured[1].shape == measured.shape[1:]
    assert measured[1].dtype == measured.dtype == np.uint16
    np.testing.assert_array_equal(measured[2, 5:20, 9:25], measured[2][5:20, 9:25])
    np.testing.assert_array_equal(measured[-1], measured[2])


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("pattern", ALL)
def test_the_pattern_is_found(pattern: tuple[Pattern, int, int], planes: int) -> None:
    _, counts = scene(planes, 288)
    assert find_pattern([Frames(colour_camera(counts, *pattern))]) == pattern


def test_other_noise_has_no_pattern() -> None:
    _, counts = scene(1, 384)
    smoothed = [gaussian_filter(counts, (0, sigma, sigma)) for sigma in (0.5, 0.7, 1.0)]
    shared = lfilter([1.0], [1.0, -0.6], counts, axis=2)
    for images in (counts, *smoothed, shared, lfilter([1.0], [1.0, -0.6], shared, axis=1)):
        assert find_pattern([Frames(images.astype(np.float32))]) is None


def test_images_that_are_too_small_to_train_on_a_part_of_their_pixels_are_taken_whole() -> None:
    _, counts = scene(8, 128)
    assert find_pattern([Frames(colour_camera(counts, "quarter", 0, 0))]) is None
    assert find_pattern([]) is None


@pytest.mark.parametrize("pattern", [ALL[1], ALL[4]])
def test_auto_finds_the_noise_of_the_measured_pixels(pattern: tuple[Pattern, int, int]) -> None:
    truth, counts = scene(3, 288)
    images = [Frames(colour_camera(counts, *pattern))]
    fit = fit_noise("auto", images)
    assert isinstance(fit.model, InterpolatedNoise)
    assert (fit.model.pattern, fit.model.row, fit.model.column) == pattern
    assert fit.model.reach == 0  # the noise of measured pixels is white here
    measured = np.asarray(Measured(counts - truth, *pattern)[1])
    level = np.asarray(Measured(truth, *pattern)[1])
    for low, high in ((0.1, 0.5), (0.5, 0.9)):
        part = (level > np.quantile(level, low)) & (level < np.quantile(level, high))
        found = fit.model.variance(torch.from_numpy(level[part]))
        assert float(found.mean()) == pytest.approx(float(measured[part].var()), rel=0.15)
    kinds = {finding.kind: finding for finding in diagnose(images, fit)}
    assert "interpolated again" in kinds["interpolated"].words
    assert "correlated" not in kinds
    assert fit_noise(fit.model, images).model is fit.model
    given = GaussianNoise(5.0)
    assert fit_noise(given, images).model is given


def between(image: NDArray[Any], places: list[list[tuple[int, int]]], weights: Weights) -> NDArray[Any]:
    """Interpolate all pixels from those so far away (rows, columns), with a weight for each group of them."""
    moved = [[np.roll(image, place, (-2, -1)) for place in group] for group in places]
    return np.asarray(sum(weight * np.sum(group, 0) for weight, group in zip(weights, moved, strict=True)))


def around(near: tuple[int, int], far: tuple[int, int], other: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """All places that are mirrored and turned from these."""
    return [
        sorted({(a * y, b * x) for y, x in (place, place[::-1]) for a in (-1, 1) for b in (-1, 1)})
        for place in (near, far, other)
    ]


@pytest.mark.parametrize("of_four", [Weights(0.55, -0.19, 0.08), Weights(0.3, -0.05, 0.05)], ids=["sharp", "wide"])
@pytest.mark.parametrize("pattern", [ALL[1], ALL[4]])
def test_pixels_are_interpolated_as_the_camera_does(pattern: tuple[Pattern, int, int], of_four: Weights) -> None:
    truth, counts = scene(2, 288)
    kept, (y, x) = is_measured(counts.shape[-2:], *pattern), np.indices(counts.shape[-2:])
    two = Weights(0.6, -0.1, 0.0)

    def camera(images: Image) -> Image:
        if pattern[0] == "checkerboard":
            return np.where(kept, images, between(images, around((0, 1), (1, 2), (0, 3)), of_four)).astype(np.float32)
        beside = [[(0, -1), (0, 1)], [(0, -3), (0, 3)], [(a, b) for a in (-2, 2) for b in (-1, 1)]]
        below = [[place[::-1] for place in group] for group in beside]
        same = y % 2 == pattern[1], x % 2 == pattern[2]
        found = between(images, around((1, 1), (1, 3), (3, 3)), of_four)
        found = np.where(same[0], between(images, beside, two), found)
        found = np.where(same[1], between(images, below, two), found)
        return np.where(kept, images, found).astype(np.float32)

    noisy, wanted = camera(counts), camera(truth)
    model = fit_noise("auto", [Frames(noisy)]).model
    assert isinstance(model, InterpolatedNoise)
    assert model.of_four == pytest.approx(of_four, abs=0.01)
    if pattern[0] == "quarter":
        assert model.of_two == pytest.approx(two, abs=0.01)
    lattice = np.asarray(model.measured(truth)[0], np.float32)
    inner = slice(8, -8), slice(8, -8)
    np.testing.assert_allclose(model.restored(lattice, truth.shape[-2:])[inner], wanted[0][inner], atol=0.5)
    # the error of an interpolated pixel, and a standard deviation, which has no weights below 0
    error = np.asarray(model.measured(counts - truth)[0], np.float32)
    factor = model.std_factor([error])
    whole = model.restored(error, truth.shape[-2:])[inner]
    assert factor == pytest.approx(whole[~kept[inner]].std() / whole[kept[inner]].std(), rel=0.05)
    std = model.restored(np.abs(error), truth.shape[-2:], factor)
    assert std.min() >= 0
    np.testing.assert_array_equal(std[kept], np.abs(counts - truth)[0][kept])
    even = model.restored(np.ones_like(error), truth.shape[-2:], factor)
    assert even[~kept] == pytest.approx(factor, rel=1e-5)


def test_a_document_gives_the_same_model_and_impossible_ones_are_refused() -> None:
    model = InterpolatedNoise(LineNoise(CAMERA, 3.0), "quarter", 1, 0, (0.25, 0.0, 0.0), (0.5, 0.0, 0.0))
    again = from_document(model.document())
    assert again.document() == model.document()
    assert isinstance(again, InterpolatedNoise)
    assert again.of_two == (0.5, 0.0, 0.0)
    before = {key: value for key, value in model.document().items() if not key.startswith("of_")}
    of_earlier_version = from_document(before)
    assert isinstance(of_earlier_version, InterpolatedNoise)
    assert of_earlier_version.of_four == CUBIC_OF_FOUR
    for weights in ((1.0, 0.0), (0.3, 0.0, 0.0), (np.nan, 0.0, 0.0), (50.0, -24.875, 0.0), "abc", None):
        with pytest.raises(SettingError, match="fit the noise model again"):
            InterpolatedNoise(CAMERA, "quarter", 0, 0, weights)  # type: ignore[arg-type]
    assert "one of four of the pixels" in again.describe()
    for pattern, row, column in (("stripes", 0, 0), ("checkerboard", 0, 1), ("quarter", 2, 0), (["quarter"], 0, 0)):
        with pytest.raises(SettingError, match="correct the noise"):
            InterpolatedNoise(CAMERA, pattern, row, column)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained() -> tuple[Denoiser, Image, Image]:
    """A model trained for two steps on images of a colour camera, the images and their truth."""
    truth, counts = scene(8, 160)
    noisy, truth = (colour_camera(each, "checkerboard", 1, 0) for each in (counts, truth))
    denoiser = Denoiser.for_images(noisy, train_settings(max_steps=2, device="cpu", seed=0), "ZYX")
    assert isinstance(denoiser.model.noise, InterpolatedNoise)
    for _ in denoiser.train_steps():
        pass
    return denoiser, noisy, truth


def test_results_are_whole_images_and_better_than_with_stationary_noise(
    trained: tuple[Denoiser, Image, Image], tmp_path: Path
) -> None:
    denoiser, noisy, truth = trained
    found = denoiser.denoise(noisy)
    assert found.shape == noisy.shape
    stationary = Denoiser.for_images(
        noisy, train_settings(noise="poisson:2,100,3+x:0.5+y:0.5", max_steps=2, device="cpu", seed=0), "ZYX"
    )
    errors = [np.sqrt(np.mean((image - truth) ** 2)) for image in (found, stationary.denoise(noisy), noisy)]
    assert errors[0] < 0.9 * errors[1] < 0.5 * errors[2]
    denoiser.save(tmp_path / "colour.safetensors")
    again = load(tmp_path / "colour.safetensors", device="cpu")
    np.testing.assert_array_equal(again.denoise(noisy), found)
    results = drain(again.denoise_steps(noisy[:2, :99, :60], ["mean", "sample", "sample_std", "std"], samples=3))
    assert {name: image.shape for name, image in results.items()} == {
        "mean": (2, 99, 60),
        "sample": (3, 2, 99, 60),
        "sample_std": (2, 99, 60),
        "std": (2, 99, 60),
    }
    np.testing.assert_allclose(results["mean"], results["sample"].mean(0), atol=0.1)
    assert (results["std"] > 0).all()


def test_it_is_judged_on_the_measured_pixels(trained: tuple[Denoiser, Image, Image]) -> None:
    denoiser, noisy, truth = trained
    direct = denoiser.denoise(noisy)
    errors = drain(estimated_errors_steps(denoiser.model, noisy, direct, [direct + 5.0]))
    assert errors.gain.why is None
    assert errors.gain.gain_db is not None
    assert errors.differences[0].difference == pytest.approx(
        np.mean((direct - truth) ** 2 - (direct + 5.0 - truth) ** 2), rel=0.3
    )
    assert differences(denoiser.model, noisy[:2]) == []


def test_smaller_images_of_the_same_camera_are_refused_for_training_in_words(
    trained: tuple[Denoiser, Image, Image],
) -> None:
    denoiser, noisy, _ = trained
    with pytest.raises(ImageError, match="64"):
        denoiser.continued(noisy[:, :40, :70], "ZYX", max_steps=2)


@pytest.mark.parametrize("captures", [slice(0, 1), slice(3, 4), slice(0, 4)])
def test_real_camera_that_interpolates(data_dir: Path, captures: slice) -> None:
    """Green of a colour camera: the pixels in even places of the checkerboard have the lower variance (200, 330)."""
    images = tifffile.imread(data_dir / "fmd_widefield_bpae_g.tif")[captures]
    assert find_pattern([Frames(images)]) == ("checkerboard", 0, 0)
    lags = fit_noise("auto", [Frames(images)]).autocorrelation
    assert lags is not None
    assert lags.along_x[1] == pytest.approx(0.35, abs=0.06)  # against the truth


@pytest.mark.parametrize(
    "name",
    [
        "convallaria_frame.tif",
        "fmd_confocal_fish.tif",
        "fmd_twophoton_mice.tif",
        "lysosome_clean_8fov_50t.tif",
        "tirf_scmos_20frames.tif",
        "twophoton_row_correlated_20frames.tif",
        "w2s_ch1_noisy.tif",
    ],
)
def test_other_real_images_have_no_pattern(data_dir: Path, name: str) -> None:
    image = tifffile.imread(data_dir / name)
    stack = image.reshape(-1, *image.shape[-2:])
    assert find_pattern([Frames(stack)]) is None
    assert find_pattern([Frames(stack[:1])]) is None
