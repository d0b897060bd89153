"""Images that need not fit in memory: every plane is read when its turn comes, or when somebody looks at it.

An image is anything with a shape that is indexed like numpy's: a numpy, dask or zarr array.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import Region, as_planes, plane_regions
from ..errors import ImageError
from ..progress import Progress, Steps, WorkClock, drain
from .predict import predict_steps
from .tiling import Output

if TYPE_CHECKING:
    from ..co_model import CoModel

_UNITS = 1000  # of work a plane


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
    model: CoModel,
    image: Any,
    targets: Mapping[Output, Any],
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Generator[Progress, None, None]:
    """Denoise an image plane by plane into arrays; a generator of progress over all planes.

    Parameters
    ----------
    model
        Trained networks.
    image
        The noisy image.
    targets
        By output, an array of the shape of the image that takes it: numpy, zarr or like them. That of ``"sample"`` has
        one more axis in front, and takes as many of the samples as it is long.
    axes
        One capital letter for each axis of the image.
    samples, seed, first
        As in `predict_steps`.

    Raises
    ------
    ImageError
        At a plane with NaN or infinite pixels.
    DenoiserError
        If memory is out or a network fails.
    """
    regions = plane_regions(image.shape, axes)
    clock: WorkClock | None = None
    for number, region in enumerate(regions):
        planes = as_planes(read_plane(image, region, axes), axes)
        steps = Steps(
            predict_steps(model, planes.data, list(targets), samples=samples, seed=seed, first=first + number)
        )
        clock = clock or WorkClock(_UNITS * len(regions))
        done = _UNITS * number
        for progress in steps:
            now = done + round(_UNITS * progress.fraction)
            if clock.tick(now - clock.done):
                yield clock.progress()
        for output, target in targets.items():
            result = planes.restore(steps.result[output])
            if output == "sample":
                target[(slice(None), *region)] = result[: target.shape[0]]
            else:
                target[region] = result


def denoised(
    model: CoModel,
    image: Any,
    output: Output = "direct",
    *,
    axes: str,
    samples: int = 50,
    seed: int = 0,
    first: int = 0,
) -> Any:
    """Make a dask array whose blocks are planes, each denoised when it is computed.

    Parameters
    ----------
    model
        Trained networks.
    image
        The noisy image; it is read plane by plane.
    output
        What to compute; ``"sample"`` has the samples as an additional first axis.
    axes
        One capital letter for each axis of the image.
    samples, seed, first
        As in `predict_steps`.

    Returns
    -------
    dask.array.Array
        float32, in the shape and units of the image.

    Raises
    ------
    ImageError
        When a plane is computed, if it has NaN or infinite pixels.
    """
    noisy = _in_blocks(image, [size if axis in "YX" else 1 for axis, size in zip(axes, image.shape, strict=True)])
    leading = tuple(size for axis, size in zip(axes, image.shape, strict=True) if axis not in "YX")

    def plane(block: NDArray[Any], block_info: Any = None) -> NDArray[np.float32]:
        place = [start for start, _ in block_info[0]["array-location"]]
        _check_finite(block, place, axes)
        index = [at for axis, at in zip(axes, place, strict=True) if axis not in "YX"]
        number = first + (int(np.ravel_multi_index(index, leading)) if leading else 0)
        planes = as_planes(block, axes)
        return planes.restore(
            drain(predict_steps(model, planes.data, [output], samples=samples, seed=seed, first=number))[output]
        )

    extra = {"new_axis": 0, "chunks": ((samples,), *noisy.chunks)} if output == "sample" else {}
    name = f"denoised-{uuid.uuid4().hex}"  # dask would hash the networks for a name
    return noisy.map_blocks(plane, dtype=np.float32, meta=np.empty((), np.float32), name=name, **extra)


def _in_blocks(image: Any, chunks: Sequence[int]) -> Any:
    import dask.array as da

    if isinstance(image, da.Array):
        return image.rechunk(tuple(chunks))  # type: ignore[no-untyped-call]
    # A name of its own: to hash the pixels takes long.
    return da.from_array(image, chunks=tuple(chunks), name=False)  # type: ignore[no-untyped-call]


def _check_finite(plane: NDArray[Any], place: Sequence[int | None], axes: str) -> None:
    bad = plane.size - int(np.count_nonzero(np.isfinite(plane)))
    if bad:
        where = ", ".join(f"{axis}={at}" for axis, at in zip(axes, place, strict=True) if axis not in "YX")
        plane_words = f"plane {where}" if where else "image"
        raise ImageError(
            f"Expected finite numbers, found {bad} NaN or infinite pixels in the {plane_words}: "
            "replace them, for example by the median of their neighbours"
        )
