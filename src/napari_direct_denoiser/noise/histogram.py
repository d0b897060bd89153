"""Histogram noise model, as Probabilistic Noise2Void (PN2V) makes it from a calibration."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelFileError
from .models import LOG_SQRT_2PI, NoiseModel, bounded, draw_normal

_BROAD = 0.01  # part of the density that is a wide Gaussian: no observation is impossible, every gradient points home


class HistogramNoise(NoiseModel):
    """Densities read off a 2-D histogram of (signal, noisy), interpolated between neighbouring signals.

    Signals that the calibration did not visit take the density of the nearest one that it did,
    moved along with the signal.

    Parameters
    ----------
    histogram
        (bins, bins): rows are signals, columns are noisy values; each visited row sums to 1.
    low, high
        Lower edge of the first bin and upper edge of the last, in counts; the same for both axes.
    """

    kind = "histogram"
    rows: Tensor
    spread: Tensor

    def __init__(self, histogram: Tensor, low: float, high: float) -> None:
        super().__init__()
        rows = torch.as_tensor(histogram, dtype=torch.float32)
        square = rows.ndim == 2 and rows.shape[0] == rows.shape[1] > 1
        if not square or not rows.isfinite().all() or bool((rows < 0).any()) or not low < high:
            raise ModelFileError(
                "Expected a square histogram of at least 2 x 2 parts of 1 and low < high, found shape "
                f"{tuple(rows.shape)} and limits {low:g}, {high:g}: make the noise model again"
            )
        self.low, self.high = float(low), float(high)
        self.width = (self.high - self.low) / len(rows)
        sums = rows.sum(1)
        visited = (sums > 0.5).nonzero()[:, 0]  # rows without data hold 1e-30 or nothing
        if not len(visited):
            raise ModelFileError("Expected a histogram with data, found none: make the noise model again")
        self._range = tuple(self.low + self.width * (float(visited[k]) + 0.5) for k in (0, -1))
        centres = self.low + self.width * (torch.arange(len(rows)) + 0.5)
        nearest = visited[(torch.arange(len(rows))[:, None] - visited).abs().argmin(1)]
        filled = torch.stack(  # moved by as many bins as the signal is away
            [_shifted(rows[source] / sums[source], row - source) for row, source in enumerate(nearest.tolist())]
        )
        variance = (filled * (centres - centres[:, None]) ** 2).sum(1)
        self.register_buffer("rows", filled, persistent=False)
        self.register_buffer("spread", variance.clamp_min(self.width**2 / 12), persistent=False)

    @property
    def signal_range(self) -> tuple[float, float]:
        low, high = self._range
        return low, high

    def _between(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Row below each signal, and how far it is on the way to the next."""
        place = ((signal.float() - self.low) / self.width - 0.5).clamp(0, len(self.rows) - 1 - 1e-3)
        row = place.floor()
        return row.long(), place - row

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        row, part = self._between(signal)
        column = ((noisy.float() - self.low) / self.width).clamp(0, len(self.rows) - 1e-3).long()
        density = ((1 - part) * self.rows[row, column] + part * self.rows[row + 1, column]) / self.width
        variance = 4 * self.variance(signal)  # twice as wide as the noise
        broad = -0.5 * (bounded(noisy) - bounded(signal)) ** 2 / variance - 0.5 * variance.log() - LOG_SQRT_2PI
        floor = torch.finfo(torch.float32).tiny
        return torch.logaddexp(((1 - _BROAD) * density).clamp_min(floor).log(), broad + math.log(_BROAD))

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        row, part = self._between(signal)
        step = torch.rand(signal.shape, generator=generator, device=signal.device) < part
        rows = self.rows.cumsum(1)[row + step]  # (..., bins)
        u = torch.rand((*signal.shape, 1), generator=generator, device=signal.device)
        column = torch.searchsorted(rows, u * rows[..., -1:]).squeeze(-1).clamp_max(len(self.rows) - 1)
        within = torch.rand(signal.shape, generator=generator, device=signal.device)
        drawn = self.low + self.width * (column + within)
        broad = torch.rand(signal.shape, generator=generator, device=signal.device) < _BROAD
        wide = signal + 2 * self.variance(signal).sqrt() * draw_normal(signal, generator)
        return torch.where(broad, wide, drawn)

    def variance(self, signal: Tensor) -> Tensor:
        row, part = self._between(signal)
        return (1 - part) * self.spread[row] + part * self.spread[row + 1]

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "histogram": self.rows.tolist(), "low": self.low, "high": self.high}

    def describe(self) -> str:
        low, high = self.signal_range
        return f"histogram of {len(self.rows)} bins, signals {low:.4g} to {high:.4g}"


def _shifted(row: Tensor, by: int) -> Tensor:
    """Move a row by whole bins; what would leave is gathered at the end."""
    if by == 0:
        return row
    moved = torch.zeros_like(row)
    places = (torch.arange(len(row)) + by).clamp(0, len(row) - 1)
    return moved.index_add_(0, places, row)
