"""Parts of an image that are not read before they become numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int | range, ...]


class View:
    """A part of an image, indexed as a numpy array is; an index gives another view, and reads nothing.

    An array of dask can do the same, but the time it takes for an index grows with the number of its blocks: a second
    for 100 000. A view is pickled with the image, which should be one of `open_image`.

    Parameters
    ----------
    image
        Any array that has a shape and is indexed like a numpy array.
    index
        The part of it: one index or range for each axis; all of it if not given.
    """

    def __init__(self, image: Any, index: Index | None = None) -> None:
        self.image = image
        self.index: Index = tuple(map(range, image.shape)) if index is None else index
        self.dtype = np.dtype(image.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that have a range."""
        return tuple(len(part) for part in self.index if isinstance(part, range))

    @property
    def ndim(self) -> int:
        """Number of these axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> View:
        keys = iter(key if isinstance(key, tuple) else (key,))
        index = (part[next(keys, slice(None))] if isinstance(part, range) else part for part in self.index)
        return View(self.image, tuple(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        where = (slice(part.start, part.stop, part.step) if isinstance(part, range) else part for part in self.index)
        return np.asarray(self.image[tuple(where)], dtype)


def sliceable(image: Any) -> Any:
    """Give an array whose parts are not read: a numpy or dask array as it is, a view of any other."""
    in_memory = isinstance(image, np.ndarray) and not isinstance(image, np.memmap)
    return image if in_memory or hasattr(image, "__dask_graph__") or isinstance(image, View) else View(image)
