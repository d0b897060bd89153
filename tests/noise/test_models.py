"""Noise models have the density they claim, and draw from it."""

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
    HistogramNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    fit_noise,
    from_document,
)
from napari_direct_denoiser.normalization import anscombe

GAIN, OFFSET = 2.0, 100.0
WEIGHT = [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]]


def mixture() -> MixtureNoise:
    return MixtureNoise(torch.tensor(WEIGHT), min_signal=200.0, max_signal=1200.0, min_sigma=4.0)


def histogram(bins: int = 200) -> HistogramNoise:
    """A Gaussian of deviation 12 counts, as PN2V's histogram of signals and noisy values from 0 to 400."""
    edges = np.linspace(0, 400, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    rows = np.diff(stats.norm.cdf(edges[None], centres[:, None], 12.0), axis=1)
    rows[(centres < 80) | (centres > 320)] = 1e-30  # signals that the calibration did not visit
    return HistogramNoise(torch.from_numpy(rows), 0.0, 400.0)


FRAMES = [Frames(simulate(planes=2, size=96).noisy)]
ALL = [GaussianNoise(3.0), PoissonGaussianNoise(100.0, 1000.0, 0.0, skew=1.5), mixture(), histogram()]


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


@pytest.mark.parametrize("skew", [0.8, 1.0, 1.5])
def test_skew_changes_the_third_moment_alone(skew: float) -> None:
    model = PoissonGaussianNoise(GAIN, OFFSET, 1.0, skew)
    _, mean, variance, skewness = moments(model, OFFSET + GAIN * 5, 5.0)
    assert mean == pytest.approx(OFFSET + GAIN * 5, abs=0.02)
    assert variance == pytest.approx(GAIN**2 * 5 + 1, rel=0.02)
    assert skewness * variance**1.5 == pytest.approx(skew * GAIN**3 * 5, rel=0.05)


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("signal", [120.0, 250.0, 1100.0, 3000.0])
def test_variance_is_that_of_the_samples(model: NoiseModel, signal: float) -> None:
    signal = min(signal, 300.0) if isinstance(model, HistogramNoise) else signal  # beyond it there is nothing
    drawn = model.sample(torch.full((200_000,), signal), torch.Generator().manual_seed(2)).double()
    claimed = float(model.variance(torch.tensor([signal])))
    assert float((drawn - signal).square().mean()) == pytest.approx(claimed, rel=0.06)


@pytest.mark.parametrize("model", ALL)
def test_variance_stays_positive_whatever_the_signal(model: NoiseModel) -> None:
    signal = torch.tensor([-3e38, -1e6, -1.0, 0.0, 1.0, 1e3, 1e6, 3e38])
    variance = model.variance(signal)
    assert variance.isfinite().all()
    assert (variance > 0).all()


@pytest.mark.parametrize("model", ALL)
def test_density_and_its_gradient_stay_finite_far_outside(model: NoiseModel) -> None:
    noisy = torch.tensor([-3e38, 0.0, 900.0, 999.0, 1000.0, 5e4, 1e6, 3e38]).repeat(8)
    signal = torch.tensor([-3e38, -1e5, 0.0, 999.0, 1000.0, 3e4, 1e6, 3e38]).repeat_interleave(8).requires_grad_()
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
        (mixture(), 100.0),
        (histogram(), 200.0),
        (histogram(), 150.7),
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


def test_mixture_goes_on_beyond_its_range() -> None:
    """Below, the shape of the noise stays; above, its variance goes on in a straight line."""
    low, end, near, far = mixture().variance(torch.tensor([200.0, 1200.0, 1201.0, 2200.0])).tolist()
    assert mixture().variance(torch.tensor([-500.0])).item() == low
    assert far - end == pytest.approx(1000 * (near - end), rel=0.05)
    assert far > end


def test_histogram_is_the_density_it_was_made_from() -> None:
    noisy, signal = torch.linspace(181, 221, 41), torch.full((41,), 201.0)
    expected = stats.norm.logpdf(noisy.numpy(), 201.0, 12.0)
    np.testing.assert_allclose(histogram().log_prob(noisy, signal).numpy(), expected, atol=0.15)
    assert histogram().signal_range == pytest.approx((81.0, 319.0))


def test_histogram_moves_the_nearest_density_to_signals_that_it_never_saw() -> None:
    drawn = histogram().sample(torch.full((50_000,), 41.0), torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(41.0, abs=1.0)
    assert float(histogram().variance(torch.tensor([41.0]))) == pytest.approx(144, rel=0.1)


@pytest.mark.parametrize("model", [GaussianNoise(5.0), PoissonGaussianNoise(2.0, 100.0, 3.0), mixture()])
def test_stabilised_noise_has_a_deviation_of_one(model: NoiseModel) -> None:
    tolerance = 0.35 if isinstance(model, MixtureNoise) else 0.03  # a line fits the variance of a mixture roughly
    for signal in (300.0, 600.0, 1100.0):
        drawn = model.sample(torch.full((50_000,), signal), torch.Generator().manual_seed(1))
        assert float(anscombe(drawn, *model.linear_variance()).std()) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("model", [*ALL, PoissonGaussianNoise(2.0, 100.0, 3.0)])
def test_document_rebuilds_the_same_density(model: NoiseModel) -> None:
    noisy, signal = torch.linspace(90, 900, 50), torch.linspace(100, 800, 50)
    again = from_document(model.document())
    torch.testing.assert_close(again.log_prob(noisy, signal), model.log_prob(noisy, signal), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "document",
    [{"kind": "cauchy"}, {"kind": "gaussian", "width": 3.0}, {"kind": "mixture", "trained_weight": [[1.0]]}, {}],
)
def test_other_documents_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(ModelFileError):
        from_document(document)


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
    "text", ["", "poisson", "poisson:1,2", "gaussian:x", "cauchy:1", "gaussian:-1", "poisson:0,1,1"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="found"):
        fit_noise(text, FRAMES)
