"""Clipped, saturated and coarse pixels: their probabilities, gradients and samples, and when they are found."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import (
    ClippedNoise,
    GaussianNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    RecordedNoise,
    StudentNoise,
    fit_noise,
    from_document,
)

BASES: list[NoiseModel] = [
    GaussianNoise(7.0),
    PoissonGaussianNoise(5.0, 3.0, 2.0),
    PoissonGaussianNoise(20.0, 3.0, 1.0, skew=1.5),
    MixtureNoise(torch.tensor([[0.1], [-0.2], [2.0], [3.0], [0.5], [0.0]]), 0.0, 300.0, 4.0),
]
ELECTRONS = [-50.0, -1.0, -0.05, 0.0, 0.013, 0.1, 0.5, 1, 2, 10, 100, 1e3, 1e4, 6e4]
RESIDUALS = [-300.0, -30, -8, -3, -1, -0.3, 0.0, 0.013, 0.3, 1, 3, 8, 12, 30, 300]


@pytest.fixture(params=BASES, ids=lambda model: model.kind)
def base(request: pytest.FixtureRequest) -> NoiseModel:
    model: NoiseModel = request.param
    return model


def levels(model: NoiseModel, signal: float, step: float) -> tuple[Tensor, Tensor]:
    """Values from 0 to 60 that a camera with steps records, and their probabilities."""
    x = torch.arange(0, 61, step, dtype=torch.float64)
    log_prob = model.log_prob(x, torch.full_like(x, signal))
    inside = torch.full_like(x, step)
    inside[0] = inside[-1] = 1.0  # the limits have a probability, not a density
    return x, log_prob.exp() * inside


@pytest.mark.parametrize("step", [0.0, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("signal", [-4.0, 3.5, 12.0, 30.0, 58.0, 90.0])
def test_probabilities_add_up_to_one(base: NoiseModel, signal: float, step: float) -> None:
    model = RecordedNoise(base, 0.0, 60.0, step)
    if step:
        assert float(levels(model, signal, step)[1].sum()) == pytest.approx(
            1, abs=8e-3
        )  # a density, summed over steps that are not coarse
        return
    x = torch.linspace(1e-6, 60 - 1e-6, 60_001, dtype=torch.float64)
    density = torch.trapezoid(model.log_prob(x, torch.full_like(x, signal)).exp(), x)
    limits = torch.tensor([0.0, 60.0], dtype=torch.float64)
    at = model.log_prob(limits, torch.full_like(limits, signal)).exp().sum()
    assert float(density + at) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("signal", [-4.0, 12.0, 58.0])
def test_samples_have_those_frequencies(base: NoiseModel, signal: float) -> None:
    model = RecordedNoise(base, 0.0, 60.0, 4.0)
    drawn = model.sample(torch.full((100_000,), signal), torch.Generator().manual_seed(0)).numpy()
    x, expected = levels(model, signal, 4.0)
    found = np.array([np.mean(drawn == value) for value in x.numpy()])
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - expected.numpy()).max() < 6e-3


def test_a_clipped_gaussian_pixel_has_the_probability_of_all_below() -> None:
    model = RecordedNoise(GaussianNoise(5.0), low=0.0, high=100.0, step=2.0)
    signal, noisy = torch.tensor([3.0, 98.0, 40.0]), torch.tensor([0.0, 100.0, 44.0])
    expected = [stats.norm.logcdf(1, 3, 5), stats.norm.logsf(99, 98, 5), stats.norm.logpdf(44, 40, 5)]
    np.testing.assert_allclose(model.log_prob(noisy, signal).numpy(), expected, atol=1e-5)


def value_and_gradient(model: NoiseModel, noisy: Tensor, signal: Tensor, *, upper: bool) -> tuple[Tensor, Tensor]:
    signal = signal.expand_as(noisy).clone().requires_grad_()
    value = model.log_cdf(noisy, signal, upper=upper)
    value.sum().backward()
    assert signal.grad is not None
    return value.detach().double(), signal.grad.double()


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("read", [0.0, 0.01, 0.1, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("skew", [0.7, 1.0, 1.7])
def test_distribution_function_is_exact_in_single_precision(read: float, skew: float, upper: bool) -> None:
    """Against float64, and its derivative against the density."""
    model = PoissonGaussianNoise(2.0, 100.0, read * 2, skew)
    signal = (100 + 2 * torch.tensor(ELECTRONS))[:, None]
    std = model.variance(signal).sqrt()
    noisy = signal + std * torch.tensor(RESIDUALS)
    single = value_and_gradient(model, noisy, signal, upper=upper)
    value, gradient = value_and_gradient(model, noisy.double(), signal.double(), upper=upper)
    torch.testing.assert_close(single[0], value, rtol=1e-5, atol=1e-5)
    assert float(((single[1] - gradient).abs() / (gradient.abs() + 1 / std)).max()) < 0.02
    step, wide = 1e-5 * std.double(), signal.double().expand_as(noisy)
    ends = [model.log_cdf(noisy.double() + sign * step, wide, upper=upper) for sign in (-1, 1)]
    slope = (ends[1] - ends[0]) / (2 * step) * (-1 if upper else 1)
    expected = (model.log_prob(noisy.double(), wide) - value).exp()
    assert float(((slope - expected).abs() / (expected + 1 / std)).max()) < 1e-3


def test_document_keeps_limits_and_step(base: NoiseModel) -> None:
    model = RecordedNoise(base, low=None, high=255.0, step=0.5)
    again = from_document(json.loads(json.dumps(model.document())))
    assert again.document() == model.document()
    assert "saturated at 255" in again.describe()
    assert "0.5" in again.describe()


def test_noise_that_cannot_be_clipped_and_reversed_limits_are_refused() -> None:
    with pytest.raises(SettingError, match="student"):
        RecordedNoise(StudentNoise(5.0, 6.0), low=0.0)
    with pytest.raises(SettingError, match="low < high"):
        RecordedNoise(GaussianNoise(5.0), low=5.0, high=5.0)


def camera(*, offset: float, gain: float = 2.0, read_noise: float = 12.0) -> NDArray[np.float64]:
    """Counts of a camera before they are clipped and rounded."""
    truth = simulate(planes=6, size=192, seed=2, photons=20.0, offset=0.0, gain=1.0, read_noise=0.0).truth
    rng = np.random.default_rng(0)
    counts: NDArray[np.float64] = offset + gain * rng.poisson(truth) + rng.normal(0, read_noise, truth.shape)
    return counts


def found(image: NDArray[np.generic]) -> NoiseModel:
    return fit_noise("auto", [Frames(image)]).model


def test_nothing_is_found_in_clean_data() -> None:
    for image in (camera(offset=100), np.rint(camera(offset=100)).astype(np.uint16)):
        assert isinstance(found(image), PoissonGaussianNoise)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.35])
def test_clipping_is_found_and_undone_in_the_variance(share: float) -> None:
    image = camera(offset=0)
    offset = -float(np.quantile(image, share))
    model = found(np.rint(image + offset).clip(0).astype(np.uint16))
    assert isinstance(model, ClippedNoise)
    assert (model.low, model.step) == (0.0, 1.0)
    signal = offset + np.array([2.0, 10.0, 40.0])
    expected = 2 * (signal - offset) + 12**2
    np.testing.assert_allclose(model.variance(torch.from_numpy(signal)).numpy(), expected, rtol=0.25)


def test_saturation_alone_changes_nothing() -> None:
    image = np.rint(camera(offset=100))
    assert isinstance(found(np.minimum(image, np.quantile(image, 0.995)).astype(np.uint16)), PoissonGaussianNoise)


def test_coarse_steps_are_found_and_fine_ones_are_not() -> None:
    image = camera(offset=100)
    coarse = found(np.rint(image / 10) * 10)
    assert isinstance(coarse, RecordedNoise)
    assert coarse.step == 10
    exact = found(image).variance(torch.tensor([110.0]))
    assert float(coarse.variance(torch.tensor([110.0]))) == pytest.approx(float(exact), rel=0.1)
    assert isinstance(found(np.rint(image / 4) * 4), PoissonGaussianNoise)
