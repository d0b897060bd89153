"""Statistics over posterior samples: mean, standard deviation and median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .tiling import Output

Array = TypeVar("Array", Tensor, NDArray[np.float32])

STD: tuple[Output, ...] = ("sample_std", "std")
"""Outputs that are the standard deviation of samples, where samples are drawn for them."""
_SORTED_PIXELS = 2**22  # samples times pixels sorted at once: the sorted copy stays small


class SampleStatistics:
    """Mean and standard deviation of samples (h, w) as running sums; samples are held only for a median."""

    def __init__(self, outputs: Sequence[Output], samples: int, shape: tuple[int, int]) -> None:
        self.wanted = outputs
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())  # sum of squared differences from the mean
        self.held = np.empty((samples, *shape), np.float32) if "median" in outputs else None

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

    def results(self) -> dict[Output, NDArray[np.float32]]:
        """Give the requested statistics, (h, w) each."""
        found: dict[Output, NDArray[np.float32]] = {}
        if self.held is not None:
            found["median"] = median(self.held)
        if "mean" in self.wanted:
            found["mean"] = self.mean.cpu().numpy()
        for name in STD:
            if name in self.wanted:
                found[name] = (self.squares / self.count).sqrt().cpu().numpy()
        return found


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
