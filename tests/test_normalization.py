"""In units of the noise all cameras look alike, which is what lets shipped weights fit any image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.checkpoint import start_from_pretrained
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.noise import GaussianNoise, NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.normalization import Normalization, anscombe, gaussian_blur, inverse_anscombe
from napari_direct_denoiser.presets import PRESETS


def electrons() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    return (rng.poisson(6 + 4 * np.sin(x / 6) * np.cos(y / 9)) + rng.normal(0, 0.5, (64, 64))).astype(np.float32)[None]


def quick(noise: NoiseModel, stack: np.ndarray) -> CoModel:
    model = CoModel(PRESETS["quick"].model, noise, Normalization.of([stack], "noise", noise))
    start_from_pretrained(model)
    return model.eval()


def test_scaling_is_measured_in_image_units() -> None:
    stack = (300 + 40 * torch.randn(8, 160, 160, generator=torch.Generator().manual_seed(0))).numpy()
    found = Normalization.of([stack], "noise", GaussianNoise(20.0))
    assert found.mean == pytest.approx(300, abs=1)
    assert found.std == pytest.approx(40, rel=0.02)
    assert found.level == pytest.approx(300 / 20, abs=0.1)
    assert found.unit == pytest.approx(20)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -190.0), (98.0, -98_000.0), (0.0, 25.0)])
def test_destabilising_undoes_stabilising_wherever_there_is_light(slope: float, intercept: float) -> None:
    dark = -intercept / slope if slope else 0.0
    signal = dark + torch.linspace(0, 50, 101) * (slope or 1)
    there = anscombe(signal, slope, intercept)
    torch.testing.assert_close(inverse_anscombe(there, slope, intercept), signal, rtol=1e-4, atol=1e-2)
    below = inverse_anscombe(there.min() - torch.linspace(0, 20, 50), slope, intercept)
    assert (below.diff() < 0).all()  # the darker, the darker: HDN always finds its way back to light


def test_the_same_electrons_through_another_camera_give_the_same_result() -> None:
    results = []
    for gain, offset in ((1.0, 0.0), (50.0, 1000.0)):
        noise, stack = PoissonGaussianNoise(gain, offset, 0.5 * gain), offset + gain * electrons()
        model, noisy = quick(noise, stack), torch.from_numpy(stack[None])
        with torch.no_grad():
            drawn = model.sample(model.encode(noisy), [torch.Generator().manual_seed(0)])
            results.append([(image - offset) / gain for image in (model.direct(noisy), drawn)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02)


def test_an_untrained_direct_denoiser_is_a_gaussian_blur() -> None:
    noisy = torch.from_numpy(100 + 2 * electrons()[None])
    noise = PoissonGaussianNoise(2.0, 100.0, 1.0)
    model = CoModel(PRESETS["quick"].model, noise, Normalization.of([noisy[0].numpy()], "noise", noise))
    with torch.no_grad():
        torch.testing.assert_close(model.direct(noisy), gaussian_blur(noisy, 2.0))


def test_shipped_weights_remove_noise_before_any_training() -> None:
    clean = torch.from_numpy(100 + 2 * (6 + 4 * np.sin(np.arange(128) / 6) * np.ones((128, 1)))).float()[None, None]
    noise = PoissonGaussianNoise(2.0, 100.0, 1.0)
    noisy = noise.sample(clean, torch.Generator().manual_seed(0))
    model = quick(noise, noisy[0].numpy())
    with torch.no_grad():
        samples = model.sample(model.encode(noisy), [torch.Generator().manual_seed(seed) for seed in range(8)])
        errors = [(image - clean).std() / (noisy - clean).std() for image in (model.direct(noisy), samples.mean(0))]
    assert max(errors) < 0.2


def test_images_whose_statistics_overflow_are_refused(rng: np.random.Generator) -> None:
    stack = 1e36 * rng.poisson(100, (1, 80, 280)).astype(np.float32)
    with pytest.raises(ImageError, match="divide them by a constant"):
        Normalization.of([stack], "noise", GaussianNoise(1e-3))
