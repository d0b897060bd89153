"""Densities, samples and gradients of any camera, and the KL of both kinds of teachers.

`tests/noise/test_contract.py` has the same for one example of each noise model; here parameters are drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import DIVNOISING, HDN
from torch import Tensor
from torch.distributions import Normal

from napari_direct_denoiser.config import HDNConfig
from napari_direct_denoiser.networks import FlatVAE, LadderVAE, flat_vae, ladder_vae
from napari_direct_denoiser.noise import (
    GaussianNoise,
    HistogramNoise,
    LineNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    RecordedNoise,
    StudentNoise,
)
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.noise.scaled import ScaledCorrelatedNoise

Rng = np.random.Generator
Cases = Callable[[int, int], int]
Tally = Callable[[str, int, int], None]

PUBLISHED = HDNConfig(filters=(8, 8, 8), latent_channels=4, blocks=1, space_to_depth=1, gated=True, dropout=0.2)
TEACHERS = {"hdn": HDN, "published hdn": PUBLISHED, "divnoising": DIVNOISING}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", TEACHERS)
def test_the_kl_is_that_of_monte_carlo(kind: str, cases: Cases, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of log q(z) - log p(z) over latents drawn from the posterior of each level."""
    number, survived, draws = cases(20, 2), 0, 2_000
    seen: list[tuple[Tensor, ...]] = []

    def noted(*moments: Tensor) -> Tensor:
        seen.append(moments)
        return computed(*moments)

    computed = ladder_vae.normal_kl
    for module in (ladder_vae, flat_vae):
        monkeypatch.setattr(module, "normal_kl", noted)
    for case in range(number):
        torch.manual_seed(case)
        config: Any = TEACHERS[kind]
        network = (FlatVAE if kind == "divnoising" else LadderVAE)(config, 1).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        seen.clear()
        with torch.no_grad():
            found = network(torch.randn(2, 1, 16, 16), seeded(case)).kl
        right = []
        for kl, (q_mean, q_log, p_mean, p_log) in zip(found.flip(0), seen, strict=True):  # coarsest level first
            q = Normal(q_mean, (0.5 * q_log).exp())
            p = Normal(torch.zeros(()), torch.ones(())) if kind == "divnoising" else Normal(p_mean, (0.5 * p_log).exp())
            z = q.sample((draws,))
            sums = (q.log_prob(z) - p.log_prob(z)).double().sum((2, 3, 4))  # (draws, planes)
            error = sums.std(0) / draws**0.5
            right.append(bool(((sums.mean(0) - kl).abs() < 5.5 * error + 1e-4 * kl).all()))
        survived += all(right)
    tally(f"KL against Monte Carlo, {kind}", number, survived)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def camera(rng: Rng) -> PoissonGaussianNoise:
    gain = log_uniform(rng, 0.01, 1000)
    read = log_uniform(rng, 0.1, 300) * gain
    return PoissonGaussianNoise(gain, rng.uniform(-1000, 1000), read, rng.choice([0.7, 1.0, 1.5]))


def mixture(rng: Rng) -> MixtureNoise:
    scale = log_uniform(rng, 0.1, 100)
    weight = torch.from_numpy(rng.normal(0, 0.5, (9, 2)))
    weight[:3] *= scale
    weight[3:6] += 2 * math.log(3 * scale)
    return MixtureNoise(weight, 0.0, 100 * scale, scale**2)


def histogram(rng: Rng) -> HistogramNoise:
    bins, width = 100, log_uniform(rng, 0.1, 100)
    places = np.arange(bins)
    std = rng.uniform(3, 8)
    rows = np.exp(-0.5 * ((places - places[:, None]) / std) ** 2) * rng.uniform(0.8, 1.2, (bins, bins))
    return HistogramNoise(torch.from_numpy(rows), 0.0, bins * width)


MODELS: dict[str, Callable[[Rng], NoiseModel]] = {
    "poisson": camera,
    "gaussian": lambda rng: GaussianNoise(log_uniform(rng, 1e-3, 1e4)),
    "student": lambda rng: StudentNoise(log_uniform(rng, 1e-3, 1e4), rng.uniform(6, 50)),
    "mixture": mixture,
    "histogram": histogram,
    "lines": lambda rng: LineNoise(camera(rng), row_std=3.0),
    "recorded": lambda rng: RecordedNoise(GaussianNoise(rng.uniform(3, 30)), low=-200.0, high=200.0),
}


def a_signal(model: NoiseModel, rng: Rng) -> float:
    """A signal (counts) in the range of a model, or of up to 10 000 electrons."""
    if isinstance(model, RecordedNoise):
        return float(rng.uniform(-200, 200))
    if model.signal_range is not None:
        low, high = model.signal_range
        return float(low + rng.uniform(0.2, 0.8) * (high - low))
    pixel = model.base if isinstance(model, LineNoise) else model
    if isinstance(pixel, PoissonGaussianNoise):
        return pixel.offset + pixel.gain * log_uniform(rng, 0.3, 1e4)
    return float(rng.uniform(-100, 100))


def grid_moments(model: NoiseModel, signal: float) -> tuple[float, float, float]:
    """Integral, mean and variance of the density at a signal; pixels at a limit of the camera have probabilities."""
    std = float(model.variance(torch.tensor([signal], dtype=torch.float64))) ** 0.5
    offsets = torch.linspace(-60, 60, 100_001, dtype=torch.float64) * std
    limits = [float(limit) for limit in (getattr(model, "low", None), getattr(model, "high", None)) if limit]
    if isinstance(model, RecordedNoise):
        offsets = torch.linspace(limits[0] + 1e-9, limits[1] - 1e-9, 100_001, dtype=torch.float64) - signal
    else:
        limits = []
    at = torch.full_like(offsets, signal)
    weight = model.log_prob(at + offsets, at).exp() * (offsets[1] - offsets[0])
    if limits:
        ends = torch.tensor(limits, dtype=torch.float64)
        offsets = torch.cat([offsets, ends - signal])
        weight = torch.cat([weight, model.log_prob(ends, torch.full_like(ends, signal)).exp()])
    mean = float((weight * offsets).sum())
    return float(weight.sum()), mean / std, float((weight * (offsets - mean) ** 2).sum()) / std**2


@pytest.mark.parametrize("kind", MODELS)
def test_density_and_samples_have_the_same_moments(kind: str, cases: Cases, tally: Tally) -> None:
    number, survived, drawn = cases(40, 3), 0, 100_000
    for case in range(number):
        rng = np.random.default_rng([8, case])
        model = MODELS[kind](rng)
        signal = a_signal(model, rng)
        variance = float(model.variance(torch.tensor([signal], dtype=torch.float64)))
        total, mean, spread = grid_moments(model, signal)
        away = model.sample(torch.full((drawn,), signal, dtype=torch.float64), seeded(case)) - signal
        away = away / variance**0.5
        squares = (away - mean) ** 2
        right = abs(total - 1) < 2e-3
        right &= abs(float(away.mean()) - mean) < 5.5 * (spread / drawn) ** 0.5 + 2e-3
        right &= abs(float(squares.mean()) - spread) < 6.5 * float(squares.std()) / drawn**0.5 + 2e-3
        if kind not in ("recorded", "histogram"):  # a camera that clips changes them, and so do wide bins
            right &= abs(mean) < 2e-3 and abs(spread - 1) < 1e-2
        survived += bool(right)
    tally(f"density and samples of {kind} noise", number, survived)


def test_correlated_samples_have_their_variance_and_correlation(cases: Cases, tally: Tally) -> None:
    number, survived, side = cases(30, 2), 0, 320
    for case in range(number):
        rng = np.random.default_rng([9, case])
        coefficients = np.zeros((2, 3))
        coefficients.flat[:4] = rng.uniform(-0.15, 0.15, 4)
        base = (camera, MODELS["gaussian"])[case % 2](rng)
        model = (CorrelatedNoise, ScaledCorrelatedNoise)[case // 2 % 2].of(base, coefficients)
        signal = a_signal(base, rng)
        image = torch.full((side, side), signal, dtype=torch.float64)
        noise = (model.sample(image, seeded(case)) - image).numpy()
        variance = float(base.variance(image[:1, :1]))
        right = abs(noise.var() / variance - 1) < 0.06
        right &= abs(noise.mean()) < 0.05 * variance**0.5
        expected = model.autocorrelation(1)
        for down, right_by in ((0, 1), (1, -1), (1, 0), (1, 1)):
            first = noise[: side - down, 1:-1]
            second = noise[down:, 1 + right_by : side - 1 + right_by]
            found = float((first * second).mean()) / noise.var()
            right &= abs(found - expected[down, 1 + right_by]) < 0.04
        survived += bool(right)
    tally("samples of correlated noise", number, survived)


ELECTRONS = torch.tensor([-50.0, -1, -0.05, 0, 0.013, 0.1, 0.5, 1, 2, 10, 100, 1e3, 1e4, 6e4])[:, None]
RESIDUALS = torch.tensor([-300.0, -30, -8, -3, -1, -0.3, 0, 0.013, 0.3, 1, 3, 8, 12, 30, 300])


def gradients(model: NoiseModel, noisy: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    signal = signal.clone().requires_grad_()
    value = model.log_prob(noisy, signal)
    (by_signal,) = torch.autograd.grad(value.sum(), signal)
    return value.detach().double(), by_signal.double()


def test_the_gradient_of_the_likelihood_of_any_camera_is_that_of_float64(cases: Cases, tally: Tally) -> None:
    """Read noise of 0.1 to 300 electrons, gain of 0.01 to 1000: 210 pixels of each camera, some of them clipped."""
    number, survived = cases(3_000, 60), 0
    for case in range(number):
        rng = np.random.default_rng([10, case])
        gain = log_uniform(rng, 0.01, 1000)
        read, skew = log_uniform(rng, 0.1, 300) * gain, float(rng.choice([0.7, 1.0, 1.7]))
        model: NoiseModel = PoissonGaussianNoise(gain, 0.0, read, skew)
        if case % 3 == 0:
            model = RecordedNoise(model, low=0.0, step=float(rng.choice([0.0, gain])))
        signal = (gain * ELECTRONS).expand(-1, len(RESIDUALS))
        std = model.variance(signal).sqrt()
        noisy = signal + std * RESIDUALS
        value, slope = gradients(model, noisy, signal)
        exact, exact_slope = gradients(model, noisy.double(), signal.double())
        near = bool(((value - exact).abs() < 2e-5 * (1 + exact.abs())).all())
        off = (slope - exact_slope).abs() / (exact_slope.abs() + 1 / std.double())
        survived += near and float(off.max()) < 5e-4
    tally("gradients of cameras", number, survived)
