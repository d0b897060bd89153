"""Denoised images in the dtype of the noisy one: rounded and clipped to its range, never wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    from ..config import ResultDtype


def to_dtype(image: ArrayLike, dtype: DTypeLike) -> tuple[NDArray[Any], int]:
    """Convert float32 pixels to another dtype.

    Parameters
    ----------
    image
        float32, of any shape, finite.
    dtype
        Integers: pixels are rounded to the nearest one, halves to the even one. Floats: pixels stay as they are, as
        exactly as the dtype can hold them. Either way, pixels beyond its range become its lowest or highest number.

    Returns
    -------
    converted : ndarray
        In native byte order.
    clipped : int
        How many pixels were beyond the range.
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    pixels = np.asarray(image, np.float32)
    if dtype.kind == "f" and dtype.itemsize >= pixels.itemsize:
        return pixels.astype(dtype, copy=False), 0
    low, high = _range(dtype)
    if dtype.kind in "ui":
        pixels = np.rint(pixels)
    clipped = int(np.count_nonzero((pixels < low) | (pixels > high)))
    return (pixels.clip(low, high) if clipped else pixels).astype(dtype), clipped


def result_dtype(choice: ResultDtype, image: DTypeLike, output: str) -> np.dtype[Any]:
    """Dtype of a result: float32, or that of the image; a standard deviation is float32, as it is often below 1."""
    same = choice == "same" and output not in ("std", "sample_std")
    return np.dtype(image if same else np.float32).newbyteorder("=")


def _range(dtype: np.dtype[Any]) -> tuple[np.float32, np.float32]:
    """Lowest and highest float32 that the dtype can hold."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = np.float32(limits.min), np.float32(limits.max)
    # float32 rounds 2**31 - 1 up to 2**31, which would wrap
    return low, high if float(high) <= limits.max else np.nextafter(high, np.float32(0))


class Converting:
    """An array that receives float32 pixels part by part, and holds them in its own dtype; see `to_dtype`.

    Attributes
    ----------
    array
        What receives the pixels: a numpy or zarr array of any real dtype.
    clipped
        How many pixels were beyond its range so far.
    """

    def __init__(self, array: Any) -> None:
        self.array, self.clipped = array, 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return len(self.shape)

    def __setitem__(self, part: Any, pixels: ArrayLike) -> None:
        self.array[part], clipped = to_dtype(pixels, self.array.dtype)
        self.clipped += clipped
