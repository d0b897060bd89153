"""Statistics over posterior samples: mean, standard deviation, median and mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import Calibration
from ..errors import DenoiserError
from .tiling import HELD, Output

Array = TypeVar("Array", Tensor, NDArray[np.float32])

STD: tuple[Output, ...] = ("sample_std", "std")
"""Outputs that are the standard deviation of samples, where samples are drawn for them."""
_SORTED_PIXELS = 2**22  # samples times pixels sorted at once: the sorted copy stays small
_NARROWING, _SHIFTS = 20, 30  # after so many shifts the bandwidth stays
_WIDEST, _NARROWEST = 2.0, 0.3  # bandwidth of the first and the last shift, in standard deviations


class SampleStatistics:
    """Mean and standard deviation of samples (h, w) as running sums; samples are held only for `HELD`."""

    def __init__(self, outputs: Sequence[Output], samples: int, shape: tuple[int, int]) -> None:
        self.wanted = outputs
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())  # sum of squared differences from the mean
        self.held = np.empty((samples, *shape), np.float32) if set(outputs) & set(HELD) else None

    def add(self, drawn: Tensor) -> None:
        """Add samples (n, h, w). If memory runs out in here, none of them is counted."""
        n, total = len(drawn), self.count + len(drawn)
        if self.held is not None:
            self.held[self.count : total] = drawn.cpu().numpy()
        if {"mean", *STD} & set(self.wanted):
            mean = drawn.mean(0)
            squares = (drawn - mean).square_().sum(0)  # torch.var_mean takes longer than drawing the samples
            before = self.mean.to(mean), self.squares.to(mean)
            self.mean, self.squares = merged(self.count, *before, n, mean, squares)
        self.count = total

    def results(self, calibration: Calibration) -> dict[Output, NDArray[np.float32]]:
        """Give the requested statistics, (h, w) each; the standard deviation is calibrated."""
        found: dict[Output, NDArray[np.float32]] = {}
        if self.held is not None:
            functions: dict[Output, Callable[[NDArray[np.float32]], NDArray[np.float32]]]
            functions = {"median": median, "mode": mode}
            found |= {name: functions[name](self.held) for name in HELD if name in self.wanted}
        if "mean" in self.wanted:
            found["mean"] = self.mean.cpu().numpy()
        for name in STD:
            if name in self.wanted:
                std = (self.squares / self.count).sqrt()
                found[name] = calibration.of_samples(std, self.mean, self.count).cpu().numpy()
        return found


def finite(result: NDArray[np.float32]) -> NDArray[np.float32]:
    """Refuse a result with NaN or infinity, which a finite image gives only beyond the range of float32."""
    if not np.isfinite(result).all():
        raise DenoiserError(
            "Expected finite numbers from the networks, found NaN or infinity: divide an image of very large numbers "
            "by a constant, or train again on images of this kind"
        )
    return result


def merged(
    count: int, mean: Array, squares: Array, n: int, more_mean: Array, more_squares: Array
) -> tuple[Array, Array]:
    """Combine mean and sum of squared differences of ``count`` samples with those of ``n`` more.

    By the update of Chan et al. (1979), which does not cancel: float32 is enough.
    """
    total = count + n
    shift = more_mean - mean
    return mean + shift * (n / total), squares + more_squares + shift**2 * (count * n / total)


def median(held: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of (N, h, w) over N."""
    # np.median takes 2.6 to 4.9 times as long (N = 10 to 1000, one thread): it partitions with a stride and does not
    # use the vectorised sort. Here the samples of a pixel lie side by side.
    n, height, width = held.shape
    result = np.empty((height, width), np.float32)
    rows = max(_SORTED_PIXELS // (n * width), 1)  # the sorted copy stays small
    for top in range(0, height, rows):
        strip = held[:, top : top + rows]
        ordered = np.sort(strip.reshape(n, -1).T.copy(), axis=1)
        middle = (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
        result[top : top + rows] = middle.reshape(strip.shape[1:])
    return result


def mode(held: NDArray[np.float32]) -> NDArray[np.float32]:
    """Approximate mode of (N, h, w) over N, pixel by pixel: where the samples are densest.

    Mean shift (Comaniciu & Meer 2002) with a normal kernel, from the mean. The bandwidth falls geometrically from two
    standard deviations, so that it finds the highest mode, to a third of one.
    """
    samples = torch.from_numpy(held)
    found, std = samples.mean(0), samples.std(0, correction=0).clamp_min(torch.finfo(torch.float32).tiny)
    for shift in range(_SHIFTS):
        bandwidth = std * _WIDEST * (_NARROWEST / _WIDEST) ** min(shift / _NARROWING, 1.0)
        total, weights = torch.zeros_like(found), torch.zeros_like(found)
        for sample in samples:
            weight = (-0.5 * ((sample - found) / bandwidth).square()).exp_()
            total += weight * sample
            weights += weight
        found = torch.where(weights > 0, total / weights, found)
    result: NDArray[np.float32] = found.numpy()
    return result
