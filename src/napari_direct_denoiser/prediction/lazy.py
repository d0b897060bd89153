"""Lazy prediction: a dask array whose planes are denoised when they are computed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import as_planes, check_finite
from ..progress import drain
from .predict import denoise_into
from .tiling import Output

if TYPE_CHECKING:
    from ..co_model import CoModel


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
        The noisy image: a numpy, dask or zarr array. It is read plane by plane.
    output
        What to compute; ``"sample"`` has the samples as an additional first axis.
    axes
        One capital letter for each axis of the image.
    samples, seed, first
        As in `denoise_into`.

    Returns
    -------
    dask.array.Array
        float32, in the shape and units of the image.

    Raises
    ------
    ImageError, DenoiserError
        As `denoise_into`, when a plane is computed.
    """
    noisy = _in_blocks(image, [size if axis in "YX" else 1 for axis, size in zip(axes, image.shape, strict=True)])
    leading = tuple(size for axis, size in zip(axes, image.shape, strict=True) if axis not in "YX")

    def plane(block: NDArray[Any], block_info: Any = None) -> NDArray[np.float32]:
        place = [start for start, _ in block_info[0]["array-location"]]
        check_finite(as_planes(block, axes), origin=place)  # here, where its place in the image is known
        index = [at for axis, at in zip(axes, place, strict=True) if axis not in "YX"]
        number = first + (int(np.ravel_multi_index(index, leading)) if leading else 0)
        result = np.zeros((samples, *block.shape) if output == "sample" else block.shape, np.float32)
        drain(denoise_into(model, block, {output: result}, axes=axes, samples=samples, seed=seed, first=number))
        return result

    extra = {"new_axis": 0, "chunks": ((samples,), *noisy.chunks)} if output == "sample" else {}
    name = f"denoised-{uuid.uuid4().hex}"  # dask would hash the networks for a name
    return noisy.map_blocks(plane, dtype=np.float32, meta=np.empty((), np.float32), name=name, **extra)


def _in_blocks(image: Any, chunks: Sequence[int]) -> Any:
    import dask.array as da

    if isinstance(image, da.Array):
        return image.rechunk(tuple(chunks))  # type: ignore[no-untyped-call]
    # A name of its own: to hash the pixels takes long.
    return da.from_array(image, chunks=tuple(chunks), name=False)  # type: ignore[no-untyped-call]
