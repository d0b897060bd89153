"""High-pass statistics of the noise in small windows of noisy images.

A pixel that is not finite, or too large to compute with, is missing: NaN in `part_of`, and no window has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from ..data.images import Frames, spread_over
from .models import LARGEST_COUNT
from .static import across, along, is_static

_AROUND, _MIDDLE = 7, 3  # outer and inner side of the ring of a window, pixels
_MARGIN = 5
_MAX_PLANES = 40  # more planes add time, not accuracy
_MAX_SIDE = 1024  # pixels; larger planes do so as well
_MAX_PIXELS = 8_000_000
_TRIED = 5  # planes that are compared with their neighbours in time, to decide whether the scene is static
_LAGS = (1, 2)

Stack = NDArray[np.generic]  # (planes, Y, X)
Plane = NDArray[np.float32]  # (Y, X)
Mask = NDArray[np.bool_]  # (Y, X)
Values = NDArray[np.float32]  # (windows,)
Places = tuple[slice, slice]  # the centres of windows


@dataclass(frozen=True)
class Windows:
    """One value per window in each array, (windows,), in counts or powers of counts."""

    ring: Values
    """Mean of the 7x7 pixels around the central 3x3: the brightness, independent of the noise in the centre."""
    roughness: Values
    """Variance of the pixels of the ring: noise and structure."""
    mean: Values
    """Weighted mean of the pixels that `square` is made of."""
    square: Values
    """Square of a high-pass of unit energy: on average the variance of the noise, where there is no structure."""
    cube: Values
    """Cube of the high-pass, scaled so that its expectation is the third central moment; NaN where that is unknown."""
    along_x: NDArray[np.float32]
    """(windows, 3): products of a high-pass with itself 0, 1 and 2 pixels further along x."""
    along_y: NDArray[np.float32]
    """The same along y."""
    centre: Values
    """The central pixel, or the mean of it over frames of one static scene."""
    noisy: Values
    """The central pixel of one plane."""
    spoiled: NDArray[np.bool_]
    """Whether a pixel is saturated or hot. Such windows are not used; many of them bias the others as bright."""
    temporal: bool
    """Whether the high-pass is a difference of frames of one static scene, which cancels all structure."""

    @classmethod
    def join(cls, parts: Sequence[Windows]) -> Windows:
        """Concatenate windows of the same kind of high-pass."""
        arrays = [f.name for f in fields(cls) if f.name != "temporal"]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return cls(**joined, temporal=parts[0].temporal)


def measure(stacks: Sequence[Frames], hot: Sequence[Mask]) -> Windows | None:
    """Measure windows of at most 40 planes, and of a part of large planes; None if no pixel is finite.

    If most planes show the same scene as their neighbours in time, only such planes are measured.
    Windows with pixels that are ``hot`` (Y, X for each stack) are marked as spoiled.
    """
    places = list(_sampled(stacks))
    tried = places[:: max(len(places) // _TRIED, 1)]
    static = 2 * sum(bool(_same_scene(stacks[number], index)) for number, index in tried) > len(tried)
    parts = [_of_plane(stacks[number], index, hot[number], temporal=static) for number, index in places]
    found = [part for part in parts if part is not None]
    return Windows.join(found) if found else None


def _sampled(stacks: Sequence[Frames]) -> Iterator[tuple[int, int]]:
    """Yield the (stack, plane) indices to measure, evenly spread over all planes."""
    planes = [(number, index) for number, stack in enumerate(stacks) for index in range(len(stack.planes))]
    largest = max(min(s.planes.shape[1], _MAX_SIDE) * min(s.planes.shape[2], _MAX_SIDE) for s in stacks)
    most = int(np.clip(_MAX_PIXELS // largest, 4, _MAX_PLANES))
    for place in spread_over(len(planes), most):
        yield planes[place]


def crop(shape: tuple[int, ...], index: int) -> tuple[slice, slice]:
    """Region of a large plane to measure, from an even row and column.

    It differs between planes, spread by the golden ratio.
    """
    starts = [
        int((side - _MAX_SIDE) * (index * step % 1)) // 2 * 2 if side > _MAX_SIDE else 0
        for side, step in zip(shape[-2:], (0.6180339887, 0.7548776662), strict=True)
    ]
    return slice(starts[0], starts[0] + _MAX_SIDE), slice(starts[1], starts[1] + _MAX_SIDE)


def part_of(stack: Frames, index: int) -> Plane:
    """Read the region of a plane to measure, with NaN for missing pixels."""
    return as_float(stack.planes[(index, *crop(stack.planes.shape, index))])


def as_float(counts: NDArray[np.generic]) -> NDArray[np.float32]:
    """Convert to float32, with NaN for pixels that are not finite or too large to compute with. No copy if float32."""
    with np.errstate(over="ignore"):  # of float64
        values = np.ascontiguousarray(counts, dtype=np.float32)
    usable = np.abs(values) <= LARGEST_COUNT
    return values if usable.all() else np.where(usable, values, np.float32(np.nan))


def usable_part(stack: Frames, index: int, hot: Mask) -> Plane:
    """Read the region of a plane to measure, with NaN for pixels that are missing, saturated or ``hot`` (Y, X)."""
    plane = part_of(stack, index)
    return np.where(extreme(plane) | hot[crop(stack.planes.shape, index)], np.float32(np.nan), plane)


def fill(plane: Plane) -> tuple[Plane, Mask]:
    """Put the median in place of missing pixels, and say where they are.

    The filters here are running sums, which carry a NaN along its whole row.
    """
    missing = np.isnan(plane)
    if not missing.any():
        return plane, missing
    level = 0.0 if missing.all() else float(np.median(plane[~missing]))
    return np.where(missing, np.float32(level), plane), missing


def _same_scene(stack: Frames, index: int) -> list[Plane]:
    """The frames before and after a plane, as far as they exist and differ from it by noise only."""
    here, part = part_of(stack, index), crop(stack.planes.shape, index)
    near = [at for at in (index - stack.step, index + stack.step) if 0 <= at < len(stack.planes)]
    frames = [as_float(stack.planes[(at, *part)]) for at in near]
    return [frame for frame in frames if is_static(here, frame)]


def _of_plane(stack: Frames, index: int, hot: Mask, *, temporal: bool) -> Windows | None:
    """Windows around a quarter of the pixels; None without a finite one, or without frames of the scene if wanted."""
    frames = _same_scene(stack, index) if temporal else []
    if temporal and not frames:
        return None
    given = [part_of(stack, index), *frames]
    wrong = np.logical_or.reduce([hot[crop(stack.planes.shape, index)], *map(extreme, given)])
    planes, gaps = zip(*map(fill, given), strict=True)
    missing = np.logical_or.reduce(gaps)
    if missing.all():
        return None
    # even rows of one plane, odd ones of the next: every second row may have been scanned backwards
    at = slice(_MARGIN + index % 2, -_MARGIN, 2), slice(_MARGIN, -_MARGIN, 2)
    if temporal:
        return _temporal(planes[0], planes[1:], wrong, missing, at)
    return _spatial(planes[0], wrong, missing, at)


def _spatial(plane: Plane, wrong: Mask, missing: Mask, at: Places) -> Windows:
    """Windows of a second difference along both axes, with weights of unit energy (Immerkaer 1996)."""
    weights = [1 / 6, 4 / 6, 1 / 6]  # the squares of those of the difference
    mean = along(along(plane, weights, 0), weights, 1)
    high = along(along(plane, [1, -2, 1], 0), [1, -2, 1], 1) / np.float32(6)
    return _windows(plane, plane, mean, high, 6 * high**3, across(plane), wrong, missing, at, temporal=False)


def _temporal(plane: Plane, frames: Sequence[Plane], wrong: Mask, missing: Mask, at: Places) -> Windows:
    """Windows of the difference of two or three frames of a static scene."""
    if len(frames) == 1:
        high, mean = (plane - frames[0]) / np.float32(2**0.5), (plane + frames[0]) / np.float32(2)
    else:
        high = (2 * plane - frames[0] - frames[1]) / np.float32(6**0.5)
        mean = (4 * plane + frames[0] + frames[1]) / np.float32(6)  # weighted as their variances are in the square
    usable = ~(missing | wrong)
    if usable.any():  # a lamp that drifts; the median of skewed noise is not 0
        high = high - np.float32(high[usable].mean(dtype=np.float64))
    # the difference of two frames is symmetric
    cube = np.full_like(high, np.nan) if len(frames) == 1 else np.float32(6**0.5) * high**3
    return _windows(plane, mean, mean, high, cube, across(high), wrong, missing, at, temporal=True)


def _windows(
    noisy: Plane,
    around: Plane,
    mean: Plane,
    high: Plane,
    cube: Plane,
    high_across: tuple[Plane, Plane],
    wrong: Mask,
    missing: Mask,
    at: Places,
    *,
    temporal: bool,
) -> Windows:
    """Gather the windows around some pixels, but for those with missing pixels."""
    whole = ~_touched(missing, at)
    size, inner = _AROUND**2, _MIDDLE**2

    def ring_mean(image: Plane) -> Plane:
        ring = (size * uniform_filter(image, _AROUND) - inner * uniform_filter(image, _MIDDLE)) / (size - inner)
        return np.asarray(ring, dtype=np.float32)

    level = np.float32(np.median(around))  # the variance is a difference of squares: keeps them small
    ring = ring_mean(around - level)
    roughness = ring_mean((around - level) ** 2) - ring**2

    def at_windows(image: Plane) -> Values:
        return image[at].ravel()[whole]

    def products(image: Plane, axis: int) -> NDArray[np.float32]:
        ahead = [at_windows(np.roll(image, -lag, axis)) for lag in (0, *_LAGS)]
        return np.stack([ahead[0] * value for value in ahead], axis=1)

    return Windows(
        ring=at_windows(ring) + level,
        roughness=at_windows(roughness),
        mean=at_windows(mean),
        square=at_windows(high) ** 2,
        cube=at_windows(cube),
        along_x=products(high_across[0], 1),
        along_y=products(high_across[1], 0),
        centre=at_windows(around),
        noisy=at_windows(noisy),
        spoiled=_touched(wrong, at)[whole],
        temporal=temporal,
    )


def _touched(mask: Mask, at: Places) -> NDArray[np.bool_]:
    """Whether a window has a pixel of a mask, (windows,)."""
    return np.asarray(maximum_filter(mask, _AROUND)[at].ravel(), dtype=bool)


def hot_pixels(planes: Stack) -> Mask:
    """Pixels (Y, X) that differ from all their eight neighbours, in the same direction, more than optics allows."""
    most = 9 if planes.shape[1] * planes.shape[2] <= _MAX_SIDE**2 else 5
    chosen = spread_over(len(planes), most)
    plane, missing = fill(_median([as_float(planes[index]) for index in chosen]))
    padded = np.pad(plane, 1, mode="reflect")
    rows, columns = plane.shape
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    height = np.abs(plane - np.add.reduce(around) / 8)
    beyond = np.maximum(plane - np.maximum.reduce(around), np.minimum.reduce(around) - plane)
    high = np.abs(along(along(plane, [1, -2, 1], 0), [1, -2, 1], 1)) / 6
    size, inner = _AROUND**2, 5**2  # the differences reach one pixel further
    local = (size * uniform_filter(high, _AROUND) - inner * uniform_filter(high, 5)) / (size - inner)
    usual = float(np.median(high[~missing])) if not missing.all() else 0.0
    noise = 1.2533 * np.maximum(local, usual)  # the std is 1.25 times the mean absolute value
    threshold = 5.0 if len(chosen) >= 5 else 10.0  # single noisy planes have long tails
    return np.asarray((beyond > threshold * noise) & (beyond > 0.5 * height) & ~missing)


def _median(planes: Sequence[Plane]) -> Plane:
    """Median of each pixel over planes, without missing ones; NaN where all are."""
    stack = np.stack(planes)
    missing = np.isnan(stack)
    if not missing.any():
        return np.asarray(np.median(stack, axis=0))
    never = missing.all(axis=0)
    stack[:, never] = 0  # NaN alone would give a warning
    return np.where(never, np.float32(np.nan), np.nanmedian(stack, axis=0))


def extreme(plane: Plane) -> Mask:
    """Pixels that are saturated (many at exactly the highest value) or far too hot."""
    values = plane[~np.isnan(plane)]
    if not len(values):
        return np.zeros(plane.shape, dtype=bool)
    top, middle, high = (float(level) for level in np.quantile(values, (1.0, 0.5, 0.995)))
    saturated = np.count_nonzero(values == top) > max(20, values.size * 1e-4)
    return np.asarray((plane >= (top if saturated else np.inf)) | (plane > middle + 5 * (high - middle)))
