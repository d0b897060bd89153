"""The standard form of Poisson-Gaussian noise: a Gaussian plus, with some probability, an exponential."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_FAR = 8.0  # for y below -8, Phi(-y) is 1 in Mills' ratio, which overflows not far from there
_SERIES = 50.0  # beyond, the difference of two of Mills' ratios comes from their asymptotic series


class SkewedLogDensity(torch.autograd.Function):
    """Log density at z of N + B E / r, plus log sqrt(2 pi), with the derivatives by v, r and z.

    N is standard normal, E standard exponential, B is 0 with probability v and otherwise 1. The density is
    phi(z) (v + (1 - v) r M(r - z)) with Mills' ratio M(y) = (1 - Phi(y)) / phi(y). With much read noise r is in
    the hundreds, r M(r - z) is close to 1, and its deviation from 1 decides the gradient. Automatic
    differentiation of `log_ndtr` or `erfcx` cancels there in float32. So 1 - y M(y) comes from its asymptotic
    series for large y, and the derivatives are written so that nothing cancels.
    """

    _TAIL = 8.0  # below y = -8 the exponential part is all of the density, and Phi(-y) is 1

    @staticmethod
    def forward(ctx: Any, v: Tensor, r: Tensor, z: Tensor) -> Tensor:
        tail, series = SkewedLogDensity._TAIL, 50.0 if z.dtype == torch.float64 else 8.0
        y = r - z
        in_tail, in_series = y < -tail, y > series
        mills = math.sqrt(math.pi / 2) * torch.special.erfcx(y.clamp(-tail, series) * math.sqrt(0.5))
        x = y.clamp_min(series).square().reciprocal()
        rest = x * (1 - 3 * x * (1 - 5 * x * (1 - 7 * x * (1 - 9 * x * (1 - 11 * x)))))
        rest = torch.where(in_series, rest, 1 - y * mills)  # 1 - y M(y)
        mills = torch.where(in_series, (1 - rest) / y, mills)
        ratio = r * mills
        total = v + (1 - v) * ratio
        weight = (1 - v) / total
        by_v = torch.where(in_series, (r * rest - z) / y, 1 - ratio) / total
        by_r = torch.where(in_tail, y + 1 / r, weight * (mills - r * rest))
        by_z = torch.where(in_tail, -r, weight * r * rest - z)
        ctx.save_for_backward(by_v, by_r, by_z)
        return total.log() + torch.where(in_tail, r * (0.5 * r - z) - 0.5 * tail**2, -0.5 * z * z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_v, by_r, by_z = ctx.saved_tensors
        return gradient * by_v, gradient * by_r, gradient * by_z


def _mills(y: Tensor) -> Tensor:
    mills: Tensor = math.sqrt(math.pi / 2) * torch.special.erfcx(y * math.sqrt(0.5))
    return mills


def skewed_log_cdf(v: Tensor, r: Tensor, z: Tensor, *, upper: bool) -> Tensor:
    """Log probability that N + B E / r is at most z, or above z; see `SkewedLogDensity`.

    Below z = 0 the lower tail phi(z) (M(-z) - (1 - v) M(r - z)) is computed, above it the upper one,
    phi(z) (M(z) + (1 - v) M(r - z)). Each is small there, so that the other is 1 minus it without cancellation.
    """
    a = (-z).clamp_min(0)
    near = a.clamp_max(_SERIES)
    p, q = 1 / a.clamp_min(_SERIES), 1 / (a.clamp_min(_SERIES) + r)
    fall = torch.where(a > _SERIES, r * p * q * (1 - p * p - p * q - q * q), _mills(near) - _mills(near + r))
    lower = torch.log(v * _mills(a) + (1 - v) * fall) - 0.5 * a * a - _LOG_SQRT_2PI

    b = z.clamp_min(0)
    y = (r - b).clamp_min(-_FAR)
    jump = torch.where(r - b > -_FAR, -0.5 * b * b - _LOG_SQRT_2PI + _mills(y).log(), r * (0.5 * r - b))
    beyond = torch.logaddexp(torch.special.log_ndtr(-b), torch.log1p(-v) + jump)
    if upper:
        return torch.where(z > 0, beyond, torch.log1p(-lower.exp()))
    return torch.where(z > 0, torch.log1p(-beyond.exp()), lower)
