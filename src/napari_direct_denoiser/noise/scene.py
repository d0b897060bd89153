"""Frames of one static scene, whose noise is independent: they tell the error of an estimate of one of them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..data.images import Frames, middle, spread_over
from .static import block_means, is_static
from .windows import as_float

FEWEST_FRAMES = 3
"""Frames of a scene that tell the error of an estimate of one of them: two others, whose noise is independent."""
_AWAY = 2  # frames before and after that may show the same scene
_SMOOTH = 2.0  # pixels; sigma of a blur that takes most of the noise from the frames whose brightness is compared
_CHANGE = 0.7, 1.4  # of the brightness that is followed
_BLOCKS = 4, 8, 16  # pixels; sides of the blocks in which frames are compared
_BIN_BLOCKS = 64  # of similar brightness, whose differences are alike
_CHANGED = 5.0  # standard deviations of the difference of two blocks; in static scenes none is that far apart

Plane = NDArray[np.float32]  # (H, W)


def sampled_scenes(stacks: Sequence[Frames], most: int, side: int, multiple: int, start: int) -> Iterator[list[Plane]]:
    """Read at most ``most`` planes, evenly spread over all stacks, each with the frames of its scene.

    Of large planes the middle is read: see `middle` and `frames_of_scene`. Planes are read alone after one that has not
    two other frames of its scene.
    """
    places = [(stack, index) for stack in stacks for index in range(len(stack.planes))]
    alone = False
    for number in spread_over(len(places), most):
        stack, index = places[number]
        rows, columns = (middle(length, side, multiple, start) for length in stack.planes.shape[1:])
        if alone:
            yield [as_float(stack.planes[index, rows, columns])]
            continue
        scene = frames_of_scene(stack.planes, index, stack.step, (rows, columns))
        alone = len(scene) < FEWEST_FRAMES
        yield scene


def frames_of_scene(
    planes: NDArray[np.generic],
    index: int,
    step: int,
    part: tuple[slice, slice],
    away: int = _AWAY,
    known: Container[int] | None = None,
) -> list[Plane]:
    """A part of a plane, followed by those of the frames around it that show the same scene.

    The others are brought to the brightness of the first: lamps drift, dyes bleach.

    Parameters
    ----------
    planes
        (P, H, W), counts.
    index
        Of the plane.
    step
        How many planes successive frames are apart.
    part
        Rows and columns.
    away
        How many frames before and after may be taken.
    known
        Planes that may be taken; all if not given.
    """
    known = range(len(planes)) if known is None else known
    distances = (distance for each in range(1, away + 1) for distance in (each, -each))
    near = [at for at in (index + step * distance for distance in distances) if at in known]
    first, *others = (as_float(planes[(at, *part)]) for at in (index, *near))
    return [first, *(other for other in at_brightness_of(first, others) if is_static(first, other))]


def at_brightness_of(first: Plane, others: Sequence[Plane]) -> list[Plane]:
    """Scale and shift frames of a scene so that they are as bright as the first.

    The scale of a frame is the ratio of two covariances, of the first and of the frame with a third one. Noise does not
    bias it, because that of the three is independent (an instrumental variable). Without a third frame, frames stay.
    """
    if len(others) < 2 or not all(np.isfinite(plane).all() for plane in (first, *others)):
        return list(others)
    smooth = [gaussian_filter(plane, _SMOOTH, output=np.float64) for plane in (first, *others)]
    covariance = np.cov([plane.ravel() for plane in smooth])
    matched = []
    for number, other in enumerate(others, 1):
        third = [each for each in range(1, len(smooth)) if each != number and covariance[number, each] > 0]
        scale = np.median(covariance[0, third] / covariance[number, third]) if third else 1.0
        mean = smooth[number].mean()
        matched.append(((other - mean) * np.clip(scale, *_CHANGE) + smooth[0].mean()).astype(np.float32))
    return matched


def changed(first: Plane, other: Plane) -> NDArray[np.bool_]:
    """Pixels (H, W) of blocks in which two planes differ by more than their noise: something moved or flashed.

    How much blocks differ by noise is found from other blocks of similar brightness.
    """
    found = np.zeros(first.shape, bool)
    for side in _BLOCKS:
        a, b = (block_means(plane, side) for plane in (first, other))
        difference = np.abs(a - b).ravel()
        marked = ~np.isfinite(difference)
        order = np.argsort(np.where(marked, np.inf, (a + b).ravel()))
        for part in np.array_split(order, max(len(order) // _BIN_BLOCKS, 1)):
            std = 1.4826 * np.median(difference[part])
            marked[part] |= difference[part] > _CHANGED * std
        rows, columns = (side * length for length in a.shape)
        found[:rows, :columns] |= np.kron(marked.reshape(a.shape), np.ones((side, side), bool))
    return found
