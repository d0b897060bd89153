"""Gaussian mixture noise model, in the layout that PPN2V, DivNoising, HDN and CAREamics share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelFileError
from .models import LOG_SQRT_2PI, NoiseModel, bounded, draw_normal, positive


class MixtureNoise(NoiseModel):
    """Mixture of Gaussians whose means, variances and weights are polynomials of the signal.

    The layout is that of the published files (PPN2V, DivNoising, HDN). With n Gaussians, and the
    signal scaled to ``t = (signal - min_signal) / (max_signal - min_signal)``:

    Parameters
    ----------
    trained_weight
        (3 n, coefficients). Rows 0..n-1: means; n..2n-1: logarithms of the coefficients of the
        variances; 2n..3n-1: log-weights. Means are shifted so that the mixture has the mean
        ``signal``.
    min_signal, max_signal
        Range of signals of the calibration, in counts. Below it the shape of the noise is that at
        ``min_signal``; above it that at ``max_signal``, with a variance that goes on in a straight line.
    min_sigma
        Lower bound of the *variances*, in counts^2 (the name is that of the published files).
    """

    kind = "mixture"
    weight: Tensor
    _growth: Tensor

    def __init__(self, trained_weight: Tensor, min_signal: float, max_signal: float, min_sigma: float) -> None:
        super().__init__()
        weight = torch.as_tensor(trained_weight, dtype=torch.float32)
        if weight.ndim != 2 or weight.shape[0] % 3 or 0 in weight.shape or not weight.isfinite().all():
            raise ModelFileError(
                "Expected a mixture of (3 x Gaussians, coefficients) finite numbers, "
                f"found an array of shape {tuple(weight.shape)}: fit the noise model again"
            )
        if not (math.isfinite(min_signal) and math.isfinite(max_signal) and min_signal < max_signal):
            raise ModelFileError(f"Expected min_signal < max_signal, found {min_signal:g} and {max_signal:g}")
        self.register_buffer("weight", weight, persistent=False)
        self.min_signal, self.max_signal = float(min_signal), float(max_signal)
        self.min_sigma = positive("min_sigma", min_sigma)
        self.register_buffer("_growth", torch.zeros(()), persistent=False)
        before, end = self.variance(torch.tensor([0.99, 1.0]) * (max_signal - min_signal) + min_signal)
        self._growth = ((end - before) / (0.01 * end)).clamp_min(0)

    @property
    def signal_range(self) -> tuple[float, float]:
        return self.min_signal, self.max_signal

    @staticmethod
    def shape(weight: Tensor, t: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means less the signal, and variances, (n, *t.shape), at scaled signals ``t``."""
        powers = torch.stack([t**i for i in range(weight.shape[1])])
        means, log_variances, log_weights = weight.chunk(3)
        mean = torch.tensordot(means, powers, 1)
        variance = torch.tensordot(log_variances.exp(), powers, 1).clamp_min(floor)
        log_weight = torch.tensordot(log_weights, powers, 1).log_softmax(0)
        return log_weight, mean - (log_weight.exp() * mean).sum(0), variance

    @staticmethod
    def density(weight: Tensor, t: Tensor, residual: Tensor, floor: float) -> Tensor:
        """Log density of ``residual``, noisy - signal, at scaled signals ``t``."""
        log_weight, mean, variance = MixtureNoise.shape(weight, t, floor)
        return _log_sum(log_weight, residual - mean, variance)

    def _components(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means less the signal, and variances (n, *signal.shape) for each signal."""
        t = (bounded(signal) - self.min_signal) / (self.max_signal - self.min_signal)
        within = t.clamp(0, 1)
        log_weight, mean, variance = self.shape(self.weight, within, self.min_sigma)
        beyond = 1 + self._growth * (t - within).clamp_min(0)  # factor of the variance
        return log_weight, mean * beyond.sqrt(), variance * beyond

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        return _log_sum(log_weight, bounded(noisy) - bounded(signal) - mean, variance)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        u = torch.rand(signal.shape, generator=generator, device=signal.device)
        pick = (log_weight.exp().cumsum(0) < u).sum(0, keepdim=True).clamp_max(len(mean) - 1)
        chosen, spread = mean.gather(0, pick)[0], variance.gather(0, pick)[0].sqrt()
        return signal + chosen + spread * draw_normal(chosen, generator)

    def variance(self, signal: Tensor) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        return (log_weight.exp() * (variance + mean**2)).sum(0)

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "trained_weight": self.weight.tolist(),
            "min_signal": self.min_signal,
            "max_signal": self.max_signal,
            "min_sigma": self.min_sigma,
        }

    def describe(self) -> str:
        count = self.weight.shape[0] // 3
        return f"mixture of {count} Gaussians fitted to signals {self.min_signal:.4g} to {self.max_signal:.4g}"


def _log_sum(log_weight: Tensor, away: Tensor, variance: Tensor) -> Tensor:
    return torch.logsumexp(log_weight - 0.5 * (away**2 / variance + variance.log()) - LOG_SQRT_2PI, 0)
