"""An n-D image as a stack of 2-D planes and back, in memory or lazy, and the checks that an image has to pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ImageError
from .axes import Region, channel_count, guess_axes, named_axes, plane_regions, planes_last, take_channel

__all__ = [  # those of the axes as well: other rooms import all from here
    "Frames",
    "LazyPlanes",
    "PlaneStack",
    "Planes",
    "Region",
    "as_planes",
    "channel_count",
    "check_finite",
    "check_planes",
    "guess_axes",
    "middle",
    "named_axes",
    "plane_regions",
    "sampled_planes",
    "spread_over",
    "take_channel",
]

_LARGEST = float(np.finfo(np.float32).max)


class PlaneStack(Protocol):
    """Planes that are read one by one: an array (P, H, W), or `LazyPlanes`."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Frames:
    """Planes (P, H, W); those ``step`` apart may be successive frames of the same field, if there are so many."""

    planes: NDArray[Any]
    step: int = 1


@dataclass(frozen=True, eq=False)
class Planes:
    """An image as 2-D planes.

    Attributes
    ----------
    data
        The planes, ``(P, H, W)``, in the dtype of the image; a view of it where possible.
    leading
        Shape of the axes other than Y and X, in the order of `axes`; ``()`` for a single plane.
    axes
        Axes of the original image, one letter each, such as ``"TYX"`` or ``"YXT"``.
    """

    data: NDArray[Any]
    leading: tuple[int, ...]
    axes: str

    @property
    def frames(self) -> Frames:
        """The planes, with the distance between neighbours along T, or along the last axis if there is no T or Z."""
        return Frames(self.data, _frame_step(self.axes, self.leading))

    def restore(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        """Bring planes back to the shape and axis order of the image.

        Parameters
        ----------
        planes
            ``(P, H, W)``, or N samples of them, ``(N, P, H, W)``.

        Returns
        -------
        NDArray[np.float32]
            In the shape of the image; samples have an extra first axis N.
        """
        samples = planes.shape[:-3]  # () or (N,)
        image = planes.reshape(samples + self.leading + planes.shape[-2:])
        moved = planes_last(self.axes)  # order of the axes now, after N
        order = [moved.index(axis) + len(samples) for axis in self.axes]
        return image.transpose((*range(len(samples)), *order)).astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class LazyPlanes:
    """The planes (H, W) of an n-D image, each read when it is asked for; a dask or zarr array is never read whole.

    Attributes
    ----------
    data
        Any array that has a shape and is indexed like a numpy array.
    axes
        One capital letter for each axis, Y and X among them.
    """

    data: Any
    axes: str

    @cached_property
    def regions(self) -> Sequence[Region]:
        """Where each plane lies in the image; see `plane_regions`."""
        return plane_regions(tuple(self.data.shape), self.axes)

    @property
    def step(self) -> int:
        """How many planes successive frames of a field are apart; see `Frames`."""
        sides = zip(self.axes, self.data.shape, strict=True)
        return _frame_step(self.axes, [side for axis, side in sides if axis not in "YX"])

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, number: int) -> NDArray[Any]:
        plane: NDArray[Any] = as_planes(np.asarray(self.data[self.regions[number]]), self.axes).data[0]
        return plane

    def read(self, number: int, *, name: str = "image") -> Planes:
        """Read one plane as an image whose other axes have length 1.

        Raises
        ------
        ImageError
            As `check_finite`.
        """
        region = self.regions[number]
        planes = as_planes(np.asarray(self.data[region]), self.axes, name=name)
        check_finite(planes, name, [part.start or 0 for part in region])
        return planes


def _frame_step(axes: str, leading: Sequence[int]) -> int:
    """How many planes frames are apart. Planes of Z show different parts of the sample, however alike they look."""
    others = "".join(axis for axis in axes if axis not in "YX")
    if "T" not in others:
        return math.prod(leading) if "Z" in others else 1
    return math.prod(leading[others.find("T") + 1 :])


def sampled_planes(stacks: Sequence[PlaneStack], most: int) -> Iterator[NDArray[np.float32]]:
    """Read at most ``most`` planes (H, W), evenly spread over all stacks."""
    planes = [(stack, index) for stack in stacks for index in range(len(stack))]
    for number in spread_over(len(planes), most):
        stack, index = planes[number]
        yield np.array(stack[index], dtype=np.float32, order="C")  # a copy: an image may be read-only


def middle(side: int, most: int, multiple: int, start: int = 1) -> slice:
    """The middle of a side: as many pixels as are divisible by ``multiple``, at most ``most``.

    It begins at a multiple of ``start``.
    """
    length = min(side, most) // multiple * multiple
    begin = (side - length) // 2 // start * start
    return slice(begin, begin + length)


def spread_over(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` indices below ``count``, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def as_planes(image: ArrayLike, axes: str | None = None, *, name: str = "image") -> Planes:
    """View an image in memory as a stack of 2-D planes.

    Parameters
    ----------
    image
        An array-like with at least two axes.
    axes
        One letter for each axis, with Y and X in any place; guessed from the number of axes if not given.
    name
        What to call the image in an error.

    Raises
    ------
    ImageError
        As `named_axes`.
    """
    data = np.asarray(image)
    if not data.dtype.isnative:  # big-endian TIFF; torch takes native numbers only
        data = data.astype(data.dtype.newbyteorder("="))
    axes = named_axes(data.shape, axes, name=name)
    moved = data.transpose([axes.index(axis) for axis in planes_last(axes)])  # (..., H, W)
    leading, plane_shape = moved.shape[:-2], moved.shape[-2:]
    return Planes(moved.reshape((math.prod(leading), *plane_shape)), leading, axes)


def check_planes(
    planes: Planes, *, min_side: int, name: str = "image", require_contrast: bool = True, is_labels: bool = False
) -> None:
    """Refuse an image that cannot be denoised, before any work starts.

    The image is checked plane by plane, without a copy.

    Parameters
    ----------
    planes
        The image.
    min_side
        Smallest allowed width and height, pixels.
    name
        What to call the image in an error.
    require_contrast
        Refuse an image that has the same value everywhere.
    is_labels
        The caller knows that these are labels, not intensities. If False, the pixels decide.

    Raises
    ------
    ImageError
        If the pixels are no real numbers, the image is empty, too small, constant or a label image, or pixels are NaN,
        infinite or beyond float32.
    """
    data = planes.data
    if data.dtype.kind not in "uif":
        mend = {"b": "use the image that the mask was made from", "c": "take its magnitude first"}
        raise ImageError(
            f"Expected intensities as integers or floats, found {data.dtype} in {name}: "
            + mend.get(data.dtype.kind, "convert it first")
        )
    height, width = data.shape[1:]
    if data.size == 0:
        raise ImageError(f"Expected an image with pixels, found shape {_shape(planes)} in {name}: it is empty")
    if min(height, width) < min_side:
        raise ImageError(
            f"Expected planes of at least {min_side} x {min_side} pixels, found {height} x {width} in {name}: "
            "use a larger image, or name its axes if Y and X are others"
        )
    check_finite(planes, name)
    if is_labels or _looks_like_labels(data):
        raise ImageError(
            f"Expected intensities, found labels or a mask ({data.dtype}) in {name}: "
            "use the image that they were made from"
        )
    if require_contrast and all(plane.min() == plane.max() == data[0, 0, 0] for plane in data):
        raise ImageError(f"Expected an image with contrast, found {data[0, 0, 0]} in every pixel of {name}")


def _shape(planes: Planes) -> tuple[int, ...]:
    """Shape of the image that the planes were made from."""
    sizes = dict(zip(planes_last(planes.axes), planes.leading + planes.data.shape[1:], strict=True))
    return tuple(sizes[axis] for axis in planes.axes)


def check_finite(planes: Planes, name: str = "image", origin: Sequence[int] | None = None) -> None:
    """Refuse NaN and infinite pixels, and pixels that are infinite as float32.

    Parameters
    ----------
    planes
        The image, or a part of it.
    name
        What to call the image in an error.
    origin
        Where the part begins in the image: one index for each of its axes. All 0 if not given.

    Raises
    ------
    ImageError
        Names the first such pixel by its place in the image, and its value.
    """
    data = planes.data
    if data.dtype.kind != "f" or not data.size:
        return
    bad, first = 0, None
    for index, plane in enumerate(data):
        if max(-float(plane.min()), float(plane.max())) <= _LARGEST:  # False for NaN
            continue
        wrong = ~(np.abs(plane.astype(np.float64)) <= _LARGEST)
        if first is None:
            first = (*np.unravel_index(index, planes.leading), *np.unravel_index(wrong.argmax(), wrong.shape))
            value = float(plane[first[-2:]])
        bad += int(np.count_nonzero(wrong))
    if first is None:
        return
    where = dict(zip(planes_last(planes.axes), first, strict=True))
    start = dict(zip(planes.axes, origin or (0,) * len(planes.axes), strict=True))
    at = ", ".join(f"{axis}={where[axis] + start[axis]}" for axis in planes.axes)
    if math.isfinite(value):
        raise ImageError(
            f"Expected numbers within the range of float32 (up to 3.4e+38), found {value:.3g} in {name} at {at}: "
            "replace it, or divide the image by a constant"
        )
    raise ImageError(
        f"Expected finite numbers, found {bad} NaN or infinite pixels in {name}, the first at {at}: "
        "replace them, for example by the median of their neighbours"
    )


def _looks_like_labels(data: NDArray[Any]) -> bool:
    """Whether integers lie in patches of equal value, which does not happen in a noisy image.

    The most frequent value does not count: the background of a photon-counting image is flat too.
    """
    if data.dtype.kind == "f":
        return False
    plane = data[len(data) // 2]
    values, counts = np.unique(plane, return_counts=True)
    inner = plane[:-1, :-1]
    foreground = inner != values[counts.argmax()]
    same = (inner == plane[:-1, 1:]) & (inner == plane[1:, :-1]) & foreground
    return bool(np.count_nonzero(same) > 0.8 * np.count_nonzero(foreground) > 0)
