"""Student-t read noise is Student's distribution with the standard deviation given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import GaussianNoise, StudentNoise


@pytest.mark.parametrize("nu", [2.5, 5.0, 200.0])
def test_density_is_that_of_scipy(nu: float) -> None:
    residual = torch.linspace(-60, 60, 121, dtype=torch.float64)
    scale = 4.0 * math.sqrt((nu - 2) / nu)
    found = StudentNoise(4.0, nu).log_prob(100 + residual, torch.full_like(residual, 100.0))
    np.testing.assert_allclose(found.numpy(), stats.t.logpdf(residual.numpy(), nu, scale=scale), rtol=1e-9)


def test_many_degrees_of_freedom_are_gaussian() -> None:
    noisy, signal = torch.linspace(-12, 12, 25), torch.zeros(25)
    student, gaussian = (model.log_prob(noisy, signal) for model in (StudentNoise(4.0, 1e6), GaussianNoise(4.0)))
    torch.testing.assert_close(student, gaussian, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("sigma", "nu"), [(0.0, 5.0), (4.0, 2.0), (4.0, float("inf")), (float("nan"), 5.0)])
def test_refuses_numbers_without_a_variance(sigma: float, nu: float) -> None:
    with pytest.raises(SettingError, match="found"):
        StudentNoise(sigma, nu)
