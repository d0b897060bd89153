"""Corrections of what the networks predict, as a part of the model file; `training.calibrate` finds them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from .config import Config

_MOST_KNOTS = 64


class Curve(NamedTuple):
    """A function that is linear between knots and constant beyond them."""

    knots: tuple[float, ...] = (0.0,)
    """Rising."""
    values: tuple[float, ...] = (1.0,)

    def __call__(self, at: Tensor) -> Tensor:
        """Evaluate in every element of a tensor.

        No tensor is made from numbers, so that this can be exported and recorded.
        """
        found = torch.full_like(at, self.values[0])
        for (low, high), (first, last) in zip(pairwise(self.knots), pairwise(self.values), strict=True):
            share = ((at - low) / (high - low)).clamp(0, 1) if high > low else (at > low).to(at)
            found = found + (last - first) * share
        return found


NO_BIAS = Curve(values=(0.0,))
"""Of a direct prediction that is left as it is."""


class Calibration(Config):
    """What makes the direct prediction unbiased, and predicted standard deviations as large as the errors are."""

    direct: Curve = NO_BIAS
    """What is added to the direct prediction, over itself, counts."""
    signal: Curve = Curve()
    """Factor of the standard deviation of the direct prediction, over that prediction, counts."""
    samples: Curve = Curve()
    """Factor of the standard deviation of posterior samples over their mean, counts. It makes it that of the error of
    the mean of very many."""
    lines: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Standard deviation of what is left of line noise in the direct prediction, counts."""
    unmeasured: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Factor in pixels that a colour camera interpolated from those that it measured."""

    @field_validator("samples", mode="before")
    @classmethod
    def _migrate(cls, found: Any) -> Any:
        """Read a file of version 0.1, which has one factor."""
        return Curve((0.0,), (float(found),)) if isinstance(found, int | float) else found

    @field_validator("direct", "signal", "samples")
    @classmethod
    def _is_a_curve(cls, curve: Curve) -> Curve:
        knots, values = curve
        if not (1 <= len(knots) == len(values) <= _MOST_KNOTS and all(map(math.isfinite, (*knots, *values)))):
            raise PydanticCustomError("curve", "Expected as many finite values as knots")
        if any(left > right for left, right in pairwise(knots)):
            raise PydanticCustomError("curve", "Expected knots that rise")
        return curve

    @field_validator("signal", "samples")
    @classmethod
    def _are_factors(cls, curve: Curve) -> Curve:
        if min(curve.values) < 0:
            raise PydanticCustomError("curve", "Expected factors of at least 0")
        return curve

    def unbiased(self, direct: Tensor) -> Tensor:
        """Correct the bias of the direct prediction (B, 1, H, W), counts."""
        return direct if self.direct == NO_BIAS else direct + self.direct(direct)

    def corrected(self, std: Tensor, direct: Tensor) -> Tensor:
        """Correct the standard deviation that the Direct Denoiser predicts of its error, both (B, 1, H, W) counts."""
        of_pixels = std * self.signal(direct)
        return (of_pixels.square() + self.lines**2).sqrt() if self.lines else of_pixels

    def of_samples(self, std: Tensor, mean: Tensor, count: int) -> Tensor:
        """Make the standard deviation of samples that of the error of their mean, all of one shape, counts.

        The mean of few samples has a part of their variance more: it is that of the mean of very many, which `samples`
        is about, and one over their number. Without a calibration, the standard deviation stays.

        Parameters
        ----------
        std
            Root mean square of the distance of the samples from their mean.
        mean
            Of the samples.
        count
            Number of samples.
        """
        return std * self._of_count(mean, count)

    def undone(self, std: Tensor, mean: Tensor, count: int) -> Tensor:
        """Undo `of_samples`, as far as its factors are not 0."""
        return std / self._of_count(mean, count).clamp_min(torch.finfo(std.dtype).tiny)

    def _of_count(self, mean: Tensor, count: int) -> Tensor:
        if self.samples == Curve() or count < 2:
            return torch.ones_like(mean)
        return ((self.samples(mean).square() + 1 / count) * (count / (count - 1))).sqrt()
