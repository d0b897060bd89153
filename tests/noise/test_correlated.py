"""Samples, density and filters of correlated noise belong together, and bad coefficients are refused in words."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from napari_direct_denoiser import load, train
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import DenoiserError, SettingError
from napari_direct_denoiser.noise import (
    GaussianNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    StudentNoise,
    from_document,
)
from napari_direct_denoiser.noise.correlated import CorrelatedNoise

ALONG_X, ALONG_Y = [[0.5, 0, 0]], [[0.5], [0.0]]
SEPARABLE = [[-0.3, 0.6, 0], [0.5, 0, 0]]  # (1 - 0.5 x) (1 - 0.6 y)
PLANE = [[0.1, 0.2, 0.05], [0.4, 0, 0]]
ALL = pytest.mark.parametrize("coefficients", [ALONG_X, ALONG_Y, SEPARABLE, PLANE], ids=["x", "y", "yx", "plane"])
LAGS = 3


def triangular(coefficients: list[list[float]], side: int) -> NDArray[np.float64]:
    """The matrix A (pixels, pixels) that takes the noise of an image to its innovation."""
    grid = np.array(coefficients)
    rows, columns = grid.shape[0] - 1, grid.shape[1] // 2
    matrix = np.eye(side**2)
    for y, x in np.ndindex(side, side):
        for row, column in np.argwhere(grid):
            above, left = y - rows + row, x - columns + column
            if above >= 0 and 0 <= left < side:
                matrix[y * side + x, above * side + left] -= grid[row, column]
    return matrix


def measured(noise: torch.Tensor) -> NDArray[np.float64]:
    """Autocovariance of noise (planes, rows, columns), (lags + 1, 2 lags + 1)."""
    rows, columns = noise.shape[-2:]
    return np.array(
        [
            [
                (
                    noise[:, : rows - down, max(-right, 0) : columns - max(right, 0)]
                    * noise[:, down:, max(right, 0) : columns - max(-right, 0)]
                ).mean()
                for right in range(-LAGS, LAGS + 1)
            ]
            for down in range(LAGS + 1)
        ]
    )


@ALL
@pytest.mark.parametrize("base", [GaussianNoise(3.0), PoissonGaussianNoise(2.0, 0.0, 3.0)], ids=["gaussian", "poisson"])
def test_samples_have_the_variance_and_the_autocorrelation(coefficients: list[list[float]], base: NoiseModel) -> None:
    model = CorrelatedNoise(base, coefficients)
    noise = model.sample(torch.full((8, 256, 256), 200.0), torch.Generator().manual_seed(0)).double() - 200
    covariance = measured(noise)
    variance = float(model.variance(torch.tensor(200.0)))
    assert covariance[0, LAGS] == pytest.approx(variance, rel=0.02)
    np.testing.assert_allclose(covariance / variance, model.autocorrelation(LAGS), atol=0.02)
    edges = torch.stack([noise[..., 0], noise[..., -1], noise[:, 0], noise[:, -1]])
    np.testing.assert_allclose(edges.square().mean((1, 2)), variance, rtol=0.15)  # it does not begin at the edge


def test_the_autocorrelation_of_known_processes() -> None:
    """Powers of the coefficient along one axis, and their product along both."""
    powers = 0.5 ** np.abs(np.arange(-LAGS, LAGS + 1))
    x, y = (CorrelatedNoise(GaussianNoise(1.0), c).autocorrelation(LAGS) for c in (ALONG_X, ALONG_Y))
    both = CorrelatedNoise(GaussianNoise(1.0), SEPARABLE).autocorrelation(LAGS)
    np.testing.assert_allclose(x[0], powers, atol=1e-5)
    np.testing.assert_allclose(x[1:], 0, atol=1e-5)
    np.testing.assert_allclose(y[:, LAGS], powers[LAGS:], atol=1e-5)
    np.testing.assert_allclose(both, np.outer(0.6 ** np.arange(LAGS + 1), powers), atol=1e-4)
    assert CorrelatedNoise(GaussianNoise(1.0), ALONG_X).energy == pytest.approx(1 / (1 - 0.5**2), rel=0.01)


@ALL
def test_the_likelihood_is_that_of_a_dense_gaussian(coefficients: list[list[float]]) -> None:
    sigma, side = 3.0, 6
    inverse = np.linalg.inv(triangular(coefficients, side))
    dense = stats.multivariate_normal(cov=sigma**2 * inverse @ inverse.T)
    rng = np.random.default_rng(0)
    signal = rng.uniform(50, 200, (2, side, side))
    noisy = signal + rng.normal(0, 5, signal.shape)
    found = CorrelatedNoise(GaussianNoise(sigma), coefficients).log_prob(torch.tensor(noisy), torch.tensor(signal))
    assert found.shape == signal.shape
    expected = dense.logpdf((noisy - signal).reshape(2, -1))
    np.testing.assert_allclose(found.sum((1, 2)), expected, rtol=1e-6)


@pytest.mark.parametrize("base", [PoissonGaussianNoise(2.0, 10.0, 1.0, 1.5), StudentNoise(5.0, 4.0)])
def test_the_density_of_an_image_of_two_pixels_integrates_to_one(base: NoiseModel) -> None:
    model = CorrelatedNoise(base, [[0.6, 0, 0]])
    at = torch.linspace(-100, 250, 501, dtype=torch.float64)
    noisy = torch.cartesian_prod(at, at).view(-1, 1, 2)
    density = model.log_prob(noisy, torch.tensor([[40.0, 70.0]])).sum((1, 2)).exp()
    assert float(density.sum() * (at[1] - at[0]) ** 2) == pytest.approx(1, abs=1e-3)


@ALL
def test_the_innovation_of_samples_has_the_density_of_its_model(coefficients: list[list[float]]) -> None:
    """Shot noise about a signal that changes from pixel to pixel, judged by the mean log density."""
    base = PoissonGaussianNoise(2.0, 0.0, 1.0)
    model = CorrelatedNoise(base, coefficients)
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    signal = 100 + 80 * torch.sin(x / 9) * torch.cos(y / 7)
    own = model.log_prob(model.sample(signal, torch.Generator().manual_seed(0)), signal)[8:, 8:-8]
    clean = model.whiten(signal)
    white = base.log_prob(base.sample(clean, torch.Generator().manual_seed(1)), clean)[8:, 8:-8]
    assert float(own.mean()) == pytest.approx(float(white.mean()), abs=0.02)
    independent = base.log_prob(model.sample(signal, torch.Generator().manual_seed(0)), signal)[8:, 8:-8]
    assert float(own.mean()) > float(independent.mean()) + 0.1


@ALL
def test_whitening_is_undone_and_keeps_a_level(coefficients: list[list[float]]) -> None:
    model = CorrelatedNoise(GaussianNoise(3.0), coefficients)
    image = 1000 * torch.rand(2, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(model.reach, None), slice(model.reach, 64 - model.reach))
    torch.testing.assert_close(model.color(model.whiten(image))[inside], image[inside], rtol=0, atol=4)
    single = model.color(model.whiten(image.float()))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single[inside], image.float()[inside], rtol=0, atol=4)
    for shape in ((32, 32), (3, 1, 1), (5, 3)):
        level = torch.full(shape, 12345.678)
        torch.testing.assert_close(model.color(model.whiten(level)), level, rtol=1e-6, atol=0)
        torch.testing.assert_close(model.whiten(level), model.dc_gain * level, rtol=1e-6, atol=0)


@ALL
def test_whitened_samples_are_independent(coefficients: list[list[float]]) -> None:
    model = CorrelatedNoise(GaussianNoise(3.0), coefficients)
    white = model.whiten(model.sample(torch.zeros(8, 256, 256), torch.Generator().manual_seed(0)).double())
    covariance = measured(white[:, 2:, 2:-2])
    expected = np.zeros_like(covariance)
    expected[0, LAGS] = 9
    np.testing.assert_allclose(covariance, expected, atol=0.1)


@ALL
@pytest.mark.parametrize(
    "noise", [GaussianNoise(4.0), StudentNoise(4.0, 5.0), PoissonGaussianNoise(2.0, 100.0, 3.0, 1.2)]
)
def test_correlating_noise_keeps_its_variance(coefficients: list[list[float]], noise: NoiseModel) -> None:
    model = CorrelatedNoise.of(noise, coefficients)
    signal = torch.tensor([110.0, 120, 200, 1000, 1e5])
    torch.testing.assert_close(model.variance(signal), noise.variance(signal), rtol=2e-3, atol=0)
    assert model.linear_variance() == pytest.approx(noise.linear_variance())
    drawn = model.sample(torch.full((400, 400), 200.0), torch.Generator().manual_seed(0))
    assert float((drawn - 200).square().mean()) == pytest.approx(float(noise.variance(torch.tensor(200.0))), rel=0.05)
    assert model.describe().startswith(noise.describe().split(" counts")[0])


def test_only_noise_whose_numbers_scale_can_be_correlated(mixture_example: MixtureNoise) -> None:
    with pytest.raises(SettingError, match="Expected Gaussian, Poisson-Gaussian or Student-t noise to correlate"):
        CorrelatedNoise.of(mixture_example, ALONG_X)


def test_the_range_of_signals_is_that_of_images(mixture_example: MixtureNoise) -> None:
    """Whitened images, to which the innovation was fitted, are darker."""
    model = CorrelatedNoise(mixture_example, ALONG_X)
    assert model.signal_range == pytest.approx((400, 2400))
    assert CorrelatedNoise(GaussianNoise(1.0), ALONG_X).signal_range is None
    slope, intercept = model.linear_variance()
    signal = torch.linspace(450, 2300, 9)
    ratio = (slope * signal + intercept) / model.variance(signal)
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) < 2  # a line fits this mixture roughly


@pytest.mark.parametrize(
    ("coefficients", "words"),
    [
        (ALONG_X, "correlation of neighbours 0.50 along x"),
        (ALONG_Y, "correlation of neighbours 0.50 along y"),
        (SEPARABLE, "correlation of neighbours 0.50 along x and 0.60 along y"),
        ([[0, 0, 0]], "correlation of neighbours 0"),
    ],
)
def test_the_description_names_the_correlation(coefficients: list[list[float]], words: str) -> None:
    noise = PoissonGaussianNoise(2.0, 100.0, 3.0)
    assert CorrelatedNoise.of(noise, coefficients).describe() == f"{noise.describe()}, {words}"


@ALL
def test_a_document_rebuilds_the_model(coefficients: list[list[float]]) -> None:
    model = CorrelatedNoise(PoissonGaussianNoise(2.0, 100.0, 3.0, 1.2), coefficients)
    again = from_document(json.loads(json.dumps(model.document())))
    assert isinstance(again, CorrelatedNoise)
    assert again.document() == model.document()
    signal = torch.full((20, 20), 300.0)
    noisy = model.sample(signal, torch.Generator().manual_seed(0))
    assert torch.equal(again.sample(signal, torch.Generator().manual_seed(0)), noisy)
    assert torch.equal(again.log_prob(noisy, signal), model.log_prob(noisy, signal))


def test_a_model_file_keeps_correlated_noise(tmp_path: Path) -> None:
    images = simulate(planes=2, size=64)
    noise = CorrelatedNoise.of(PoissonGaussianNoise(2.0, 100.0, 3.0), SEPARABLE)
    noisy = noise.sample(torch.from_numpy(images.truth), torch.Generator().manual_seed(0)).numpy()
    trained = train(noisy, noise=noise, max_steps=2, device="cpu")
    trained.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", device="cpu")
    assert loaded.model.noise.document() == trained.model.noise.document()
    assert loaded.model.halo == trained.model.halo
    np.testing.assert_array_equal(loaded.denoise(noisy), trained.denoise(noisy))
    np.testing.assert_array_equal(loaded.sample(noisy[0], 2, seed=1), trained.sample(noisy[0], 2, seed=1))


@pytest.mark.parametrize(
    ("coefficients", "words"),
    [
        ([[1.2, 0, 0]], "add up to 1.2 is not stable"),
        ([[1.0, 0, 0]], "add up to 1 is not stable"),
        ([[-1.1, 0, 0]], "add up to -1.1 is not stable"),
        ([[1.1], [0.0]], "add up to 1.1 is not stable"),
        ([[0.5, 0.2, 0.5], [0.3, 0, 0]], "add up to 1.5 is not stable"),
        ([[0.99, 0, 0]], "farther than 64 pixels"),
        ([0.5, 0, 0], r"found shape \(3,\)"),
        ([[0.5, 0]], r"found shape \(1, 2\)"),
        ([[[0.5, 0, 0]]], r"found shape \(1, 1, 3\)"),
        ([[0.5, 0], [0.5]], "Expected coefficients of correlated noise as"),
        ([], "Expected coefficients of correlated noise as"),
        ("many", "Expected coefficients of correlated noise as"),
        (None, "Expected coefficients of correlated noise as"),
        (np.zeros((18, 1)), r"up to 16 rows and columns, found shape \(18, 1\)"),
        ([[math.nan, 0, 0]], "Expected finite coefficients"),
        ([[math.inf, 0, 0]], "Expected finite coefficients"),
        ([[0.5, 0.1, 0]], "0 for the pixel itself and those after it"),
        ([[0.5, 0, 0.1]], "0 for the pixel itself and those after it"),
    ],
)
def test_bad_coefficients_are_refused_in_words(coefficients: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        CorrelatedNoise(GaussianNoise(1.0), coefficients)
    document = {"kind": "correlated", "innovation": {"kind": "gaussian", "sigma": 1.0}, "coefficients": coefficients}
    with pytest.raises(DenoiserError, match=words):
        from_document(document)


def test_correlated_noise_is_no_innovation() -> None:
    inner = CorrelatedNoise(GaussianNoise(1.0), ALONG_X)
    with pytest.raises(SettingError, match=re.escape("found correlated noise: give its innovation")):
        CorrelatedNoise(inner, ALONG_Y)
    with pytest.raises(SettingError, match="found correlated noise"):
        CorrelatedNoise(inner.document(), ALONG_Y)


@ALL
def test_the_gradient_is_that_of_finite_differences(coefficients: list[list[float]]) -> None:
    model = CorrelatedNoise(PoissonGaussianNoise(2.0, 10.0, 3.0), coefficients)
    generator = torch.Generator().manual_seed(0)
    signal = (60 + 60 * torch.rand(1, 5, 6, dtype=torch.float64, generator=generator)).requires_grad_()
    noisy = (signal.detach() + 8 * torch.randn(1, 5, 6, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(model.log_prob, (noisy, signal), eps=1e-4, atol=1e-6)


@ALL
def test_density_and_gradient_stay_finite_beside_pixels_far_outside(coefficients: list[list[float]]) -> None:
    model = CorrelatedNoise(PoissonGaussianNoise(2.0, 10.0, 3.0), coefficients)
    noisy = torch.tensor([-3e38, 0.0, 900.0, 1000.0, 5e4, 3e38]).repeat(6, 1)
    signal = torch.tensor([3e38, -1e5, 0.0, 1000.0, 3e4, -3e38])[:, None].repeat(1, 6).requires_grad_()
    log_prob = model.log_prob(noisy, signal)
    assert log_prob.isfinite().all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), signal)
    assert gradient.isfinite().all()
