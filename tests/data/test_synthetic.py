from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.evaluation.metrics import psnr


@pytest.fixture(scope="module")
def stack():
    return simulate()


def test_shape_and_kind(stack):
    assert stack.noisy.shape == stack.truth.shape == (8, 256, 256)
    assert stack.noisy.dtype == np.uint16
    assert stack.truth.dtype == np.float32


def test_it_is_low_light(stack):
    figures = [psnr(noisy, truth) for noisy, truth in zip(stack.noisy, stack.truth, strict=True)]
    assert 18 < np.mean(figures) < 20.5
    assert np.ptp(figures) < 4  # fields of one kind


@pytest.mark.parametrize(("gain", "offset", "read_noise"), [(2.0, 100.0, 3.0), (0.5, 400.0, 8.0), (10.0, 50.0, 0.0)])
def test_noise_has_the_moments_of_the_camera(gain, offset, read_noise):
    stack = simulate(4, 256, 1, gain=gain, offset=offset, read_noise=read_noise)
    signal = stack.truth.astype(np.float64) - offset
    residual = stack.noisy - stack.truth.astype(np.float64)
    variance = gain * signal + read_noise**2 + 1 / 12  # and that of rounding
    assert (residual / np.sqrt(variance)).mean() == pytest.approx(0, abs=0.01)
    edges = np.quantile(signal, [0, 0.3, 0.6, 0.9, 0.99, 1])
    for low, high in pairwise(edges):
        bright = (signal >= low) & (signal <= high)
        assert np.mean(residual[bright] ** 2) == pytest.approx(variance[bright].mean(), rel=0.1)
    # Poisson noise is skewed: its third moment is gain^2 * signal
    assert np.mean(residual**3) == pytest.approx(gain**2 * signal.mean(), rel=0.1, abs=0.02 * variance.mean() ** 1.5)


def test_noise_is_white(stack):
    residual = stack.noisy - stack.truth
    for axis in (0, 1, 2):
        shifted = np.roll(residual, 1, axis)
        assert np.mean(residual * shifted) / residual.var() == pytest.approx(0, abs=0.01)


def test_the_scene_is_smooth_and_has_contrast(stack):
    """What denoising lives on: neighbours in the truth are alike, and much of the light is in few pixels."""
    truth = stack.truth - stack.offset
    for axis in (1, 2):
        assert np.diff(truth, axis=axis).std() < 0.4 * truth.std()  # white noise: 1.41
    assert np.quantile(truth, 0.995) > 3.5 * np.median(truth)
    assert truth.min() > 0


def test_photons_scale_the_light():
    dim, bright = simulate(1, 128, photons=2), simulate(1, 128, photons=200)
    np.testing.assert_allclose((bright.truth - 100) / 100, dim.truth - 100, rtol=1e-3)


def test_the_same_seed_gives_the_same_stack():
    first, again, other = simulate(2, 64, 3), simulate(2, 64, 3), simulate(2, 64, 4)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert np.any(first.truth != other.truth)
    assert np.any(first.truth[0] != first.truth[1])
