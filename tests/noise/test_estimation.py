"""The camera is found from its noisy images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.noise import GaussianNoise, PoissonGaussianNoise, estimate_noise
from napari_direct_denoiser.synthetic import simulate


@pytest.mark.parametrize(("gain", "photons"), [(1.0, 50.0), (2.2, 20.0), (40.0, 8.0)])
def test_finds_gain_and_variance_of_a_simulated_camera(gain: float, photons: float) -> None:
    stack = simulate(planes=8, size=256, seed=3, gain=gain, photons=photons, offset=100.0, read_noise=1.5)
    found = estimate_noise([stack.noisy])
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(gain, rel=0.06)
    slope, intercept = found.linear_variance()
    signal = np.percentile(stack.truth, [20, 50, 90])
    variance = gain * (signal - 100) + 1.5**2
    np.testing.assert_allclose(slope * signal + intercept, variance, rtol=0.12)


def test_hot_pixels_do_not_sway_it() -> None:
    stack = simulate(planes=8, size=256, seed=3, gain=2.0)
    hot = stack.noisy.copy()
    y, x = np.random.default_rng(0).integers(0, 256, (2, 100))
    hot[:, y, x] = 20_000
    clean, found = estimate_noise([stack.noisy]), estimate_noise([hot])
    assert isinstance(clean, PoissonGaussianNoise)
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(clean.gain, rel=0.05)


def test_noise_that_does_not_rise_with_the_signal_is_gaussian() -> None:
    y, x = np.mgrid[:256, :256]
    clean = 500 + 200 * np.sin(x / 20) * np.cos(y / 30)
    noisy = clean + np.random.default_rng(0).normal(0, 25, (4, 256, 256))
    found = estimate_noise([noisy])
    assert isinstance(found, GaussianNoise)
    assert found.sigma == pytest.approx(25, rel=0.03)


def test_real_camera_w2s(data_dir) -> None:
    """W2S was scaled so that the noise variance is 100 * (signal - 1000)."""
    import tifffile

    found = estimate_noise([tifffile.imread(data_dir / "w2s_ch1_noisy.tif")])
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(100, rel=0.03)
    assert found.offset == pytest.approx(1000, abs=6)
