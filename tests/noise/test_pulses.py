"""Noise of detectors that count photons as pulses of random height, and where it is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import NoiseModel, PoissonGaussianNoise, PulseNoise, fit_noise
from napari_direct_denoiser.normalization import gaussian_blur

GAIN, OFFSET, READ = 20.0, 100.0, 1.5


def drawn(light: float, heights: float, count: int) -> torch.Tensor:
    """Noisy values, pulse by pulse: the sum of a gamma distribution for each of a Poisson number of photons."""
    rng = np.random.default_rng(0)
    scale = GAIN / (heights + 1)
    photons = rng.poisson(light * GAIN / (heights * scale), count)
    heights_of_all = rng.gamma(heights, scale, photons.sum())
    sums = np.bincount(np.repeat(np.arange(count), photons), heights_of_all, count)
    return torch.from_numpy(OFFSET + sums + READ * rng.normal(size=count))


@pytest.mark.parametrize("heights", [1.0, 3.0])
@pytest.mark.parametrize("light", [0.1, 1.0, 20.0])
def test_the_density_is_that_of_pulses(light: float, heights: float) -> None:
    """Compared in bins of equal probability of the drawn values."""
    model = PulseNoise(GAIN, OFFSET, READ, skew=(heights + 2) / (heights + 1))
    values = drawn(light, heights, 200_000)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 41)))
    x = torch.linspace(float(edges[0]) - 10, float(edges[-1]) + 10, 200_001, dtype=torch.float64)
    density = model.log_prob(x, torch.full_like(x, OFFSET + GAIN * light)).exp().numpy()
    cumulative = np.interp(edges, x.numpy(), np.cumsum(density) * float(x[1] - x[0]))
    np.testing.assert_allclose(np.diff(cumulative)[1:-1], 1 / 40, atol=2.5e-3)


def test_bright_pixels_have_the_density_of_poisson_gaussian_noise() -> None:
    signal = torch.tensor([OFFSET + 100 * GAIN])
    for noisy in (signal - 300, signal, signal + 500):
        expected = PoissonGaussianNoise(GAIN, OFFSET, READ, 1.25).log_prob(noisy, signal)
        assert torch.equal(PulseNoise(GAIN, OFFSET, READ, 1.25).log_prob(noisy, signal), expected)


def scene(light: float) -> torch.Tensor:
    """A smooth scene (4, 1, 256, 256) in counts, with that many electrons in the middle."""
    image = gaussian_blur(torch.randn(4, 1, 256, 256, generator=torch.Generator().manual_seed(0)), 12.0)
    return OFFSET + GAIN * light * (1.5 * image / image.std()).exp()


def fitted(noise: NoiseModel, light: float) -> NoiseModel:
    noisy = noise.sample(scene(light), torch.Generator().manual_seed(1))[:, 0].round().numpy()
    return fit_noise("auto", [Frames(noisy.astype(np.float32))]).model


def test_pulses_are_found_where_most_pixels_have_less_than_a_photon() -> None:
    found = fitted(PulseNoise(GAIN, OFFSET, READ, 1.25), 0.3)
    assert isinstance(found, PulseNoise)
    assert found.gain == pytest.approx(GAIN, rel=0.1)
    assert found.offset == pytest.approx(OFFSET, abs=1.0)
    assert found.read_noise < 3.0


def test_elsewhere_noise_is_poisson_gaussian() -> None:
    for noise, light in ((PulseNoise(GAIN, OFFSET, READ, 1.25), 20.0), (PoissonGaussianNoise(GAIN, OFFSET, 30.0), 0.3)):
        assert type(fitted(noise, light)) is PoissonGaussianNoise


def test_simulated_cameras_have_no_pulses() -> None:
    assert type(fit_noise("auto", [Frames(simulate(2, 256, seed=3).noisy)]).model) is PoissonGaussianNoise


def test_real_images_with_and_without(data_dir: Path) -> None:
    kinds = {
        name: type(fit_noise("auto", [Frames(tifffile.imread(data_dir / f"fmd_{name}.tif"))]).model)
        for name in ("confocal_fish", "twophoton_mice")
    }
    assert kinds == {"confocal_fish": PulseNoise, "twophoton_mice": PoissonGaussianNoise}


def test_heights_are_kept_within_what_pulses_can_have() -> None:
    assert [PulseNoise(GAIN, OFFSET, READ, skew).skew for skew in (0.7, 1.25, 3.0)] == [1.05, 1.25, 1.9]
    with pytest.raises(SettingError, match="skew"):
        PulseNoise(GAIN, OFFSET, READ, float("nan"))


def test_read_noise_that_hides_all_pulses_is_refused() -> None:
    with pytest.raises(SettingError, match="read noise of at most 1000 times the gain, found 50000 counts"):
        PulseNoise(GAIN, OFFSET, 50_000.0)
