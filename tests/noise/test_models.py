"""Gaussian and Poisson-Gaussian noise have the density they claim; texts and documents name noise models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import ModelFileError, SettingError
from napari_direct_denoiser.noise import (
    GaussianNoise,
    NoiseModel,
    PoissonGaussianNoise,
    fit_noise,
    from_document,
)

GAIN, OFFSET = 2.0, 100.0
FRAMES = [Frames(simulate(planes=2, size=96).noisy)]


def moments(model: NoiseModel, signal: float, std: float) -> tuple[float, float, float, float]:
    """Integral, mean, variance and skewness of the density at a signal, by summing it over a fine grid."""
    x = torch.linspace(signal - 14 * std, signal + 30 * std, 400_001, dtype=torch.float64)
    density = model.log_prob(x, torch.full_like(x, signal)).exp()
    weight = density * (x[1] - x[0])
    total = float(weight.sum())
    mean = float((weight * x).sum())
    variance = float((weight * (x - mean) ** 2).sum())
    third = float((weight * (x - mean) ** 3).sum())
    return total, mean, variance, third / variance**1.5


@pytest.mark.parametrize("read", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("electrons", [0.2, 0.5, 1.0, 3.0, 10.0, 100.0, 1000.0])
def test_poisson_gaussian_density_has_the_moments_of_poisson_gaussian_noise(electrons: float, read: float) -> None:
    model = PoissonGaussianNoise(GAIN, OFFSET, GAIN * read)
    signal = OFFSET + GAIN * electrons
    variance = GAIN**2 * (electrons + read**2)
    skewness = electrons / (electrons + read**2) ** 1.5
    total, mean, found_variance, found_skewness = moments(model, signal, math.sqrt(variance))
    assert total == pytest.approx(1, abs=2e-3)
    assert mean == pytest.approx(signal, abs=0.01 * math.sqrt(variance))
    assert found_variance == pytest.approx(variance, rel=0.02)
    assert found_skewness == pytest.approx(skewness, abs=0.04 * max(1, skewness))


@pytest.mark.parametrize("skew", [0.8, 1.0, 1.5])
def test_skew_changes_the_third_moment_alone(skew: float) -> None:
    model = PoissonGaussianNoise(GAIN, OFFSET, 1.0, skew)
    _, mean, variance, skewness = moments(model, OFFSET + GAIN * 5, 5.0)
    assert mean == pytest.approx(OFFSET + GAIN * 5, abs=0.02)
    assert variance == pytest.approx(GAIN**2 * 5 + 1, rel=0.02)
    assert skewness * variance**1.5 == pytest.approx(skew * GAIN**3 * 5, rel=0.05)


@pytest.mark.parametrize(("noisy", "gradient"), [(-80.0, -0.0082144), (5.0, 0.00025)])
def test_gradient_with_read_noise_of_many_electrons(noisy: float, gradient: float) -> None:
    """Nearly that of a Gaussian, -82 / 100^2 and 3 / 100^2 beside the change of the variance."""
    signal = torch.tensor([2.0], requires_grad=True)
    PoissonGaussianNoise(1.0, 0.0, 100.0).log_prob(torch.tensor([noisy]), signal).backward()
    assert signal.grad is not None
    assert signal.grad.item() == pytest.approx(gradient, rel=1e-3)


@pytest.mark.parametrize("read", [0.0, 0.3, 3.0, 30.0])
def test_poisson_gaussian_density_is_a_gaussian_and_an_exponentially_modified_one(read: float) -> None:
    """Beside the same density from scipy, with the centre, width and scale that solve the three moments."""
    model = PoissonGaussianNoise(1.0, 0.0, read)
    for electrons in (0.1, 1.0, 20.0, 500.0):
        variance = float(model.variance(torch.tensor([electrons], dtype=torch.float64)))
        light = variance - read**2
        weight = light / (light + 0.2)
        second, third = 2 * weight - weight**2, weight * (6 - 6 * weight + 2 * weight**2)
        b = min((light / third) ** (1 / 3), math.sqrt(0.9 * variance / second))
        tau, centre = math.sqrt(variance - second * b**2), electrons - weight * b
        x = np.linspace(electrons - 6 * math.sqrt(variance), electrons + 12 * math.sqrt(variance), 200)
        expected = np.logaddexp(
            math.log1p(-weight) + stats.norm.logpdf(x, centre, tau),
            math.log(weight) + stats.exponnorm.logpdf(x, b / tau, centre, tau),
        )
        signal = torch.full((200,), electrons, dtype=torch.float64)
        np.testing.assert_allclose(model.log_prob(torch.from_numpy(x), signal).numpy(), expected, atol=1e-8)


def test_gaussian_is_the_normal_distribution() -> None:
    noisy, signal = torch.randn(100), torch.randn(100)
    expected = torch.distributions.Normal(signal, 0.7).log_prob(noisy)
    torch.testing.assert_close(GaussianNoise(0.7).log_prob(noisy, signal), expected)


@pytest.mark.parametrize(
    "document",
    [{"kind": "cauchy"}, {"kind": "gaussian", "width": 3.0}, {"kind": "mixture", "trained_weight": [[1.0]]}, {}],
)
def test_other_documents_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(ModelFileError):
        from_document(document)


@pytest.mark.parametrize(
    ("document", "numbers"),
    [
        ({"kind": "gaussian", "sigma": 3.0}, {"sigma": 3.0}),
        ({"kind": "poisson", "gain": 2.0, "offset": 9.0, "read_noise": 1.0, "skew": 1.5}, {"gain": 2.0, "skew": 1.5}),
        ({"kind": "histogram", "histogram": [[0.9, 0.1], [0.2, 0.8]], "low": 0.0, "high": 4.0}, {"width": 2.0}),
    ],
)
def test_documents_of_version_0_1_load(document: dict[str, object], numbers: dict[str, float]) -> None:
    model = from_document(document)
    assert {name: getattr(model, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [
        ("gaussian:12.5", GaussianNoise, {"sigma": 12.5}),
        ("poisson:2,100,3.5", PoissonGaussianNoise, {"gain": 2.0, "offset": 100.0, "read_noise": 3.5}),
    ],
)
def test_noise_by_numbers(text: str, kind: type[NoiseModel], numbers: dict[str, float]) -> None:
    model = fit_noise(text, FRAMES).model
    assert isinstance(model, kind)
    assert {name: getattr(model, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    "text", ["", "poisson", "poisson:1,2", "gaussian:x", "cauchy:1", "gaussian:-1", "poisson:0,1,1", "mixture:1"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="found"):
        fit_noise(text, FRAMES)
