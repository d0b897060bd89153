"""What is unusual about an image is said with its number, and nothing is said of an ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import Finding, GaussianNoise, NoiseFit, diagnose, fit_images


def findings(stack: NDArray[np.generic]) -> dict[str, Finding]:
    frames = [Frames(stack)]
    return {finding.kind: finding for finding in diagnose(frames, fit_images(frames))}


@pytest.fixture(scope="module")
def ordinary() -> NDArray[np.uint16]:
    return simulate(planes=6, size=192, seed=2, photons=20.0).noisy.astype(np.uint16)


def test_an_ordinary_image_raises_nothing(ordinary) -> None:
    assert findings(ordinary) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_pixels_that_are_not_finite_change_no_finding(ordinary, value: float) -> None:
    columns = ordinary + np.random.default_rng(0).normal(0, 3, 192)
    for image, expected in (
        (ordinary, set()),
        (columns, {"correlated", "fixed pattern"}),
        (ordinary // 8 * 8, {"quantised"}),
    ):
        damaged = image.astype(np.float64)
        damaged.flat[np.random.default_rng(1).integers(0, image.size, 300)] = value
        damaged[:, :20] = value
        assert set(findings(damaged)) == set(findings(image)) == expected


def test_an_image_without_a_finite_pixel_has_no_findings() -> None:
    nothing = [Frames(np.full((2, 64, 64), np.nan))]
    assert diagnose(nothing, NoiseFit.without_evidence(GaussianNoise(3.0))) == ()


def lines(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 8, (*shape[:-1], 1)) * np.ones(shape)


def test_lines_are_found_and_suggest_structured_noise(ordinary) -> None:
    along_x = findings(ordinary + lines(ordinary.shape))["correlated"]
    assert along_x.suggests_structured
    assert "along x" in along_x.words
    assert "along y" not in along_x.words
    along_y = findings((ordinary + lines(ordinary.shape)).swapaxes(1, 2))["correlated"]
    assert "along y" in along_y.words
    assert "along x" not in along_y.words


def test_smoothed_images_are_known_as_processed(ordinary) -> None:
    finding = findings(gaussian_filter(ordinary.astype(float), (0, 0.7, 0.7)))["correlated"]
    assert "along x" in finding.words
    assert "along y" in finding.words
    assert "raw data" in finding.words


def test_saturation_is_said_with_level_and_share(ordinary) -> None:
    level = int(np.quantile(ordinary, 0.98))
    finding = findings(np.minimum(ordinary, level))["saturated"]
    assert f"at {level}" in finding.words
    assert finding.value == pytest.approx(np.mean(ordinary >= level), rel=0.3)


def test_clipping_below_is_said(ordinary) -> None:
    level = int(np.quantile(ordinary, 0.2))
    finding = findings(np.maximum(ordinary, level))["clipped"]
    assert f"value, {level}:" in finding.words
    assert finding.value == pytest.approx(np.mean(ordinary <= level), rel=0.3)


def test_rescaled_data_have_gaps(ordinary) -> None:
    finding = findings(ordinary // 8 * 8)["quantised"]
    assert finding.value == 8
    assert "steps of about 8" in finding.words


def test_weak_noise_is_said() -> None:
    rng = np.random.default_rng(0)
    scene = 20_000 * (1 + gaussian_filter(rng.normal(size=(4, 192, 192)), (0, 6, 6)) * 10)
    finding = findings(scene + rng.normal(0, 30, scene.shape))["weak"]
    assert finding.value == pytest.approx(30 / np.ptp(scene), rel=0.8)
    assert "little to gain" in finding.words


def test_hot_pixels_are_counted(ordinary) -> None:
    hot = ordinary.copy()
    hot[:, 10:180:20, 15:180:20] += 300
    assert findings(hot)["hot pixels"].value == 9 * 9


def test_a_fixed_pattern_is_said(ordinary) -> None:
    columns = np.random.default_rng(0).normal(0, 3, 192)
    finding = findings(ordinary + columns)["fixed pattern"]
    assert "columns differ" in finding.words
    assert finding.value == pytest.approx(3, rel=0.4)


@pytest.mark.parametrize(
    ("name", "correlated"),
    [("w2s_ch1_noisy", False), ("tirf_scmos_20frames", False), ("twophoton_row_correlated_20frames", True)],
)
def test_real_images(data_dir, name: str, correlated: bool) -> None:
    import tifffile

    found = findings(tifffile.imread(data_dir / f"{name}.tif"))
    assert ("correlated" in found) == correlated
    if correlated:
        assert found["correlated"].value == pytest.approx(0.41, abs=0.04)
        assert "along x (0." in found["correlated"].words
        assert "clipped" in found
