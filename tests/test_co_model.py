"""Both networks learn what the paper says they learn, and nothing flows from the second to the first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_direct_denoiser.co_model import _MEAN_WEIGHT, CoModel
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.noise import GaussianNoise, PoissonGaussianNoise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.presets import PRESETS

pytestmark = pytest.mark.usefixtures("device")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def normalization(config: ModelConfig) -> Normalization:
    return Normalization(units=config.units, mean=200.0, std=50.0, slope=0.0, intercept=400.0, level=10.0)


def small(loss: str = "l2", units: str = "image", *, std: bool = False) -> CoModel:
    torch.manual_seed(0)
    config = ModelConfig(
        hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
        direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=std),
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


def test_loss_of_the_mean_of_samples_is_its_squared_distance_without_their_variance() -> None:
    model = small(units="noise")
    inputs, unit = model.prepare(200 + 50 * torch.randn(1, 1, 16, 16)), model.normalization.unit
    with torch.no_grad():
        samples = torch.cat([model.hdn_loss(inputs, seeded(seed)).signal for seed in range(600)])
        mean, variance = samples.mean(0, keepdim=True), samples.var(0).mean() / unit**2
        target = mean + 0.5 * variance.sqrt() * unit  # the variance is four times the squared distance
        losses = [float(model.hdn_loss(inputs, seeded(seed), target).of_mean) for seed in range(1000, 1600)]
    error = np.std(losses) / len(losses) ** 0.5
    assert np.mean(losses) / _MEAN_WEIGHT == pytest.approx(0.25 * float(variance), rel=0.2)
    assert error / _MEAN_WEIGHT < 0.1 * float(variance)


def test_gradient_of_the_mean_draws_samples_to_the_target() -> None:
    model = small(units="noise")
    inputs = model.prepare(200 + 50 * torch.randn(4, 1, 16, 16))
    target = model.hdn_loss(inputs, seeded(0)).signal + 40
    optimizer = torch.optim.Adam(model.hdn.parameters(), lr=1e-3)
    losses = list[float]()
    for step in range(60):
        optimizer.zero_grad()
        loss = model.hdn_loss(inputs, seeded(step), target).of_mean
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
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


def test_the_second_head_learns_how_large_the_error_is_where_and_in_counts() -> None:
    """The error is normally distributed, of 2 counts where the image is dark and of 20 where it is bright."""
    model = small(units="noise", std=True)
    expected = torch.full((1, 1, 16, 32), 2.0)
    expected[..., 16:] = 20.0
    noisy = torch.where(expected > 2, 300.0, 100.0)
    inputs = model.prepare(noisy.expand(4, -1, -1, -1))
    head = list(model.unet.std_head.parameters())  # type: ignore[union-attr]
    optimizer = torch.optim.Adam(head)
    with torch.no_grad():
        direct = model.direct(noisy)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 300)
        optimizer.zero_grad()
        model.direct_losses(inputs, direct + expected * torch.randn(4, 1, 16, 32))[1].backward()
        torch.nn.utils.clip_grad_norm_(head, 1.0)
        optimizer.step()
    with torch.no_grad():
        same, std = model.direct_with_std(noisy)
    torch.testing.assert_close(same, direct)
    away = [*range(10), *range(22, 32)]  # from the edge, of which the networks see both sides
    torch.testing.assert_close(std[..., away].mean(2), expected[..., away].mean(2), rtol=0.25, atol=0)


def test_the_predicted_std_is_that_of_correlated_noise_before_training() -> None:
    """0.3 standard deviations of the noise in counts, of which whitening leaves only a part."""
    coefficients = np.array([[0.0, 0.0, 0.0], [0.6, 0.0, 0.0]])
    noise = CorrelatedNoise(GaussianNoise(16.0), coefficients).to(torch.get_default_device())
    model = small(std=True, units="noise")
    model.noise = noise
    model.normalization = normalization(model.config).model_copy(update={"intercept": 256.0})
    with torch.no_grad():
        std = model.direct_with_std(torch.full((1, 1, 32, 32), 200.0))[1]
    torch.testing.assert_close(std, torch.full_like(std, 0.3 * 16 / (1 - 0.6**2) ** 0.5), rtol=1e-3, atol=0)


def test_the_second_head_changes_nothing_that_the_first_one_learns() -> None:
    models = [small(std=std, units="noise") for std in (False, True)]
    noisy = 200 + 50 * torch.randn(2, 1, 16, 16)
    clean = noisy - 5
    for model in models:
        groups = [{"params": group} for group in model.unet.parameter_groups()]
        optimizer = torch.optim.Adam(groups, lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            inputs = model.prepare(noisy)
            sum(model.direct_losses(inputs, clean) if model.has_std else [model.direct_loss(inputs, clean)]).backward()  # type: ignore[union-attr]
            optimizer.step()
    without, both = (model.unet.state_dict() for model in models)
    assert all(torch.equal(value, both[name]) for name, value in without.items())
    assert any(float(value.abs().max()) > 0 for name, value in both.items() if name.startswith("std_head.3"))


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
        drawn = model.sample(encoding, [seeded(seed) for seed in range(5)])
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
        drawn = model.sample(model.encode(torch.full((1, 1, side, side), 200.0)), [seeded(0)] * 2)
        assert drawn.shape == (2, 1, side, side)
    assert model.halo % side == 0
