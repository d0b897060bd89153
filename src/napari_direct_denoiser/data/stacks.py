"""Images to train on, as stacks of planes: in memory, or read when needed where they are larger than a part of it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..errors import ImageError
from ..system import available_memory
from .axes import named_axes, take_channel
from .images import Frames, LazyPlanes, as_planes, check_planes, spread_over
from .views import sliceable

_WHOLE_SHARE = 1 / 8  # of the free memory: smaller images are read whole
_MOST_WHOLE = 2**30  # bytes, all images together
_CACHED_BYTES = 2**29  # of planes of larger images
_CHECKED = 9  # planes of each large image that are checked before training; the others are when they are read


def open_stacks(
    images: ArrayLike | Sequence[ArrayLike],
    axes: str | Sequence[str | None] | None = None,
    *,
    min_side: int,
    channel: int | None = None,
    names: Sequence[str] = (),
) -> tuple[list[Frames], str]:
    """View images as stacks of planes that can be trained on.

    Parameters
    ----------
    images
        One image, or a list of images. numpy arrays stay as they are. Other arrays, such as dask and zarr arrays, and
        memory-mapped files are read whole if all are below 1 GiB and an eighth of the free memory together. Otherwise
        their planes are read when they are needed, and the last 512 MiB of them are kept.
    axes
        One letter for each axis; guessed from the number of axes if not given. A list has those of each image.
    min_side
        Smallest allowed width and height, pixels.
    channel
        Take this channel of the images, from 0.
    names
        What to call each image in an error.

    Returns
    -------
    stacks : list of Frames
        One for each image.
    axes : str
        Those of the first image, without the channel that was taken.

    Raises
    ------
    ImageError
        If there is no image, or one cannot be trained on. Of images that stay unread, some planes are checked; the
        others raise it when they are read.
    """
    many = list(images) if isinstance(images, list | tuple) else [images]
    if not many:
        raise ImageError("Expected at least one image to train on, found none: give one")
    names = names or (["image"] if len(many) == 1 else [f"image {number + 1}" for number in range(len(many))])
    all_axes = [axes] * len(many) if axes is None or isinstance(axes, str) else axes
    opened: list[tuple[Any, str]] = []
    for image, name, its_axes in zip(many, names, all_axes, strict=True):
        array = sliceable(image) if hasattr(image, "shape") else np.asarray(image)
        array, its_axes = take_channel(array, its_axes, channel, name=name)
        opened.append((array, named_axes(tuple(array.shape), its_axes, name=name)))
    unread = sum(_bytes(array) for array, _ in opened if _is_lazy(array))
    whole = unread <= min(_MOST_WHOLE, _WHOLE_SHARE * available_memory(torch.device("cpu")))
    cache = PlaneCache(_CACHED_BYTES, max(_plane_bytes(array, its_axes) for array, its_axes in opened))
    stacks = []
    for (array, its_axes), name in zip(opened, names, strict=True):
        if whole or not _is_lazy(array):
            planes = as_planes(np.asarray(array), its_axes, name=name)
            check_planes(planes, min_side=min_side, name=name)
            stacks.append(planes.frames)
        else:
            stacks.append(_cached(array, its_axes, cache, name, min_side))
    return stacks, opened[0][1]


class PlaneCache:
    """The planes that were read last, of any number of images.

    Parameters
    ----------
    most_bytes
        Memory for planes.
    plane_bytes
        Memory of the largest plane.
    """

    def __init__(self, most_bytes: int, plane_bytes: int) -> None:
        self.planes = max(most_bytes // max(plane_bytes, 1), 1)
        """How many planes are kept."""
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def plane(self, key: tuple[int, int], read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Give a plane, read if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        plane = read()
        with self._lock:
            self._kept[key] = plane
            while len(self._kept) > self.planes:
                self._kept.popitem(last=False)
        return plane


class CachedPlanes:
    """The planes (P, H, W) of an image, read through a cache; indexed like an array, by the number of a plane first.

    Attributes
    ----------
    shape, dtype
        Those of the planes.
    cached_planes
        How many planes the cache keeps, of this image and others.
    """

    def __init__(self, planes: LazyPlanes, cache: PlaneCache, name: str) -> None:
        sizes = dict(zip(planes.axes, planes.data.shape, strict=True))
        self.shape = len(planes), sizes["Y"], sizes["X"]
        self.ndim = len(self.shape)
        self.dtype = np.dtype(planes.data.dtype).newbyteorder("=")
        self.cached_planes = cache.planes
        self._planes, self._cache, self._name = planes, cache, name

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        number, *region = key if isinstance(key, tuple) else (key,)
        plane = self._cache.plane((id(self), int(number)), lambda: self._read(int(number)))
        part: NDArray[Any] = plane[tuple(region)]
        return part

    def _read(self, number: int) -> NDArray[Any]:
        plane: NDArray[Any] = self._planes.read(number, name=self._name).data[0]
        return plane


def _cached(array: Any, axes: str, cache: PlaneCache, name: str, min_side: int) -> Frames:
    lazy, values = LazyPlanes(array, axes), set()
    if not len(lazy):
        raise ImageError(f"Expected an image with pixels, found shape {tuple(array.shape)} in {name}: it is empty")
    for number in spread_over(len(lazy), _CHECKED):
        planes = lazy.read(int(number), name=name)
        check_planes(planes, min_side=min_side, name=name, require_contrast=False)
        values |= {planes.data.min(), planes.data.max()}
    if len(values) == 1:
        raise ImageError(f"Expected an image with contrast, found {values.pop()} in every pixel of {name}")
    return Frames(cast("NDArray[Any]", CachedPlanes(lazy, cache, name)), lazy.step)


def _is_lazy(array: Any) -> bool:
    return not isinstance(array, np.ndarray)


def _bytes(array: Any) -> int:
    return int(math.prod(array.shape) * np.dtype(array.dtype).itemsize)


def _plane_bytes(array: Any, axes: str) -> int:
    sizes = dict(zip(axes, array.shape, strict=True))
    return int(sizes["Y"] * sizes["X"] * np.dtype(array.dtype).itemsize)
