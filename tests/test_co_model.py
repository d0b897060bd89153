"""Both networks learn what the paper says they learn, and nothing flows from the second to the first."""

from __future__ import annotations

import math

import pytest
import torch

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import PRESETS, HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.noise import GaussianNoise, PoissonGaussianNoise
from napari_direct_denoiser.normalization import Normalization


def normalization(config: ModelConfig) -> Normalization:
    return Normalization(units=config.units, mean=200.0, std=50.0, slope=0.0, intercept=400.0, level=10.0)


def small(loss: str = "l2", units: str = "image") -> CoModel:
    torch.manual_seed(0)
    config = ModelConfig(
        hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
        direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False),
        loss=loss,
        units=units,
    )
    noise = PoissonGaussianNoise(2.0, 100.0, 3.0) if units == "noise" else GaussianNoise(20.0)
    return CoModel(config, noise, normalization(config))


def test_gradient_of_the_direct_denoiser_never_reaches_hdn() -> None:
    model = small()
    noisy = 200 + 50 * torch.randn(2, 1, 16, 16)
    hdn = model.hdn_loss(model.prepare(noisy))
    assert not hdn.sample.requires_grad
    model.direct_loss(model.prepare(noisy), hdn.sample).backward()
    assert all(p.grad is None for p in model.hdn.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.unet.parameters())


def test_gradient_of_hdn_never_reaches_the_direct_denoiser() -> None:
    model = small()
    model.hdn_loss(model.prepare(200 + 50 * torch.randn(2, 1, 16, 16))).loss.backward()
    assert all(p.grad is None for p in model.unet.parameters())


@pytest.mark.parametrize(("loss", "expected"), [("l2", 1.0), ("l1", math.log(2))])
def test_l2_learns_the_mean_and_l1_the_median_of_a_skewed_posterior(loss: str, expected: float) -> None:
    """For one and the same noisy image the drawn clean pixels are exponential: mean 1, median log 2."""
    model = small(loss)
    noisy = 200 + 50 * torch.randn(1, 1, 16, 16)
    optimizer = torch.optim.Adam(model.unet.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 400)
        sample = 200 - 50 * torch.log1p(-torch.rand(8, 1, 16, 16))
        optimizer.zero_grad()
        model.direct_loss(model.prepare(noisy.expand(8, -1, -1, -1)), sample).backward()
        optimizer.step()
    with torch.no_grad():
        predicted = (model.direct(noisy) - 200) / 50
    assert float(predicted.mean()) == pytest.approx(expected, abs=0.05)


def test_elbo_is_the_mean_log_likelihood_plus_kl_per_pixel() -> None:
    model = small().eval()
    noisy = 200 + 50 * torch.randn(3, 1, 16, 16)
    loss = model.hdn_loss(model.prepare(noisy))
    expected = -torch.distributions.Normal(loss.sample, 20.0).log_prob(noisy).mean()
    torch.testing.assert_close(loss.reconstruction, expected)
    torch.testing.assert_close(loss.loss.detach(), loss.reconstruction + loss.kl.sum())


def test_samples_have_image_units_and_their_mean_is_not_one_sample() -> None:
    model = small(units="noise").eval()
    with torch.no_grad():
        encoding = model.encode(torch.full((1, 1, 16, 16), 200.0))
        drawn = model.sample(encoding, [torch.Generator().manual_seed(seed) for seed in range(5)])
    assert drawn.shape == (5, 1, 16, 16)
    assert drawn.dtype == torch.float32
    assert abs(float(drawn.mean()) - 200) < 500
    assert float(drawn.std(0).min()) > 0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_buildable_and_see_the_sides_that_they_promise(name: str) -> None:
    model = CoModel(PRESETS[name].model, GaussianNoise(20.0), normalization(PRESETS[name].model)).eval()
    side = model.multiple
    with torch.no_grad():
        assert model.direct(torch.full((1, 1, side, 2 * side), 200.0)).shape == (1, 1, side, 2 * side)
        drawn = model.sample(model.encode(torch.full((1, 1, side, side), 200.0)), [torch.Generator()] * 2)
        assert drawn.shape == (2, 1, side, side)
    assert model.halo % side == 0
