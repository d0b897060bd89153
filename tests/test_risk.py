"""Stein's estimate: the difference of the errors of two estimates, found without the truth, is the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import CorrelatedNoise, GaussianNoise, NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.normalization import gaussian_blur
from napari_direct_denoiser.risk import Map, Probe, gain

SIGNAL = torch.from_numpy(simulate(planes=3, size=160, seed=3, photons=8.0).truth)[:, None]
COEFFICIENTS = [[0.5, 0.0, 0.0]]
NOISES: dict[str, NoiseModel] = {
    "gaussian": GaussianNoise(6.0),
    "photons": PoissonGaussianNoise(3.0, 92.0, 1.0),
    "skewed": PoissonGaussianNoise(3.0, 92.0, 1.0, skew=1.5),
    "correlated": CorrelatedNoise.of(GaussianNoise(6.0), COEFFICIENTS),
    "correlated photons": CorrelatedNoise.of(PoissonGaussianNoise(2.0, 90.0, 1.0), COEFFICIENTS),
}


def keeping_edges(noisy: Tensor) -> Tensor:
    """A denoiser that is far from linear: fine detail stays where it is strong."""
    base = gaussian_blur(noisy, 2.0)
    detail = gaussian_blur(noisy, 0.7) - base
    return base + detail * torch.sigmoid((detail.abs() - 6.0) / 1.5)


def blur(sigma: float) -> Map:
    return lambda noisy: gaussian_blur(noisy, sigma)


def true_error(estimate: Tensor) -> float:
    return float((estimate - SIGNAL).double().square().mean())


def probe_of(noise: NoiseModel, seed: int, model: NoiseModel | None = None) -> Probe:
    noisy = noise.sample(SIGNAL, torch.Generator().manual_seed(seed))
    return Probe.draw(model or noise, noisy, keeping_edges(noisy))


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
@pytest.mark.parametrize("other", [blur(1.0), blur(3.0), lambda noisy: noisy], ids=["weak", "strong", "noisy"])
def test_the_difference_is_the_true_one_within_its_error(noise: NoiseModel, other: Map) -> None:
    away = []
    for seed in range(3):
        probe = probe_of(noise, seed)
        first, second = probe.respond(keeping_edges), probe.respond(other)
        found = probe.difference(first, second)
        true = true_error(first.estimate) - true_error(second.estimate)
        assert found.error < 0.2 * max(abs(true), true_error(first.estimate))
        away.append((found.difference - true) / found.error)
    assert np.abs(away).max() < 3, away


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_blurs_are_ranked_as_by_the_truth(noise: NoiseModel) -> None:
    sigmas = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
    probe = probe_of(noise, 1)
    responses = [probe.respond(blur(sigma)) for sigma in sigmas]
    estimated = [probe.difference(each, responses[0]).difference for each in responses]
    true = [true_error(each.estimate) for each in responses]
    for one in range(len(sigmas)):
        for two in range(one):
            if abs(10 * math.log10(true[one] / true[two])) > 0.1:
                assert (estimated[one] < estimated[two]) == (true[one] < true[two])


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_the_covariance_of_errors_is_the_true_one_if_the_noise_is_known(noise: NoiseModel) -> None:
    probe = probe_of(noise, 2)
    response = probe.respond(keeping_edges)
    error = (response.estimate - SIGNAL).double()
    tolerance = 0.04 * probe.variance
    assert probe.covariance(response) == pytest.approx(float(error.square().mean()), abs=tolerance)
    right = float((error[..., :-1] * error[..., 1:]).mean())
    assert probe.covariance(response, right=1) == pytest.approx(right, abs=tolerance)


def test_the_covariance_of_errors_shows_a_wrong_noise_model() -> None:
    white, correlated = NOISES["gaussian"], NOISES["correlated"]
    error = 0.12  # of `keeping_edges`, at most, in units of the variance
    for model, expected in ((GaussianNoise(6.0 * 0.7**0.5), 0.3 / 0.7), (GaussianNoise(6.0 * 1.3**0.5), -0.3 / 1.3)):
        probe = probe_of(white, 0, model)
        found = probe.covariance(probe.respond(keeping_edges)) / probe.variance
        assert found == pytest.approx(expected, abs=error)
    probe = probe_of(correlated, 0, white)
    assert probe.covariance(probe.respond(keeping_edges), right=1) / probe.variance > 0.3
    assert abs(probe.covariance(probe.respond(keeping_edges), down=1)) / probe.variance < error


def test_the_gain_is_that_of_the_errors() -> None:
    probe = probe_of(NOISES["photons"], 5)
    first, second = probe.respond(keeping_edges), probe.respond(blur(1.0))
    squared = (first.estimate - SIGNAL).square()
    more, unknown = probe.pixels(second, first)
    found = gain(squared, more, (0.0, unknown))
    true = 10 * math.log10(true_error(second.estimate) / true_error(first.estimate))
    assert found is not None
    assert found.db == pytest.approx(true, abs=3 * found.error_db)
    assert found.error_db < 0.5
    unsure = gain(squared, more, (0.2 * float(squared.mean()), unknown))
    assert unsure is not None
    assert unsure.db == found.db
    assert unsure.error_db > found.error_db
    assert gain(squared, 0 * more) == (0.0, 0.0)
    assert gain(squared, -2 * squared) is None


def test_the_same_seed_draws_the_same_noise() -> None:
    noisy = SIGNAL + 1
    one, same, other = (Probe.draw(NOISES["photons"], noisy, SIGNAL, seed) for seed in (0, 0, 1))
    assert torch.equal(one.noise, same.noise)
    assert not torch.equal(one.noise, other.noise)
