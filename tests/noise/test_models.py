"""Noise models have the density they claim, and draw from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from napari_direct_denoiser.errors import ModelFileError, SettingError
from napari_direct_denoiser.noise import (
    GaussianNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    from_document,
    noise_from_text,
    read_npz,
)

GAIN, OFFSET = 2.0, 100.0
WEIGHT = [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]]


def mixture() -> MixtureNoise:
    return MixtureNoise(torch.tensor(WEIGHT), min_signal=200.0, max_signal=1200.0, min_sigma=4.0)


def moments(model: NoiseModel, signal: float, deviation: float) -> tuple[float, float, float, float]:
    """Integral, mean, variance and skewness of the density at a signal, by summing it over a fine grid."""
    x = torch.linspace(signal - 14 * deviation, signal + 30 * deviation, 400_001, dtype=torch.float64)
    density = model.log_prob(x.float(), torch.full_like(x, signal).float()).double().exp()
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


@pytest.mark.parametrize("model", [GaussianNoise(3.0), PoissonGaussianNoise(100.0, 1000.0, 0.0), mixture()])
def test_density_and_its_gradient_stay_finite_far_outside(model: NoiseModel) -> None:
    noisy = torch.tensor([0.0, 900.0, 999.0, 1000.0, 5e4, 1e6]).repeat(6)
    signal = torch.tensor([-1e5, 0.0, 999.0, 1000.0, 3e4, 1e6]).repeat_interleave(6).requires_grad_()
    log_prob = model.log_prob(noisy, signal)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert signal.grad is not None
    assert signal.grad.isfinite().all()


@pytest.mark.parametrize(
    ("model", "signal"),
    [
        (GaussianNoise(3.0), 50.0),
        (PoissonGaussianNoise(2.0, 100.0, 1.0), 101.0),
        (PoissonGaussianNoise(2.0, 100.0, 1.0), 140.0),
        (mixture(), 500.0),
        (mixture(), 1500.0),
    ],
)
def test_samples_come_from_the_density(model: NoiseModel, signal: float) -> None:
    drawn = model.sample(torch.full((20_000,), signal), torch.Generator().manual_seed(0)).double().numpy()
    x = torch.linspace(float(drawn.min()) - 10, float(drawn.max()) + 10, 20_001, dtype=torch.float64)
    density = model.log_prob(x.float(), torch.full_like(x, signal).float()).double().exp().numpy()
    cumulative = np.cumsum(density) * float(x[1] - x[0])
    assert stats.kstest(drawn, lambda v: np.interp(v, x.numpy(), cumulative)).pvalue > 1e-3


def test_gaussian_is_the_normal_distribution() -> None:
    noisy, signal = torch.randn(100), torch.randn(100)
    expected = torch.distributions.Normal(signal, 0.7).log_prob(noisy)
    torch.testing.assert_close(GaussianNoise(0.7).log_prob(noisy, signal), expected)


def test_mixture_follows_the_published_layout() -> None:
    signal, noisy = 700.0, 730.0
    t = (signal - 200) / 1000
    rows = np.array(WEIGHT)
    mean = rows[:3] @ [1, t]
    variance = np.maximum(np.exp(rows[3:6]) @ [1, t], 4.0)
    weight = np.exp(rows[6:] @ [1, t])
    weight /= weight.sum()
    mean = mean - weight @ mean + signal
    expected = np.log(weight @ stats.norm.pdf(noisy, mean, np.sqrt(variance)))
    found = mixture().log_prob(torch.tensor([noisy]), torch.tensor([signal]))
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert moments(mixture(), signal, 10.0)[1] == pytest.approx(signal, abs=0.1)


@pytest.mark.parametrize("model", [GaussianNoise(5.0), PoissonGaussianNoise(2.0, 100.0, 3.0), mixture()])
def test_stabilised_noise_has_a_deviation_of_one(model: NoiseModel) -> None:
    tolerance = 0.35 if isinstance(model, MixtureNoise) else 0.03  # a line fits the variance of a mixture roughly
    for signal in (300.0, 600.0, 1100.0):
        drawn = model.sample(torch.full((50_000,), signal), torch.Generator().manual_seed(1))
        assert float(model.stabilise(drawn).std()) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("model", [GaussianNoise(5.0), PoissonGaussianNoise(2.0, 100.0, 3.0), mixture()])
def test_document_rebuilds_the_same_density(model: NoiseModel) -> None:
    noisy, signal = torch.linspace(90, 900, 50), torch.linspace(100, 800, 50)
    again = from_document(model.document())
    assert torch.equal(again.log_prob(noisy, signal), model.log_prob(noisy, signal))


def test_reads_published_files_and_refuses_others(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", trained_weight=np.array(WEIGHT), min_signal=[200.0], max_signal=[1200.0], min_sigma=4)
    noisy, signal = torch.tensor([730.0]), torch.tensor([700.0])
    assert torch.equal(read_npz(tmp_path / "a.npz").log_prob(noisy, signal), mixture().log_prob(noisy, signal))
    np.savez(tmp_path / "other.npz", weights=np.array(WEIGHT))
    with pytest.raises(ModelFileError, match=r"lacks trained_weight.*holds weights"):
        read_npz(tmp_path / "other.npz")
    evil = np.array([{"code": print}], dtype=object)
    np.savez(tmp_path / "evil.npz", trained_weight=evil, min_signal=0, max_signal=1, min_sigma=1)
    with pytest.raises(ModelFileError, match="not a readable"):
        read_npz(tmp_path / "evil.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ModelFileError, match="not a readable"):
        read_npz(tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [
        ("gaussian:12.5", GaussianNoise, {"sigma": 12.5}),
        ("poisson:2,100,3.5", PoissonGaussianNoise, {"gain": 2.0, "offset": 100.0, "read_noise": 3.5}),
    ],
)
def test_noise_from_text(text: str, kind: type[NoiseModel], numbers: dict[str, float]) -> None:
    model = noise_from_text(text, [])
    assert isinstance(model, kind)
    assert {name: getattr(model, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    "text", ["", "poisson", "poisson:1,2", "gaussian:x", "cauchy:1", "gaussian:-1", "poisson:0,1,1"]
)
def test_noise_from_text_refuses(text: str) -> None:
    with pytest.raises(SettingError, match="found"):
        noise_from_text(text, [])
