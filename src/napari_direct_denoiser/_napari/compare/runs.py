"""What the Compare dock does in a worker thread. What needs torch is imported in there."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluation.compare import Judged, LazyPlanes, PlaneStack, Row, noise_variance, table_steps
from ...evaluation.metrics import ssim
from ...progress import mapped
from ..shared.workers import Update

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...denoiser import Denoiser
    from ...evaluation.sample_convergence import SampleConvergence

_PERCENT_SHOWN = 99.5
_PLANES_SEEN = 8  # of a difference, to find its limits
_SEGMENT = 512  # points of a line that are read at a time


def measuring(
    noisy: PlaneStack, results: Sequence[Judged], truth: PlaneStack | None, denoiser: Denoiser | None
) -> Generator[Update, None, list[Row]]:
    """Judge results by their planes, all of them, one by one."""
    yield Update("Measuring all planes …")
    variance = None if denoiser is None else noise_variance(denoiser.model)
    steps = table_steps(noisy, results, truth=truth, variance=variance)
    return (yield from mapped(steps, lambda fraction: Update("Measuring all planes …", fraction)))


def against_direct(
    denoiser: Denoiser, noisy: PlaneStack, truth: PlaneStack | None, number: int, samples: Sequence[int]
) -> Generator[Update, None, tuple[SampleConvergence, list[Row]]]:
    """Denoise one plane directly and by running means; give both and the table of how they compare."""
    from ...evaluation.sample_convergence import sample_convergence_steps

    yield Update("Reading the plane in view …")
    plane = noisy[number][None]
    true_plane = None if truth is None else truth[number if len(truth) > 1 else 0][None]
    if true_plane is not None:
        ssim(true_plane[0], true_plane[0])  # refuses now what would fail after the work
    result = yield from mapped(
        sample_convergence_steps(denoiser.model, plane, samples),
        lambda each: Update("Drawing samples …", each.fraction, each.remaining_seconds),
    )
    rows = yield from mapped(
        table_steps(plane, result.judged(), truth=true_plane, final_mean=result.means[-1]),
        lambda fraction: Update("Measuring …", fraction),
    )
    return result, rows


def subtracting(first: Any, second: Any, axes: str) -> Generator[Update, None, tuple[Any, float]]:
    """Give the difference of two images, a dask array that is computed plane by plane, and a limit for its display."""
    yield Update("Subtracting …")
    difference = _lazy(first) - _lazy(second)
    planes = LazyPlanes(difference, axes)
    largest = 0.0
    numbers = np.unique(np.linspace(0, len(planes) - 1, _PLANES_SEEN).astype(int))
    for done, number in enumerate(numbers, 1):
        largest = max(largest, float(np.nanpercentile(np.abs(planes[int(number)]), _PERCENT_SHOWN)))
        yield Update("Subtracting …", done / len(numbers))
    return difference, largest or 1.0


def reading_lines(
    images: Sequence[Any], ends: Sequence[NDArray[np.float64]], points: int
) -> Generator[Update, None, list[NDArray[np.float32]]]:
    """Read each image along a line between two ends (2, axes), in its own pixels; NaN outside the image."""
    yield Update("Reading the line …")
    return [_along(image, line, points) for image, line in zip(images, ends, strict=True)]


def _along(image: Any, line: NDArray[np.float64], points: int) -> NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    start, end = np.where(line[0] == line[1], np.round(line), line)  # the plane is a whole number
    found = []
    # In segments, for what is read is a box around each.
    for part in np.array_split(np.linspace(start, end, points), math.ceil(points / _SEGMENT)):
        low = np.clip(np.floor(part.min(0)).astype(int), 0, np.subtract(image.shape, 1))
        high = np.clip(np.ceil(part.max(0)).astype(int) + 1, low + 1, image.shape)
        box = np.asarray(image[tuple(map(slice, low, high))]).astype(np.float32)
        found.append(map_coordinates(box, (part - low).T, order=1, mode="constant", cval=np.nan))
    return np.concatenate(found)


def _lazy(image: Any) -> Any:
    import dask.array as da

    if not isinstance(image, da.Array):
        chunks = (1,) * (len(image.shape) - 2) + tuple(image.shape[-2:])
        image = da.from_array(image, chunks=chunks, name=False)  # a name of its own: to hash the pixels takes long
    return image.astype(np.float32)
