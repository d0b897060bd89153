"""Axes of an image, one letter each, and what they say: where the planes lie, and which axis holds channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ColourImageError, ImageError

_GUESSED_AXES = {2: "YX", 3: "TYX", 4: "TZYX", 5: "PTZYX"}
_COLOURS = {3: "RGB", 4: "RGBA"}

Region = tuple[slice, ...]
"""Part of an image: one slice for each of its axes."""


def guess_axes(ndim: int) -> str:
    """Guess the axes of an image from their number: Y and X last, time first.

    Raises
    ------
    ImageError
        If there are fewer than 2 or more than 5 axes.
    """
    if ndim not in _GUESSED_AXES:
        raise ImageError(f"Expected an image with 2 to 5 axes, found {ndim}: name its axes, for example TZYX")
    return _GUESSED_AXES[ndim]


def named_axes(shape: tuple[int, ...], axes: str | None = None, *, name: str = "image") -> str:
    """Check the axes of an image of this shape, or guess them if not given; one capital letter for each.

    Raises
    ------
    ColourImageError
        If the image is in colour.
    ImageError
        If the axes do not match the shape, or there are several channels.
    """
    if axes is None and _looks_like_colour(shape):
        raise _colour_error(shape, "YXS", name)
    axes = _letters(shape, axes, name)
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get("S") in _COLOURS:
        raise _colour_error(shape, axes, name)
    channels = sizes.get("C", 1)
    if channels > 1:
        raise ImageError(
            f"Expected one channel, found {channels} channels in {name} of shape {shape}, axes {axes}: choose one of "
            f"them (--channel 0 to {channels - 1}, channel=0 in Python), split the channels first, or rename the axis "
            "if it holds planes"
        )
    return axes


def take_channel(image: Any, axes: str | None, channel: int | None, *, name: str = "image") -> tuple[Any, str | None]:
    """Take one channel of an image by indexing, so that a dask array stays lazy.

    Parameters
    ----------
    image
        Any array that has a shape and is indexed like a numpy array.
    axes
        One letter for each axis; guessed if not given. C is the channel axis, or S (colours) where there is no C.
    channel
        Number of the channel, from 0; None leaves image and axes as they are.
    name
        What to call the image in an error.

    Returns
    -------
    tuple
        The image and its axes, both without the channel axis.

    Raises
    ------
    ImageError
        If there is no channel axis, or no such channel.
    """
    if channel is None:
        return image, axes
    shape = tuple(image.shape)
    if axes is None and _looks_like_colour(shape):
        axes = guess_axes(len(shape) - 1) + "S"
    axes = _letters(shape, axes, name)
    at = axes.find("C") if "C" in axes else axes.find("S")
    if at < 0:
        raise ImageError(
            f"Expected a channel axis (C) in {name}, found axes {axes} for shape {shape}: "
            "leave the channel out, or name the axes, for example TCYX"
        )
    if not 0 <= channel < shape[at]:
        raise ImageError(
            f"Expected a channel from 0 to {shape[at] - 1} of {name}, found {channel}: choose one of these"
        )
    return image[(slice(None),) * at + (channel,)], axes[:at] + axes[at + 1 :]


def channel_count(shape: tuple[int, ...], axes: str | None) -> int:
    """Number of channels that `take_channel` can take; 1 where there is no channel axis."""
    if axes is None:
        return shape[-1] if _looks_like_colour(shape) else 1
    sizes = dict(zip(axes.upper(), shape, strict=False))
    colours = sizes.get("S", 1)
    return sizes.get("C", colours if colours in _COLOURS else 1)


class PlaneRegions(Sequence[Region]):
    """Where each plane lies in an image of this shape: all of Y and X, and a slice of length 1 of every other axis.

    None is made before it is asked for: a file may promise any number of planes.
    """

    def __init__(self, shape: tuple[int, ...], axes: str) -> None:
        self._axes = axes
        self._leading = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]

    def __len__(self) -> int:
        return math.prod(self._leading)

    def __getitem__(self, number: Any) -> Any:
        place = range(len(self))[number]  # raises IndexError after the last one
        where = iter(np.unravel_index(place, self._leading) if self._leading else ())
        return tuple(slice(None) if axis in "YX" else slice(int(at := next(where)), int(at) + 1) for axis in self._axes)


def plane_regions(shape: tuple[int, ...], axes: str) -> Sequence[Region]:
    """Where each plane lies in an image of this shape; see `PlaneRegions`."""
    return PlaneRegions(shape, axes)


def planes_last(axes: str) -> str:
    """Order of the axes in which Y and X are last."""
    return "".join(axis for axis in axes if axis not in "YX") + "YX"


def _letters(shape: tuple[int, ...], axes: str | None, name: str) -> str:
    """Axes in capitals, guessed if not given; one letter for each, Y and X among them, none twice."""
    axes = guess_axes(len(shape)) if axes is None else axes.upper()
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ImageError(
            f"Expected one letter for each of the {len(shape)} axes of {name}, Y and X among them and none twice, "
            f"found {axes!r} for shape {shape}: name its axes, for example {_GUESSED_AXES.get(len(shape), 'TYX')}"
        )
    return axes


def _looks_like_colour(shape: tuple[int, ...]) -> bool:
    return len(shape) > 2 and shape[-1] in _COLOURS


def _colour_error(shape: tuple[int, ...], axes: str, name: str) -> ColourImageError:
    suggested = None
    if axes.endswith("S"):
        found = f"{_COLOURS[shape[-1]]} of shape {shape}"
        mend = "convert it first, or choose a channel (--channel 0, channel=0 in Python)"
    else:  # written plane by plane: libraries label any stack of three or four planes so
        found = f"planar {_COLOURS[shape[axes.index('S')]]} of shape {shape}"
        suggested = axes.replace("S", next(letter for letter in "ZTPQ" if letter not in axes))
        mend = (
            f'if it is a stack of planes, name its axes (--axes {suggested}, axes="{suggested}" in Python); '
            "if it is in colour, convert it first"
        )
    return ColourImageError(f"Expected a grayscale image, found {found} in {name}: {mend}", suggested)
