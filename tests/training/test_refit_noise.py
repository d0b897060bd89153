"""A noise model that is refitted to predictions has the noise's own width."""

from __future__ import annotations

import pytest
import torch
from small import QUICK

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.data.patches import Augmentation, PatchSampler
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import (
    CorrelatedNoise,
    GaussianNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
)
from napari_direct_denoiser.noise.correlated import Rows
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.training.refit_noise import blind_pairs, refit_noise


class Keeping(torch.nn.Module):
    """A denoiser that keeps half of each pixel's own noise: half the pixel, half the mean of its neighbours."""

    device = torch.device("cpu")

    def __init__(self, noise: NoiseModel | None = None) -> None:
        super().__init__()
        self.noise = noise or GaussianNoise(1.0)

    def whiten(self, noisy: torch.Tensor, margin: int = 0) -> torch.Tensor:
        white = self.noise.whiten(noisy)
        return white[..., margin:-margin, margin:-margin] if margin else white

    def prepare_white(self, white: torch.Tensor) -> torch.Tensor:
        return white

    def denoise(self, noisy: torch.Tensor) -> torch.Tensor:
        near = torch.nn.functional.avg_pool2d(noisy, 5, 1, 2, count_include_pad=False)
        return 0.5 * noisy + 0.5 * near


def flat_patches(sigma: float) -> PatchSampler:
    noisy = 500 + sigma * torch.randn((4, 128, 128), generator=torch.Generator().manual_seed(0))
    return PatchSampler([noisy.numpy()], 64, seed=0)


def test_the_noise_of_a_pixel_does_not_leak_into_its_prediction() -> None:
    """Seen, a pixel is predicted with half its noise, and the residual is half too small; hidden, it is not."""
    model, sigma = Keeping(), 20.0
    signal, noisy = blind_pairs(model, flat_patches(sigma))  # type: ignore[arg-type]
    patch = flat_patches(sigma).draw(64)
    leaking = float((patch - model.denoise(patch)).std())
    assert leaking < 0.6 * sigma, "this denoiser is to leak, or the test would tell nothing"
    residual = noisy - signal
    own = float(((signal - 500) * (noisy - 500)).mean()) / sigma**2
    assert own == pytest.approx(0, abs=0.01)  # no part of a pixel's noise is in its own prediction
    assert float(residual.std()) == pytest.approx(sigma, rel=0.08)  # a little more: the prediction has noise of its own


def test_of_correlated_noise_the_innovation_is_refitted_and_the_correlation_kept() -> None:
    """From a model of three times the width, in whitened images, where neighbours tell nothing of a hidden pixel."""
    true = CorrelatedNoise(GaussianNoise(20.0), [[0.0, 0.2, 0.0], [0.5, 0.0, 0.0]])
    noisy = true.sample(torch.full((4, 128, 128), 500.0), torch.Generator().manual_seed(0))
    model = Keeping(CorrelatedNoise(GaussianNoise(60.0), true.coefficients))
    found = refit_noise(model, PatchSampler([noisy.numpy()], 64, seed=0, augmentation=Augmentation(transpose=False)))  # type: ignore[arg-type]
    assert isinstance(found, CorrelatedNoise)
    assert (found.coefficients == true.coefficients).all()
    signal = torch.tensor([500.0])
    assert float(found.variance(signal)) == pytest.approx(float(true.variance(signal)), rel=0.2)


@pytest.mark.parametrize("backward", ["even", "odd"])
def test_rows_that_were_scanned_backwards_are_left_out(backward: Rows) -> None:
    """There, whitened noise is less skewed than the innovation."""
    true = CorrelatedNoise(PoissonGaussianNoise(40.0, 0.0, 5.0), [[0.6, 0.0, 0.0]], backward)
    noisy = true.sample(torch.full((4, 128, 128), 200.0), torch.Generator().manual_seed(0))
    patches = PatchSampler([noisy.numpy()], 64, seed=0, augmentation=true.augmentation, row_period=true.row_period)
    _, found = blind_pairs(Keeping(true), patches)  # type: ignore[arg-type]
    white = true.innovation.sample(torch.full((200_000,), 200 * true.dc_gain), torch.Generator().manual_seed(1))

    def skewness(noise: torch.Tensor) -> float:
        centred = noise - noise.mean()
        return float(centred.pow(3).mean() / centred.square().mean() ** 1.5)

    assert skewness(found) == pytest.approx(skewness(white), rel=0.05)


@pytest.mark.slow
def test_training_goes_on_with_the_refined_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "quick", QUICK)
    stack = simulate(planes=4, size=96, seed=1)
    settings = TrainSettings(noise="gaussian:30", refine_noise=True, max_steps=8, device="cpu")
    denoiser = Denoiser.for_images(stack.noisy, settings)
    kinds = [denoiser.model.noise.kind]
    for _ in denoiser.train_steps():
        kinds.append(denoiser.model.noise.kind)
    assert denoiser.provenance.stopped == "finished"
    assert kinds[0] == "gaussian"
    assert kinds[-1] == "mixture"


def test_a_wrong_noise_model_is_mended() -> None:
    """Even an untrained model, which blurs, leads from sixteen times the variance to less than twice."""
    stack = simulate(planes=8, size=128, seed=1, photons=30.0)
    model: CoModel = Denoiser.for_images(stack.noisy, TrainSettings(noise="gaussian:24", device="cpu")).model
    noise = refit_noise(model, PatchSampler([stack.noisy], 64, seed=0))
    assert isinstance(noise, MixtureNoise)
    signal = torch.quantile(torch.from_numpy(stack.truth).flatten()[:100_000], torch.tensor([0.2, 0.5]))
    true = stack.gain * (signal - stack.offset) + stack.read_noise**2
    assert (noise.variance(signal) > 0.8 * true).all()
    assert (noise.variance(signal) < 2 * true).all()
    assert (true < 24**2 / 10).all()
