"""Content of an image file, read when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from ..errors import ImageError, reason
from ..system import available_memory

_SMALL = 2**28  # bytes that are read without a look at the free memory
_UNKNOWN = frozenset("QI")  # letters of tifffile for axes that a file does not name

Index = tuple[int | slice, ...]


@dataclass(frozen=True, eq=False)
class ImageFile:
    """Content of an image file.

    Attributes
    ----------
    data
        The image, as stored: a numpy array, or a `LazyImage`.
    axes
        One letter for each axis as the file names them (Q, I: unknown); None if it does not, or not each one once.
    metadata
        What `plan_image` needs to plan a file of the same kind: ``kind`` (imagej, ome, plain, ome-zarr or zarr). Of a
        TIFF: ``resolution`` and ``resolutionunit`` of the tags, and ``fields`` (pixel size, unit and time step). Of an
        OME-Zarr: ``version``, and ``axes`` with ``scale``, ``translation`` and ``units`` of each.
    """

    data: Any
    axes: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known_axes(self) -> str | None:
        """The axes, if the file names all of them."""
        return None if self.axes is None or _UNKNOWN & set(self.axes) else self.axes


class Source(Protocol):
    """An array in a file. It holds no open file, so that there may be many; it is picklable and thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part: an integer or a slice for each axis."""


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An image in a file, of which the planes that are asked for are read. It is indexed by integers and slices.

    Attributes
    ----------
    path
        The file or folder.
    source
        The array in it.
    axes
        One letter for each axis; None if not known.
    """

    path: Path
    source: Source
    axes: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return self.source.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.source.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return self.source.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part of the image.

        Raises
        ------
        ImageError
            If a plane is damaged; it names the file and the plane. The others can be read.
        """
        full = _full_index(index, self.shape)
        self._check_memory(full)
        try:
            return self.source.read(full)
        except Exception as error:  # damaged files make the readers raise errors of every kind
            where, error = self._first_damaged(full, error)
            raise ImageError(
                f"Expected a whole file, found {self.path} with a damaged plane at {where} ({reason(error)}): "
                "copy or save the file again, or cut this plane off"
            ) from error

    def _check_memory(self, index: Index) -> None:
        """Refuse a part for which there is no memory: a file may promise any size."""
        sides = (len(numbers_of(part, side)) for part, side in zip(index, self.shape, strict=True))
        needed = math.prod(sides) * self.dtype.itemsize
        if needed > _SMALL and needed > (free := available_memory(torch.device("cpu"))):
            raise ImageError(
                f"Expected a part that fits into the free memory of {free / 1e9:.1f} GB, found {needed / 1e9:.1f} GB "
                f"in {self.path}, shape {self.shape}: close other programs, or write the result to a .zarr"
            )

    def _first_damaged(self, index: Index, error: Exception) -> tuple[str, Exception]:
        """Where the first plane is that cannot be read, and why."""
        axes = self.axes or ("?" * self.ndim + "YX")[-self.ndim :]
        names = self.axes or [f"axis {number}" for number in range(self.ndim)]
        for plane in _planes(index, self.shape, axes):
            try:
                self.source.read(plane)
            except Exception as found:
                at = (f"{name}={part}" for name, axis, part in zip(names, axes, plane, strict=True) if axis not in "YX")
                return ", ".join(at) or "its only plane", found
        return "an unknown place", error


def _full_index(index: Any, shape: tuple[int, ...]) -> Index:
    """An integer or a slice for each axis."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(part is Ellipsis for part in parts):
        at = next(number for number, part in enumerate(parts) if part is Ellipsis)
        parts = parts[:at] + (slice(None),) * (len(shape) - len(parts) + 1) + parts[at + 1 :]
    parts += (slice(None),) * (len(shape) - len(parts))
    if len(parts) != len(shape):
        raise IndexError(f"Expected at most {len(shape)} indices, found {len(parts)}")
    full: list[int | slice] = []
    for part, side in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            if part.step is not None and part.step < 1:
                raise IndexError(f"Expected slices that go forward, found {part}")
        else:
            part = range(side)[part]  # raises IndexError beyond the end, TypeError for other than an integer
        full.append(part)
    return tuple(full)


def _planes(index: Index, shape: tuple[int, ...], axes: str) -> Iterator[Index]:
    """Indices of the single planes of a part."""
    sides = [
        [part] if axis in "YX" else numbers_of(part, side) for axis, part, side in zip(axes, index, shape, strict=True)
    ]
    return product(*sides)


def numbers_of(part: int | slice, side: int) -> range:
    """Indices along an axis that an integer or a slice stands for."""
    return range(*part.indices(side)) if isinstance(part, slice) else range(part, part + 1)


@dataclass(frozen=True)
class MappedArray:
    """An uncompressed array that lies in one piece in a file."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str = "C"

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part: an integer or a slice for each axis."""
        # Opened anew for every read: a map keeps its file open, and there may be thousands of them.
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)  # type: ignore[call-overload]
        return np.array(mapped[index])
