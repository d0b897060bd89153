"""Images that need not fit in memory: every plane is read when its turn comes, or when somebody looks at it.

An image is anything with a shape that is indexed like numpy's: a numpy, dask or zarr array.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError
from .images import Region, plane_regions
from .passes import Output, plan
from .prediction import Clock, PredictionProgress, run

if TYPE_CHECKING:
    from .denoiser import Denoiser


def read_plane(image: Any, region: Region, axes: str) -> NDArray[Any]:
    """Read one plane of an image, with all axes of the image.

    Raises
    ------
    ImageError
        If it holds NaN or infinite pixels.
    """
    plane = np.asarray(image[region])
    _check_finite(plane, [part.start for part in region], axes)
    return plane


def denoise_into(
    denoiser: Denoiser,
    image: Any,
    targets: Mapping[Output, Any],
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Generator[PredictionProgress, None, None]:
    """Denoise an image plane by plane into arrays; a generator of progress over all planes.

    Parameters
    ----------
    denoiser
        A trained model.
    image
        The noisy image.
    targets
        By output, an array of the shape of the image that takes it: numpy, zarr or like them. That of ``"sample"`` has
        one more axis in front, and takes as many of the samples as it is long.
    axes
        One capital letter for each axis of the image.
    samples, seed, first
        As in `Denoiser.denoise_steps`.

    Raises
    ------
    ImageError
        At a plane with NaN or infinite pixels.
    DenoiserError
        If memory is out or a network fails.
    """
    sides = tuple(size for axis, size in zip(axes, image.shape, strict=True) if axis in "YX")
    height, width = sides if axes.index("Y") < axes.index("X") else sides[::-1]
    regions = plane_regions(image.shape, axes)
    passes = plan(denoiser.model, (height, width), list(targets), samples)
    work = sum(each.work for each in passes)
    clock = Clock(len(regions) * work)
    for number, region in enumerate(regions):
        plane = read_plane(image, region, axes).astype(np.float32)
        steps = denoiser.denoise_steps(
            plane, list(targets), samples=samples, seed=seed, axes=axes, first=first + number
        )
        results = yield from _counted(steps, clock, work)
        for output, target in targets.items():
            if output == "sample":
                target[(slice(None), *region)] = results[output][: target.shape[0]]
            else:
                target[region] = results[output]


def denoised(
    denoiser: Denoiser,
    image: Any,
    output: Output = "direct",
    *,
    axes: str | None = None,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Any:
    """Make a dask array whose blocks are planes, each denoised when it is computed.

    Parameters
    ----------
    denoiser
        A trained model.
    image
        The noisy image; it is read plane by plane.
    output
        What to compute; ``"sample"`` has the samples as an additional first axis.
    axes
        One letter for each axis of the image; those of the training or a guess if not given.
    samples, seed, first
        As in `Denoiser.denoise_steps`.

    Returns
    -------
    dask.array.Array
        Of float32, in the image's shape and units.

    Raises
    ------
    ImageError
        If the axes do not match the image; when a plane is computed, if it has NaN or infinite pixels.
    """
    axes = denoiser.axes_of(tuple(image.shape), axes)
    noisy = _in_blocks(image, [size if axis in "YX" else 1 for axis, size in zip(axes, image.shape, strict=True)])
    leading = tuple(size for axis, size in zip(axes, image.shape, strict=True) if axis not in "YX")

    def plane(block: NDArray[Any], block_info: Any = None) -> NDArray[np.float32]:
        place = [start for start, _ in block_info[0]["array-location"]]
        _check_finite(block, place, axes)
        index = [at for axis, at in zip(axes, place, strict=True) if axis not in "YX"]
        number = first + (int(np.ravel_multi_index(index, leading)) if leading else 0)
        noisy = block.astype(np.float32)
        steps = denoiser.denoise_steps(noisy, [output], samples=samples, seed=seed, axes=axes, first=number)
        return run(steps)[output]

    extra = {"new_axis": 0, "chunks": ((samples,), *noisy.chunks)} if output == "sample" else {}
    name = f"denoised-{uuid.uuid4().hex}"  # dask would hash the networks for one
    return noisy.map_blocks(plane, dtype=np.float32, meta=np.empty((), np.float32), name=name, **extra)


def _in_blocks(image: Any, chunks: Sequence[int]) -> Any:
    import dask.array as da

    if isinstance(image, da.Array):
        return image.rechunk(tuple(chunks))  # type: ignore[no-untyped-call]
    # A name of its own: to hash the pixels takes long.
    return da.from_array(image, chunks=tuple(chunks), name=False)  # type: ignore[no-untyped-call]


def _counted(
    steps: Generator[PredictionProgress, None, dict[str, NDArray[np.float32]]], clock: Clock, work: int
) -> Generator[PredictionProgress, None, dict[str, NDArray[np.float32]]]:
    """Count the work of one plane as part of that of all, however many parts it takes."""
    done = 0
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            results: dict[str, NDArray[np.float32]] = end.value
            return results
        now = round(work * progress.done / progress.total)
        if clock.tick(now - done):
            yield clock.progress()
        done = now


def _check_finite(plane: NDArray[Any], place: Sequence[int | None], axes: str) -> None:
    bad = plane.size - int(np.count_nonzero(np.isfinite(plane)))
    if bad:
        where = ", ".join(f"{axis}={at}" for axis, at in zip(axes, place, strict=True) if axis not in "YX")
        plane_words = f"plane {where}" if where else "image"
        raise ImageError(
            f"Expected finite numbers, found {bad} NaN or infinite pixels in the {plane_words}: "
            "replace them, for example by the median of their neighbours"
        )
