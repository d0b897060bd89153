"""Small windows of noisy images: what their pixels tell of the noise, whatever the structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, maximum_filter, uniform_filter

from ..data.images import Frames

_AROUND, _MIDDLE = 7, 3  # sides of the ring of a window, pixels
_MARGIN = 5
_AT = slice(_MARGIN, -_MARGIN, 2), slice(_MARGIN, -_MARGIN, 2)  # the middles of windows
_MAX_PLANES = 40  # more planes of a stack add time, not accuracy
_MAX_SIDE = 1024  # nor do larger ones
_MAX_PIXELS = 8_000_000
_TRIED = 5  # planes that are compared with their neighbours in time before all are
_LAGS = (1, 2)
_FINE = [c / 70**0.5 for c in (1, -4, 6, -4, 1)]  # fourth difference: structure that optics made is hardly as fine
_STATIC = 1.25  # frames of a static scene differ, at low resolution, by this much more than noise at most

Stack = NDArray[np.generic]  # (planes, Y, X)
Plane = NDArray[np.float32]  # (Y, X)
Values = NDArray[np.float32]  # (windows,)


@dataclass(frozen=True)
class Windows:
    """One value a window in each array, (windows,); counts, or powers of them."""

    ring: Values
    """Mean of the 7x7 pixels around the 3x3 in the middle: brightness, without the noise of the middle."""
    roughness: Values
    """Variance of the pixels of the ring: noise and structure."""
    mean: Values
    """Weighted mean of the pixels that `square` is made of."""
    square: Values
    """Square of a high-pass: the variance of the noise, if there is no structure."""
    cube: Values
    """Its cube, scaled to give the third central moment of the noise; 0 where that cannot be known."""
    along_x: NDArray[np.float32]
    """(windows, 3): products of a high-pass with itself 0, 1 and 2 pixels further along x."""
    along_y: NDArray[np.float32]
    """The same along y."""
    centre: Values
    """The pixel in the middle."""
    spoiled: NDArray[np.bool_]
    """Whether a pixel is saturated or hot: not to be used; where many are, the others are no fair sample."""
    temporal: bool
    """Whether the high-pass is a difference of frames of one static scene, which no structure can disturb."""

    @classmethod
    def join(cls, parts: Sequence[Windows]) -> Windows:
        """Put several, all of one sort, into one."""
        arrays = [f.name for f in fields(cls) if f.name != "temporal"]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return cls(**joined, temporal=parts[0].temporal)


def measure(stacks: Sequence[Frames], hot: Sequence[NDArray[np.bool_]]) -> Windows:
    """Measure windows of at most 40 planes; of huge planes, a part of each. ``hot`` pixels (Y, X a stack) are left out.

    If most planes show the same scene as their neighbours in time, only such planes are measured.
    """
    places = list(_sampled(stacks))
    tried = places[:: max(len(places) // _TRIED, 1)]
    static = 2 * sum(bool(_same_scene(stacks[number], index)) for number, index in tried) > len(tried)
    parts = [_of_plane(stacks[number], index, hot[number], temporal=static) for number, index in places]
    return Windows.join([part for part in parts if part is not None])


def _sampled(stacks: Sequence[Frames]) -> Iterator[tuple[int, int]]:
    """Give (stack, plane) of what is measured, evenly spread over all planes."""
    planes = [(number, index) for number, stack in enumerate(stacks) for index in range(len(stack.planes))]
    largest = max(min(s.planes.shape[1], _MAX_SIDE) * min(s.planes.shape[2], _MAX_SIDE) for s in stacks)
    most = int(np.clip(_MAX_PIXELS // largest, 4, _MAX_PLANES))
    for place in np.unique(np.linspace(0, len(planes) - 1, min(len(planes), most)).astype(int)):
        yield planes[place]


def crop(shape: tuple[int, ...], index: int) -> tuple[slice, slice]:
    """The part of a huge plane that is looked at: another for every plane, spread by the golden ratio."""
    starts = [
        int((side - _MAX_SIDE) * (index * step % 1)) if side > _MAX_SIDE else 0
        for side, step in zip(shape[-2:], (0.6180339887, 0.7548776662), strict=True)
    ]
    return slice(starts[0], starts[0] + _MAX_SIDE), slice(starts[1], starts[1] + _MAX_SIDE)


def part_of(stack: Frames, index: int) -> Plane:
    """A plane, or of a huge one the part that is looked at."""
    return np.ascontiguousarray(stack.planes[(index, *crop(stack.planes.shape, index))], dtype=np.float32)


def _same_scene(stack: Frames, index: int) -> list[Plane]:
    """The frames before and after a plane, as far as they are there and differ from it by noise only."""
    here, part = part_of(stack, index), crop(stack.planes.shape, index)
    near = [at for at in (index - stack.step, index + stack.step) if 0 <= at < len(stack.planes)]
    frames = [np.ascontiguousarray(stack.planes[(at, *part)], dtype=np.float32) for at in near]
    return [frame for frame in frames if is_static(here, frame)]


def _of_plane(stack: Frames, index: int, hot: NDArray[np.bool_], *, temporal: bool) -> Windows | None:
    """Windows around every second pixel of a plane; None if frames of its scene are wanted and there are none."""
    here = part_of(stack, index)
    wrong = hot[crop(stack.planes.shape, index)] | _extreme(here)
    if not temporal:
        return _spatial(here, wrong)
    frames = _same_scene(stack, index)
    if not frames:
        return None
    wrong |= np.logical_or.reduce([_extreme(frame) for frame in frames])
    return _temporal(here, frames, wrong)


def _spatial(plane: Plane, wrong: NDArray[np.bool_]) -> Windows:
    """Noise as what a second difference along both axes leaves, with weights of unit energy (Immerkaer 1996)."""
    weights = [1 / 6, 4 / 6, 1 / 6]  # the squares of those of the difference
    mean = _along(_along(plane, weights, 0), weights, 1)
    high = _along(_along(plane, [1, -2, 1], 0), [1, -2, 1], 1) / np.float32(6)
    return _windows(plane, mean, high, 6 * high**3, _across(plane), wrong, temporal=False)


def _temporal(plane: Plane, frames: Sequence[Plane], wrong: NDArray[np.bool_]) -> Windows:
    """Noise as what two or three frames of a static scene differ by."""
    if len(frames) == 1:
        high, mean = (plane - frames[0]) / np.float32(2**0.5), (plane + frames[0]) / np.float32(2)
        cube = np.zeros_like(high)  # a difference of two is symmetric
    else:
        high = (2 * plane - frames[0] - frames[1]) / np.float32(6**0.5)
        cube = np.float32(6**0.5) * (high - np.float32(np.median(high))) ** 3
        mean = (4 * plane + frames[0] + frames[1]) / np.float32(6)  # weighted as their variances are in the square
    high = high - np.float32(np.median(high))
    return _windows(mean, mean, high, cube, _across(high), wrong, temporal=True)


def _across(plane: Plane) -> tuple[Plane, Plane]:
    """Plane without what is not finer than any structure along y, and along x: for correlations along x, and y."""
    return _along(plane, _FINE, 0), _along(plane, _FINE, 1)


def _windows(
    around: Plane,
    mean: Plane,
    high: Plane,
    cube: Plane,
    across: tuple[Plane, Plane],
    wrong: NDArray[np.bool_],
    *,
    temporal: bool,
) -> Windows:
    """Gather the windows around every second pixel."""
    size, inner = _AROUND**2, _MIDDLE**2

    def ring_mean(image: Plane) -> Plane:
        ring = (size * uniform_filter(image, _AROUND) - inner * uniform_filter(image, _MIDDLE)) / (size - inner)
        return np.asarray(ring, dtype=np.float32)

    level = np.float32(np.median(around))  # keeps the difference of two large numbers exact
    ring = ring_mean(around - level)
    roughness = ring_mean((around - level) ** 2) - ring**2

    def products(image: Plane, axis: int) -> NDArray[np.float32]:
        ahead = [np.roll(image, -lag, axis)[_AT].ravel() for lag in (0, *_LAGS)]
        return np.stack([ahead[0] * value for value in ahead], axis=1)

    return Windows(
        ring=ring[_AT].ravel() + level,
        roughness=roughness[_AT].ravel(),
        mean=mean[_AT].ravel(),
        square=high[_AT].ravel() ** 2,
        cube=cube[_AT].ravel(),
        along_x=products(across[0], 1),
        along_y=products(across[1], 0),
        centre=around[_AT].ravel(),
        spoiled=maximum_filter(wrong, _AROUND)[_AT].ravel(),
        temporal=temporal,
    )


def hot_pixels(planes: Stack) -> NDArray[np.bool_]:
    """Pixels (Y, X) that stick out of all their eight neighbours, up or down, as nothing blurred by optics does."""
    most = 9 if planes.shape[1] * planes.shape[2] <= _MAX_SIDE**2 else 5
    chosen = np.unique(np.linspace(0, len(planes) - 1, most).astype(int))
    plane = np.median(np.stack([planes[index] for index in chosen]).astype(np.float32), axis=0)
    padded = np.pad(plane, 1, mode="reflect")
    rows, columns = plane.shape
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    height = np.abs(plane - np.add.reduce(around) / 8)
    beyond = np.maximum(plane - np.maximum.reduce(around), np.minimum.reduce(around) - plane)
    high = np.abs(_along(_along(plane, [1, -2, 1], 0), [1, -2, 1], 1)) / 6
    size, inner = _AROUND**2, 5**2  # the differences reach one pixel further
    local = (size * uniform_filter(high, _AROUND) - inner * uniform_filter(high, 5)) / (size - inner)
    noise = 1.2533 * np.maximum(local, float(np.median(high)))  # a deviation is 1.25 mean absolute ones
    threshold = 5.0 if len(chosen) >= 5 else 10.0  # single noisy planes have long tails
    return np.asarray((beyond > threshold * noise) & (beyond > 0.5 * height))


def is_static(one: Plane, other: Plane) -> bool:
    """Whether two planes show one scene: their difference is no larger at low resolution than noise is.

    Where the noise itself is correlated over one or two pixels, blocks of 4x4 average less of it.
    """
    difference = one - other
    difference = np.clip(difference, *np.quantile(difference, (0.001, 0.999)))
    difference = (difference - difference.mean()).astype(np.float32)
    power = float(difference.var())
    if power == 0:
        return False  # a copy tells nothing of the noise
    rows, columns = (side // 4 * 4 for side in difference.shape)
    blocks = difference[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).mean((1, 3))
    spread = 1.0
    for axis, high in zip((1, 0), _across(difference), strict=True):
        own = float(np.mean(high * high))
        lags = [float(np.mean(high * np.roll(high, lag, axis))) / own for lag in _LAGS]
        spread *= 1 + 2 * sum(lags)
    return 16 * float(blocks.var()) / power < _STATIC * max(spread, 0.5)


def _along(plane: Plane, weights: Sequence[float], axis: int) -> Plane:
    return np.asarray(convolve1d(plane, weights, axis=axis), dtype=np.float32)


def _extreme(plane: Plane) -> NDArray[np.bool_]:
    """Pixels that are saturated (many at exactly the highest value) or far too hot."""
    top, middle, high = (float(level) for level in np.quantile(plane, (1.0, 0.5, 0.995)))
    saturated = np.count_nonzero(plane == top) > max(20, plane.size * 1e-4)
    return plane >= min(top if saturated else np.inf, middle + 5 * (high - middle) + 1e-6)
