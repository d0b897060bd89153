"""Clipped pixels are found, and replaced so that dark parts have their true brightness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import (
    ClippedNoise,
    CorrelatedNoise,
    GaussianNoise,
    InterpolatedNoise,
    NoiseFit,
    NoiseModel,
    PoissonGaussianNoise,
    ScaledCorrelatedNoise,
    diagnose,
    fit_noise,
    from_document,
)
from napari_direct_denoiser.noise.wrapped import without_whole_planes

READ_NOISE = 12.0
TRUTH = simulate(planes=6, size=192, seed=2, photons=20.0, offset=0.0, gain=1.0, read_noise=0.0).truth


def recorded(along_x: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Counts of a camera of gain 2, with noise that has this correlation along x, before it clips them."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=TRUTH.shape)
    for column in range(1, noise.shape[2]):
        noise[..., column] *= (1 - along_x**2) ** 0.5
        noise[..., column] += along_x * noise[..., column - 1]
    return np.asarray(np.rint(2 * TRUTH + np.sqrt(4 * TRUTH + READ_NOISE**2) * noise))


def clipped(along_x: float = 0.0, low: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    return recorded(along_x, seed).clip(low).astype(np.float32)


def fitted(images: NDArray[np.generic], noise: str | ClippedNoise = "auto") -> NoiseFit:
    return fit_noise(noise, [Frames(images)])


@pytest.mark.parametrize("signal", [-0.5, 0.0, 0.7, 1.5, 3.0])
def test_the_mean_of_a_flat_plane_is_its_signal(signal: float) -> None:
    """In standard deviations of the noise above the limit."""
    noise = np.random.default_rng(0).normal(size=(1, 256, 256))
    planes = (100 + 20 * (signal + noise)).clip(100).astype(np.float32)
    given = planes.copy()
    found = ClippedNoise(GaussianNoise(20.0), 100.0).measured(planes)[0]
    np.testing.assert_array_equal(planes, given)
    above = planes[0] > 100
    np.testing.assert_array_equal(found[above], planes[0][above])
    assert (found[~above] < 100).all()
    assert found.mean() == pytest.approx(100 + 20 * signal, abs=0.4)


def test_a_black_border_stays_black() -> None:
    planes = 100 + 12 * np.random.default_rng(0).normal(size=(1, 96, 96)).astype(np.float32)
    planes[:, :, :30] = 0
    found = ClippedNoise(GaussianNoise(12.0), 0.0).measured(planes)[0]
    np.testing.assert_array_equal(found[:, :20], 0)
    np.testing.assert_array_equal(found[:, 30:], planes[0][:, 30:])
    assert found.min() > -1.3 * 12  # beside it


def test_parts_of_planes_and_missing_pixels() -> None:
    planes = clipped()
    planes[1, 40:44, 50:60] = np.nan
    found = ClippedNoise(PoissonGaussianNoise(2.0, 0.0, READ_NOISE), 0.0, step=1.0).measured(planes)
    assert (found.shape, found.dtype, len(found)) == (planes.shape, np.float32, len(planes))
    whole = found[1]
    assert np.isnan(whole).sum() == 40
    np.testing.assert_array_equal(found[1, 30:90, 100:], whole[30:90, 100:])
    np.testing.assert_array_equal(found[1, :20], whole[:20])
    np.testing.assert_array_equal(np.rint(whole), whole)


@pytest.mark.parametrize("along_x", [0.0, 0.5])
@pytest.mark.parametrize("low", [0.0, 12.0])
def test_clipping_is_found_beside_any_noise(along_x: float, low: float) -> None:
    fit = fitted(clipped(along_x, low))
    model = fit.model
    assert isinstance(model, ClippedNoise)
    assert (model.low, model.step) == (low, 1.0)
    assert isinstance(model.base, ScaledCorrelatedNoise if along_x else PoissonGaussianNoise)
    signal = torch.tensor([10.0, 20.0, 80.0])
    np.testing.assert_allclose(model.variance(signal), 2 * signal + READ_NOISE**2, rtol=0.3 if low == 0 else 0.6)
    assert f"clipped at {low:g}" in model.describe()
    words = [finding.words for finding in diagnose([Frames(clipped(along_x, low))], fit) if finding.kind == "clipped"]
    assert len(words) == 1
    assert "expected to have been" in words[0]


def test_without_clipping_nothing_is_found() -> None:
    assert not isinstance(fitted(recorded().astype(np.float32)).model, ClippedNoise)
    photons = np.random.default_rng(0).poisson(TRUTH / 20)  # of many pixels none: that is no clipping
    assert not isinstance(fitted(photons.astype(np.float32)).model, ClippedNoise)


def test_a_given_model_stays() -> None:
    numbers = PoissonGaussianNoise(2.0, 0.0, READ_NOISE)
    assert fit_noise(numbers, [Frames(clipped())]).model is numbers
    known = ClippedNoise(numbers, 0.0)
    fit = fitted(clipped(), known)
    assert fit.model is known
    assert fit.variances[0] == pytest.approx(READ_NOISE**2, rel=0.3)


def test_it_is_stored_with_its_base() -> None:
    base = InterpolatedNoise(CorrelatedNoise.of(GaussianNoise(3.0), [[0.4, 0.0, 0.0]]), "checkerboard")
    model = ClippedNoise(base, 7.0, 2.0)
    again = from_document(model.document())
    assert isinstance(again, ClippedNoise)
    assert again.document() == model.document()
    assert without_whole_planes(again).document() == without_whole_planes(base).document()


@pytest.mark.parametrize(("low", "step"), [(float("nan"), 0.0), (0.0, -1.0), (0.0, float("inf"))])
def test_impossible_limits_are_refused(low: float, step: float) -> None:
    with pytest.raises(SettingError, match="finite limit of clipped pixels"):
        ClippedNoise(GaussianNoise(3.0), low, step)


@pytest.mark.parametrize("along_x", [0.0, 0.5])
def test_dark_parts_have_their_true_brightness_in_the_result(along_x: float) -> None:
    """As in images that were not clipped. Otherwise the darkest quarter is a third of the noise too bright."""
    noisy, dark = clipped(along_x), np.less(TRUTH, np.quantile(TRUTH, 0.25))
    settings = TrainSettings(preset="quick", device="cpu")

    def brightness(images: NDArray[np.float32], noise: NoiseModel | None = None) -> float:
        denoiser = Denoiser.for_images(images, settings, axes="TYX", noise=noise)
        return float(denoiser.denoise(images)[dark].mean())

    expected = brightness(recorded(along_x).astype(np.float32))
    assert brightness(noisy) == pytest.approx(expected, abs=0.05 * READ_NOISE)
    model = fitted(noisy).model
    assert isinstance(model, ClippedNoise)
    assert brightness(noisy, model.base) > expected + 0.2 * READ_NOISE
