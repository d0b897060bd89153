"""How a camera records: the values at which pixels are clipped or saturated, and the steps they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.images import Frames, spread_over
from .windows import part_of

CLIPPED = 0.01
"""Fraction of the pixels at the lowest value that matters."""
_PLANES = 9
_PILED_UP = 3.0  # ratio of the number of pixels at the lowest or highest value to that at the next
_FEWEST_VALUES = 4
_FEWEST = 20  # pixels at the highest value
_WHOLE = 1e-3  # part of a step by which values may miss its multiples

Plane = NDArray[np.float32]


class Limit(NamedTuple):
    """A value at which pixels pile up."""

    value: float
    """Counts."""
    share: float
    """Fraction of the pixels at it."""


class Recording(NamedTuple):
    """Limits at the bottom and top, if there are any, and the distance of neighbouring values."""

    low: Limit | None
    high: Limit | None
    step: float
    """Counts; 0 if the values are not multiples of one step."""


def sampled_planes(stacks: Sequence[Frames]) -> list[Plane]:
    """Read a few planes, with NaN where pixels are not finite."""
    places = [(stack, index) for stack in stacks for index in range(len(stack.planes))]
    chosen = spread_over(len(places), _PLANES)
    return [part_of(*places[place]) for place in chosen]


def measure_recording(planes: Sequence[Plane]) -> Recording:
    """Find limits and steps in planes (Y, X), with NaN for missing pixels."""
    pixels = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    values, counts = np.unique(pixels, return_counts=True)
    if len(values) < _FEWEST_VALUES:
        return Recording(None, None, 0.0)
    low, high = (Limit(float(values[end]), float(counts[end] / pixels.size)) for end in (0, -1))
    at_top = counts[-1] > _PILED_UP * counts[-2] and counts[-1] > _FEWEST
    return Recording(low if counts[0] > _PILED_UP * counts[1] else None, high if at_top else None, _step(values))


def _step(values: NDArray[np.float32]) -> float:
    """The usual distance of values, if all are multiples of it."""
    step = float(np.median(np.diff(values)))
    multiples = values / step
    return step if np.abs(multiples - np.round(multiples)).max() < _WHOLE else 0.0
