"""Noise models of fitted numbers: Gaussian mixture (PPN2V, DivNoising, HDN, CAREamics) and histogram (PN2V)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelFileError
from .models import LOG_SQRT_2PI, NoiseModel, bounded, draw_normal, positive

_MOST_GAUSSIANS, _MOST_BINS = 64, 512  # the published models have 3 and 256
_BROAD = 0.01  # weight of a wide Gaussian in a histogram: makes every observation possible and every gradient finite


class MixtureNoise(NoiseModel):
    """Mixture of Gaussians whose means, variances and weights are polynomials of the signal.

    The layout is that of the published files (PPN2V, DivNoising, HDN). With n Gaussians, and the
    signal scaled to ``t = (signal - min_signal) / (max_signal - min_signal)``:

    Parameters
    ----------
    trained_weight
        (3 n, coefficients). Rows 0..n-1: means; n..2n-1: logarithms of the coefficients of the
        variances; 2n..3n-1: log-weights. The means are shifted so that the mixture has the mean
        ``signal``.
    min_signal, max_signal
        Range of signals of the calibration, in counts. Below it the noise is that at ``min_signal``.
        Above it the noise has the shape of that at ``max_signal``, with a linearly extrapolated variance.
    min_sigma
        Lower bound of the *variances*, in counts^2 (the name is that of the published files).

    Raises
    ------
    ModelFileError
        If the weights have another shape or are not finite, or the range is empty.
    """

    kind = "mixture"
    has_cdf = True
    weight: Tensor
    _growth: Tensor

    def __init__(self, trained_weight: Tensor, min_signal: float, max_signal: float, min_sigma: float) -> None:
        super().__init__()
        weight = torch.as_tensor(trained_weight, dtype=torch.float32)
        fits = weight.ndim == 2 and not weight.shape[0] % 3 and 0 not in weight.shape
        if not fits or len(weight) > 3 * _MOST_GAUSSIANS or weight.shape[1] > _MOST_GAUSSIANS:
            raise ModelFileError(
                f"Expected a mixture of (3 x Gaussians, coefficients), at most {_MOST_GAUSSIANS} of each, "
                f"found an array of shape {tuple(weight.shape)}: fit the noise model again"
            )
        if not weight.isfinite().all():
            raise ModelFileError(
                "Expected a mixture of finite numbers, "
                f"found others in an array of shape {tuple(weight.shape)}: fit the noise model again"
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
        """Log-weights, means relative to the signal, and variances, (n, *t.shape), at scaled signals ``t``."""
        powers = torch.stack([t**i for i in range(weight.shape[1])])
        means, log_variances, log_weights = weight.to(t.dtype).chunk(3)
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
        """Log-weights, means relative to the signal, and variances (n, *signal.shape) for each signal."""
        t = (bounded(signal) - self.min_signal) / (self.max_signal - self.min_signal)
        within = t.clamp(0, 1)
        log_weight, mean, variance = self.shape(self.weight, within, self.min_sigma)
        beyond = 1 + self._growth * (t - within).clamp_min(0)  # factor of the variance
        return log_weight, mean * beyond.sqrt(), variance * beyond

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        return _log_sum(log_weight, bounded(noisy) - bounded(signal) - mean, variance)

    def log_cdf(self, noisy: Tensor, signal: Tensor, *, upper: bool = False) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        z = (bounded(noisy) - bounded(signal) - mean) / variance.sqrt()
        return torch.logsumexp(log_weight + torch.special.log_ndtr(-z if upper else z), 0)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        u = torch.rand(signal.shape, generator=generator, device=signal.device)
        pick = (log_weight.exp().cumsum(0) < u).sum(0, keepdim=True).clamp_max(len(mean) - 1)
        chosen, std = mean.gather(0, pick)[0], variance.gather(0, pick)[0].sqrt()
        return signal + chosen + std * draw_normal(chosen, generator)

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


def _log_sum(log_weight: Tensor, residual: Tensor, variance: Tensor) -> Tensor:
    return torch.logsumexp(log_weight - 0.5 * (residual**2 / variance + variance.log()) - LOG_SQRT_2PI, 0)


class HistogramNoise(NoiseModel):
    """Densities read off a 2-D histogram of (signal, noisy), as Probabilistic Noise2Void (PN2V) makes it.

    The density is constant within a bin of noisy values, and interpolated linearly between
    neighbouring signals. A signal without data takes the density of the nearest signal with data,
    shifted by the difference. To this, a wide Gaussian with a weight of 1 % is added.

    Parameters
    ----------
    histogram
        (bins, bins): rows are signals, columns are noisy values; each row with data sums to 1.
    low, high
        Lower edge of the first bin and upper edge of the last, in counts; the same for both axes.

    Raises
    ------
    ModelFileError
        If the histogram is not square, holds no data or numbers that are no probabilities, or the limits are reversed.
    """

    kind = "histogram"
    histogram: Tensor
    rows: Tensor
    spread: Tensor

    def __init__(self, histogram: Tensor, low: float, high: float) -> None:
        super().__init__()
        histogram = torch.as_tensor(histogram, dtype=torch.float32)
        square = histogram.ndim == 2 and 1 < len(histogram) == histogram.shape[1] <= _MOST_BINS
        if not square or not histogram.isfinite().all() or bool((histogram < 0).any()) or not low < high:
            raise ModelFileError(
                f"Expected a square histogram of 2 to {_MOST_BINS} bins, with probabilities, and low < high, "
                f"found shape {tuple(histogram.shape)} and limits {low:g}, {high:g}: make the noise model again"
            )
        self.low, self.high = float(low), float(high)
        self.width = (self.high - self.low) / len(histogram)
        sums = histogram.sum(1)
        with_data = (sums > 0.5).nonzero()[:, 0]  # PN2V fills rows without data with 1e-30
        if not len(with_data):
            raise ModelFileError("The histogram of the noise model has no data: make the noise model again")
        self._range = tuple(self.low + self.width * (float(with_data[k]) + 0.5) for k in (0, -1))
        centres = self.low + self.width * (torch.arange(len(histogram)) + 0.5)
        nearest = with_data[(torch.arange(len(histogram))[:, None] - with_data).abs().argmin(1)]
        filled = torch.stack(
            [_shifted(histogram[source] / sums[source], row - source) for row, source in enumerate(nearest.tolist())]
        )
        variance = (filled * (centres - centres[:, None]) ** 2).sum(1)
        self.register_buffer("histogram", histogram, persistent=False)  # as given: the filled rows hide the range
        self.register_buffer("rows", filled, persistent=False)
        self.register_buffer("spread", variance.clamp_min(self.width**2 / 12), persistent=False)

    @property
    def signal_range(self) -> tuple[float, float]:
        low, high = self._range
        return low, high

    def _between(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Row below each signal, and the distance from it as a fraction of that to the next row."""
        place = ((bounded(signal) - self.low) / self.width - 0.5).clamp(0, len(self.rows) - 1 - 1e-3)
        row = place.floor()
        return row.long(), place - row

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        row, part = self._between(signal)
        place = (bounded(noisy) - self.low) / self.width
        column = place.clamp(0, len(self.rows) - 1e-3).long()
        density = ((1 - part) * self.rows[row, column] + part * self.rows[row + 1, column]) / self.width
        density = torch.where((place >= 0) & (place <= len(self.rows)), density, 0.0)
        variance = 4 * self.variance(signal)  # twice the standard deviation of the noise
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
        return {"kind": self.kind, "histogram": self.histogram.tolist(), "low": self.low, "high": self.high}

    def describe(self) -> str:
        low, high = self.signal_range
        return f"histogram of {len(self.rows)} bins, signals {low:.4g} to {high:.4g}"


def _shifted(row: Tensor, by: int) -> Tensor:
    """Shift a row by whole bins; what would leave is added to the bin at the end."""
    if by == 0:
        return row
    moved = torch.zeros_like(row)
    places = (torch.arange(len(row)) + by).clamp(0, len(row) - 1)
    return moved.index_add_(0, places, row)
