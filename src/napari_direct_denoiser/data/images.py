"""An n-D image as a stack of 2-D planes, and back; and the checks an image has to pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ImageError

_GUESSED_AXES = {2: "YX", 3: "TYX", 4: "TZYX", 5: "PTZYX"}
_COLOURS = {3: "RGB", 4: "RGBA"}

Region = tuple[slice, ...]
"""Part of an image: one slice for each of its axes."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Planes (P, H, W) in which those ``step`` apart may be successive frames of the same field."""

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
        Axes of the image as it came in, one letter each, such as ``"TYX"`` or ``"YXT"``.
    """

    data: NDArray[Any]
    leading: tuple[int, ...]
    axes: str

    @property
    def frames(self) -> Frames:
        """The planes, and how far apart neighbours along T lie in them, or along the last axis if there is no T."""
        others = "".join(axis for axis in self.axes if axis not in "YX")
        return Frames(self.data, math.prod(self.leading[others.find("T") + 1 :]) if "T" in others else 1)

    def restore(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        """Give planes the shape and the order of axes of the image.

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
        moved = _planes_last(self.axes)  # axes as they are now, after N
        order = [moved.index(axis) + len(samples) for axis in self.axes]
        return image.transpose((*range(len(samples)), *order)).astype(np.float32, copy=False)


def guess_axes(ndim: int) -> str:
    """Name the axes of an image that does not say: Y and X last, time first.

    Raises
    ------
    ImageError
        If there are fewer than 2 or more than 5 axes.
    """
    if ndim not in _GUESSED_AXES:
        raise ImageError(f"Expected an image with 2 to 5 axes, found {ndim}: name the axes, for example TZYX")
    return _GUESSED_AXES[ndim]


def named_axes(shape: tuple[int, ...], axes: str | None = None, *, name: str = "image") -> str:
    """Check the axes of an image of this shape, or guess them if not given; one capital letter for each.

    Raises
    ------
    ImageError
        If the axes do not match the shape, or the image is in colour.
    """
    if axes is None:
        if len(shape) > 2 and shape[-1] in _COLOURS:
            raise _colour_error(shape, shape[-1], name)
        axes = guess_axes(len(shape))
    axes = axes.upper()
    _check_axes(axes, shape, name)
    return axes


def plane_regions(shape: tuple[int, ...], axes: str) -> list[Region]:
    """Where each plane lies in an image of this shape: all of Y and X, and one index of every other axis, kept."""
    leading = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    regions = []
    for index in np.ndindex(*leading):
        where = iter(index)
        regions.append(tuple(slice(None) if axis in "YX" else slice(at := next(where), at + 1) for axis in axes))
    return regions


def sampled_planes(stacks: Sequence[NDArray[Any]], most: int) -> Iterator[NDArray[np.float32]]:
    """Give at most ``most`` planes (H, W) of stacks (planes, Y, X), evenly spread over all of them."""
    planes = [(stack, index) for stack in stacks for index in range(len(stack))]
    for number in np.unique(np.linspace(0, len(planes) - 1, min(len(planes), most)).astype(int)):
        stack, index = planes[number]
        yield np.ascontiguousarray(stack[index], dtype=np.float32)


def as_planes(image: ArrayLike, axes: str | None = None, *, name: str = "image") -> Planes:
    """See an image as a stack of 2-D planes.

    Parameters
    ----------
    image
        Anything that numpy takes, with at least two axes.
    axes
        One letter for each axis, with Y and X in any place; guessed from the number of axes if not given.
    name
        What to call the image in an error.

    Raises
    ------
    ImageError
        If the axes do not match the image, or the image is in colour.
    """
    data = np.asarray(image)
    if not data.dtype.isnative:  # as TIFF files may be; torch takes native numbers only
        data = data.astype(data.dtype.newbyteorder("="))
    axes = named_axes(data.shape, axes, name=name)
    moved = data.transpose([axes.index(axis) for axis in _planes_last(axes)])  # (..., H, W)
    leading, plane_shape = moved.shape[:-2], moved.shape[-2:]
    return Planes(moved.reshape((math.prod(leading), *plane_shape)), leading, axes)


def check_planes(
    planes: Planes, *, min_side: int, name: str = "image", require_contrast: bool = True, is_labels: bool = False
) -> None:
    """Refuse an image that cannot be denoised, before any work starts.

    Goes through the image plane by plane: no copy of the whole is made.

    Parameters
    ----------
    planes
        The image.
    min_side
        Smallest width and height that will do, in pixels.
    name
        What to call the image in an error.
    require_contrast
        Whether an image with one value everywhere is refused.
    is_labels
        Whether the caller knows that these are labels, not intensities. If not, it is judged from the pixels.

    Raises
    ------
    ImageError
        If the image is not made of real numbers, is empty, too small, constant, labels, or has NaN or infinite pixels.
    """
    data = planes.data
    if data.dtype.kind not in "uif":
        mend = {"b": "give the image that the mask was made from", "c": "take its magnitude first"}
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
    if data.dtype.kind == "f":
        _check_finite(planes, name)
    if is_labels or _looks_like_labels(data):
        raise ImageError(
            f"Expected intensities, found labels or a mask ({data.dtype}) in {name}: "
            "give the image that they were made from"
        )
    if require_contrast and all(plane.min() == plane.max() == data[0, 0, 0] for plane in data):
        raise ImageError(f"Expected an image with contrast, found {data[0, 0, 0]} in every pixel of {name}")


def _planes_last(axes: str) -> str:
    return "".join(axis for axis in axes if axis not in "YX") + "YX"


def _shape(planes: Planes) -> tuple[int, ...]:
    """Shape of the image that the planes were made from."""
    sizes = dict(zip(_planes_last(planes.axes), planes.leading + planes.data.shape[1:], strict=True))
    return tuple(sizes[axis] for axis in planes.axes)


def _check_axes(axes: str, shape: tuple[int, ...], name: str) -> None:
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ImageError(
            f"Expected one letter for each of the {len(shape)} axes of {name}, Y and X among them and none twice, "
            f"found {axes!r} for shape {shape}: name its axes, for example {_GUESSED_AXES.get(len(shape), 'TYX')}"
        )
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get("S") in _COLOURS:
        raise _colour_error(shape, sizes["S"], name)
    if sizes.get("C") in _COLOURS:
        raise ImageError(
            f"Expected a grayscale image, found {sizes['C']} channels in {name} of shape {shape}, axes {axes}: "
            "split the channels first, or name the axis otherwise if it is none"
        )


def _colour_error(shape: tuple[int, ...], colours: int, name: str) -> ImageError:
    found = f"{_COLOURS[colours]} of shape {shape}"
    return ImageError(f"Expected a 2-D or 3-D grayscale image, found {found} in {name}: convert it first")


def _check_finite(planes: Planes, name: str) -> None:
    bad, first = 0, None
    for index, plane in enumerate(planes.data):
        wrong = ~np.isfinite(plane)
        count = int(np.count_nonzero(wrong))
        if count and first is None:
            first = (*np.unravel_index(index, planes.leading), *np.unravel_index(wrong.argmax(), wrong.shape))
        bad += count
    if first is not None:
        where = dict(zip(_planes_last(planes.axes), first, strict=True))
        at = ", ".join(f"{axis}={where[axis]}" for axis in planes.axes)
        raise ImageError(
            f"Expected finite numbers, found {bad} NaN or infinite pixels in {name}, the first at {at}: "
            "replace them, for example by the median of their neighbours"
        )


def _looks_like_labels(data: NDArray[Any]) -> bool:
    """Whether whole numbers lie in patches of equal value, as no noisy image does.

    The commonest value does not count: the dark of a photon-counting image is flat as well.
    """
    if data.dtype.kind == "f":
        return False
    plane = data[len(data) // 2]
    values, counts = np.unique(plane, return_counts=True)
    inner = plane[:-1, :-1]
    foreground = inner != values[counts.argmax()]
    same = (inner == plane[:-1, 1:]) & (inner == plane[1:, :-1]) & foreground
    return bool(np.count_nonzero(same) > 0.8 * np.count_nonzero(foreground) > 0)
