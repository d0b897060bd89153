"""Student-t read noise: the heavy tails of sCMOS cameras, where a few pixels are much noisier than the others."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import SettingError
from .models import NoiseModel, bounded, positive


class StudentNoise(NoiseModel):
    """Additive noise with Student's t distribution, the same at every signal.

    Parameters
    ----------
    sigma
        Standard deviation of the noise, in counts.
    nu
        Degrees of freedom, above 2: the smaller, the heavier the tails. From about 30 on the noise is nearly Gaussian.
    """

    kind = "student"
    form = "SIGMA,NU"

    def __init__(self, sigma: float, nu: float) -> None:
        super().__init__()
        self.sigma = positive("sigma", sigma)
        if not (math.isfinite(nu) and nu > 2):
            raise SettingError(
                f"The nu of the noise model must be above 2, found {nu:g}: below, the variance is infinite"
            )
        self.nu = float(nu)
        self.scale = self.sigma * math.sqrt((self.nu - 2) / self.nu)
        self._log_norm = (
            math.lgamma((self.nu + 1) / 2)
            - math.lgamma(self.nu / 2)
            - 0.5 * math.log(math.pi * self.nu)
            - math.log(self.scale)
        )

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        z = (bounded(noisy) - bounded(signal)) / self.scale
        return self._log_norm - 0.5 * (self.nu + 1) * torch.log1p(z * z / self.nu)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw by the polar method of Bailey (1994), which needs uniform numbers only and so takes a generator."""
        u, angle = (torch.rand(signal.shape, generator=generator, device=signal.device) for _ in range(2))
        radius = (self.nu * torch.expm1(-2 / self.nu * torch.log1p(-u))).sqrt()
        return signal + self.scale * radius * torch.cos(2 * math.pi * angle)

    def variance(self, signal: Tensor) -> Tensor:
        return torch.full_like(bounded(signal), self.sigma**2)

    def linear_variance(self) -> tuple[float, float]:
        return 0.0, self.sigma**2

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "sigma": self.sigma, "nu": self.nu}

    def describe(self) -> str:
        return f"Student-t, sigma {self.sigma:.4g} counts, {self.nu:.3g} degrees of freedom"
