"""Noise that is scaled after it was correlated: its density, its samples, and how it is told from the other kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from napari_direct_denoiser import fit_calibration
from napari_direct_denoiser.noise import (
    CorrelatedNoise,
    GaussianNoise,
    LineNoise,
    NoiseModel,
    PoissonGaussianNoise,
    ScaledCorrelatedNoise,
    likelier_kind,
)

ALONG_X, PLANE = [[0.5, 0, 0]], [[0.1, 0.2, 0.05], [0.4, 0, 0]]
BOTH = pytest.mark.parametrize("coefficients", [ALONG_X, PLANE], ids=["x", "plane"])
BRIGHT = PoissonGaussianNoise(2.0, 0.0, 3.0, 0.05)
"""Nearly Gaussian noise whose strength depends on the signal."""


def edges(side: int = 256, bright: float = 2000.0) -> Tensor:
    """A signal of dark and bright squares of 8 pixels."""
    cells = torch.rand((side // 8, side // 8), generator=torch.Generator().manual_seed(0)) < 0.5
    return 50 + bright * cells.repeat_interleave(8, 0).repeat_interleave(8, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@BOTH
def test_the_likelihood_is_that_of_a_dense_gaussian(coefficients: list[list[float]]) -> None:
    """Covariance of the process, times the standard deviations of both pixels; no noise is assumed beyond the edge."""
    side, grid = 6, np.array(coefficients)
    process = CorrelatedNoise(GaussianNoise(1.0), coefficients)
    impulses = torch.eye(side**2, dtype=torch.float64).view(-1, side, side)
    at_edge = torch.nn.functional.pad(impulses, (grid.shape[1],) * 4)  # zeros: `whiten` reflects at the edge
    inside = slice(grid.shape[1], -grid.shape[1])
    matrix = process.whiten(at_edge)[:, inside, inside].reshape(side**2, -1).numpy().T
    inverse = np.linalg.inv(matrix)
    model = ScaledCorrelatedNoise(BRIGHT, coefficients)
    rng = np.random.default_rng(0)
    signal = rng.uniform(300, 4000, (side, side))
    std = model.innovation.variance(model.dc_gain * torch.tensor(signal)).sqrt().numpy().ravel()
    dense = stats.multivariate_normal(cov=std[:, None] * (inverse @ inverse.T) * std)
    noisy = signal + dense.rvs(random_state=rng).reshape(signal.shape)
    found = model.log_prob(torch.tensor(noisy), torch.tensor(signal)).sum()
    assert float(found) == pytest.approx(dense.logpdf((noisy - signal).ravel()), abs=0.5)  # it has a little skew


@pytest.mark.parametrize("base", [PoissonGaussianNoise(2.0, 10.0, 1.0, 1.5), GaussianNoise(6.0)])
def test_the_density_of_an_image_of_two_pixels_integrates_to_one(base: NoiseModel) -> None:
    model = ScaledCorrelatedNoise(base, [[0.6, 0, 0]])
    at = torch.linspace(-100, 250, 501, dtype=torch.float64)
    noisy = torch.cartesian_prod(at, at).view(-1, 1, 2)
    density = model.log_prob(noisy, torch.tensor([[40.0, 90.0]])).sum((1, 2)).exp()
    assert float(density.sum() * (at[1] - at[0]) ** 2) == pytest.approx(1, abs=1e-3)


@BOTH
def test_noise_divided_by_its_standard_deviation_is_the_same_everywhere(coefficients: list[list[float]]) -> None:
    """Its variance and correlation are those of the model, also at edges."""
    model, signal = ScaledCorrelatedNoise(BRIGHT, coefficients), edges().repeat(8, 1, 1)
    relative = (model.sample(signal, seeded()) - signal) / model.variance(signal).sqrt()
    assert float(relative.square().mean()) == pytest.approx(1, abs=0.02)
    rising = (signal[..., 1:] > signal[..., :-1]).expand_as(signal[..., 1:])
    products = relative[..., 1:] * relative[..., :-1]
    expected = float(model.autocorrelation(1)[0, 2])
    assert float(products.mean()) == pytest.approx(expected, abs=0.02)
    assert float(products[rising].mean()) == pytest.approx(expected, abs=0.05)


@BOTH
def test_whitened_images_have_the_same_noise_and_density(coefficients: list[list[float]]) -> None:
    model, signal = ScaledCorrelatedNoise(BRIGHT, coefficients), edges(bright=500.0)
    inside = slice(model.reach, -model.reach), slice(model.reach, -model.reach)
    white = model.whiten(signal)
    noisy = model.sample(signal.repeat(8, 1, 1), seeded())
    drawn = model.white_sample(white.repeat(8, 1, 1), seeded(1))
    for first, second in ((model.whiten(noisy), drawn), (noisy, model.color(drawn))):
        variances = [each[:, *inside].var(0) for each in (first, second)]
        low, high = (variances[0] + variances[1]).quantile(torch.tensor([0.3, 0.7]))
        for some in (variances[0] + variances[1] < low, variances[0] + variances[1] > high):
            assert float(variances[0][some].mean()) == pytest.approx(float(variances[1][some].mean()), rel=0.03)
    densities = model.log_prob(noisy, signal), model.white_log_prob(model.whiten(noisy), white)
    difference = (densities[0] - densities[1])[:, *inside]  # the filter that undoes whitening is cut off
    assert abs(float(difference.mean())) < 0.005
    assert float(difference.abs().quantile(0.99)) < 0.1


def test_without_edges_both_kinds_are_the_same() -> None:
    signal = torch.full((64, 64), 300.0)
    usual, scaled = (kind(BRIGHT, PLANE) for kind in (CorrelatedNoise, ScaledCorrelatedNoise))
    noisy = usual.sample(signal, seeded())
    torch.testing.assert_close(scaled.sample(signal, seeded()), noisy)
    inside = slice(8, -8), slice(8, -8)
    torch.testing.assert_close(scaled.log_prob(noisy, signal)[inside], usual.log_prob(noisy, signal)[inside])
    assert scaled.document() == {**usual.document(), "kind": "scaled"}
    assert scaled.variance(signal).equal(usual.variance(signal))


@pytest.mark.parametrize("kind", [CorrelatedNoise, ScaledCorrelatedNoise])
def test_the_likelihood_tells_both_kinds_apart(kind: type[CorrelatedNoise]) -> None:
    true, signal = kind(BRIGHT, ALONG_X), edges()
    noisy = true.sample(signal, seeded())
    for other in (CorrelatedNoise, ScaledCorrelatedNoise):
        assert type(likelier_kind(other(BRIGHT, ALONG_X), [(noisy, signal)])) is kind


@pytest.mark.parametrize("kind", [CorrelatedNoise, ScaledCorrelatedNoise])
def test_a_calibration_finds_the_kind(kind: type[CorrelatedNoise]) -> None:
    signal = edges(128)
    frames = kind.of(PoissonGaussianNoise(2.0, 0.0, 3.0), ALONG_X).sample(signal.repeat(3, 1, 1), seeded())
    fit = fit_calibration(frames.numpy(), signal.numpy())
    assert type(fit.model) is kind
    assert float(fit.model.autocorrelation(1)[0, 2]) == pytest.approx(0.5, abs=0.05)


def test_a_refitted_innovation_and_lines_leave_the_kind() -> None:
    model = LineNoise(ScaledCorrelatedNoise(BRIGHT, ALONG_X), 2.0)
    changed = model.with_innovation(GaussianNoise(3.0))
    assert changed.document()["base"] == ScaledCorrelatedNoise(GaussianNoise(3.0), ALONG_X).document()
    white = model.whiten(edges(64))
    assert model.white_sample(white, seeded()).equal(model.base.white_sample(white, seeded()))
    assert model.white_log_prob(white, white).equal(model.base.white_log_prob(white, white))


@BOTH
def test_the_gradient_is_that_of_finite_differences(coefficients: list[list[float]]) -> None:
    model = ScaledCorrelatedNoise(PoissonGaussianNoise(2.0, 10.0, 3.0), coefficients)
    signal = (60 + 60 * torch.rand(1, 5, 6, dtype=torch.float64, generator=seeded())).requires_grad_()
    noisy = (signal.detach() + 8 * torch.randn(1, 5, 6, generator=seeded())).requires_grad_()
    for density in (model.log_prob, model.white_log_prob):
        assert torch.autograd.gradcheck(density, (noisy, signal), eps=1e-4, atol=1e-5)


def test_density_and_gradient_stay_finite_beside_pixels_far_outside() -> None:
    model = ScaledCorrelatedNoise(PoissonGaussianNoise(2.0, 10.0, 3.0), PLANE)
    noisy = torch.tensor([-3e38, 0.0, 900.0, 1000.0, 5e4, 3e38]).repeat(6, 1)
    signal = torch.tensor([3e38, -1e5, 0.0, 1000.0, 3e4, -3e38])[:, None].repeat(1, 6).requires_grad_()
    for density in (model.log_prob, model.white_log_prob):
        log_prob = density(noisy, signal)
        assert log_prob.isfinite().all()
        (gradient,) = torch.autograd.grad(log_prob.sum(), signal)
        assert gradient.isfinite().all()
