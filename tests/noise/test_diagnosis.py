"""What is unusual about an image is said with its number, and nothing is said of an ordinary one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import (
    CorrelatedNoise,
    Finding,
    GaussianNoise,
    NoiseFit,
    NoiseModel,
    diagnose,
    fit_noise,
)
from napari_direct_denoiser.noise.fit import Autocorrelation


def findings(stack: NDArray[np.generic], noise: str | NoiseModel = "auto") -> dict[str, Finding]:
    frames = [Frames(stack)]
    return {finding.kind: finding for finding in diagnose(frames, fit_noise(noise, frames))}


@pytest.fixture(scope="module")
def ordinary() -> NDArray[np.uint16]:
    return simulate(planes=6, size=192, seed=2, photons=20.0).noisy.astype(np.uint16)


def test_an_ordinary_image_raises_nothing(ordinary) -> None:
    assert findings(ordinary) == {}


def test_pixels_that_are_not_finite_change_no_finding(ordinary) -> None:
    columns = ordinary + np.random.default_rng(0).normal(0, 3, 192)
    for image, values, expected in (
        (ordinary, (np.nan, np.inf, 1e300), set()),
        (columns, (np.nan, 1e300), {"correlated", "fixed pattern"}),
        (ordinary // 8 * 8, (np.inf,), {"quantised"}),
    ):
        assert set(findings(image)) == expected
        for value in values:
            damaged = image.astype(np.float64)
            damaged.flat[np.random.default_rng(1).integers(0, image.size, 300)] = value
            damaged[:, :20] = value
            assert set(findings(damaged)) == expected, value


def test_an_image_without_a_finite_pixel_has_no_findings() -> None:
    nothing = [Frames(np.full((2, 64, 64), np.nan))]
    assert diagnose(nothing, NoiseFit.without_evidence(GaussianNoise(3.0))) == ()


@pytest.fixture(scope="module")
def shared(ordinary) -> NDArray[np.float64]:
    """An image whose neighbours along x share noise, 0.5."""
    rng = np.random.default_rng(0)
    signal = gaussian_filter(ordinary.astype(float), (0, 3, 3))
    white = rng.normal(0, 8, (*signal.shape[:2], signal.shape[2] + 40))
    noise = np.zeros_like(white)
    for x in range(1, white.shape[2]):
        noise[..., x] = 0.5 * noise[..., x - 1] + white[..., x]
    return np.asarray(signal + noise[..., 40:])


def test_noise_that_neighbours_share_is_said_to_be_modelled(shared) -> None:
    finding = findings(shared)["correlated"]
    assert "along x (correlation 0." in finding.words
    assert "y (" not in finding.words
    assert "it is modelled" in finding.words
    assert finding.value == pytest.approx(0.5, abs=0.05)
    assert not finding.suggests_structured
    assert not finding.suggests_auto
    turned = findings(shared.swapaxes(1, 2))["correlated"]
    assert "along y (correlation 0." in turned.words
    assert "x (" not in turned.words


def test_smoothed_images_share_noise_along_both_axes(ordinary) -> None:
    finding = findings(gaussian_filter(ordinary.astype(float), (0, 0.7, 0.7)))["correlated"]
    assert "along x (correlation 0." in finding.words
    assert "and y (0." in finding.words
    assert "it is modelled" in finding.words


def test_a_given_model_that_does_not_know_the_correlation_is_to_be_auto(shared) -> None:
    for noise in ("gaussian:9", CorrelatedNoise(GaussianNoise(9.0), [[0.1, 0.0, 0.0]])):
        finding = findings(shared, noise)["correlated"]
        assert "set the noise to auto" in finding.words
        assert finding.suggests_auto
        assert not finding.suggests_structured
    fits = CorrelatedNoise(GaussianNoise(8.0), [[0.5, 0.0, 0.0]])
    assert "it is modelled" in findings(shared, fits)["correlated"].words


def test_correlated_noise_given_for_white_noise_is_said(ordinary) -> None:
    finding = findings(ordinary, CorrelatedNoise(GaussianNoise(8.0), [[0.5, 0.0, 0.0]]))["correlated"]
    assert "independent from pixel to pixel" in finding.words
    assert finding.suggests_auto


def test_correlation_that_cannot_be_modelled_suggests_structured_noise(shared) -> None:
    """The fit then has a model of independent noise, and the correlation that was found."""
    frames = [Frames(shared)]
    fit = fit_noise("auto", frames)
    assert fit.autocorrelation is not None
    endless = Autocorrelation(np.where(np.arange(7)[:, None] == 0, 1.0, np.zeros((7, 13))), "x")
    (finding,) = [
        finding
        for finding in diagnose(frames, replace(fit, model=GaussianNoise(9.0), autocorrelation=endless))
        if finding.kind == "correlated"
    ]
    assert "Structured noise" in finding.words
    assert finding.suggests_structured


def test_images_too_small_to_measure_the_correlation_are_said(ordinary) -> None:
    small = ordinary[:1, :64, :64]
    assert "too small" in findings(small)["too small"].words
    assert "too small" not in findings(ordinary)


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

    found = findings(tifffile.imread(data_dir / f"{name}.tif")[:20])
    assert ("correlated" in found) == correlated
    if correlated:
        assert found["correlated"].value == pytest.approx(0.41, abs=0.04)
        assert "along x (correlation 0." in found["correlated"].words
        assert "clipped" in found
