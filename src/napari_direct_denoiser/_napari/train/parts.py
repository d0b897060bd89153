"""Parts of the training data: layers, or rectangles of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.images import Planes, check_planes, named_axes
from ...data.views import sliceable
from ...errors import DenoiserError, ImageError
from ...presets import PRESETS
from ..shared.layers import Source, full_shape

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

MIN_SIDE = max(preset.schedule.patch for preset in PRESETS.values())


class NotReadyError(DenoiserError):
    """Something is missing before training can start: a few words for the button, and a sentence."""

    def __init__(self, short: str, words: str) -> None:
        super().__init__(words)
        self.short = short


@dataclass(frozen=True, eq=False)
class Part:
    """A layer, or a rectangle of all its planes."""

    source: Source
    axes: str
    """One letter for each axis."""
    rows: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))

    @property
    def planes_shape(self) -> tuple[int, int, int]:
        """Number and sides of the planes: (planes, Y, X)."""
        sizes = dict(zip(self.axes, self.source.shape, strict=True))
        height, width = (len(range(sizes[axis])[part]) for axis, part in (("Y", self.rows), ("X", self.columns)))
        return math.prod(size for axis, size in sizes.items() if axis not in "YX"), height, width

    def pixels(self) -> Any:
        """The pixels, with all axes; those of a lazy layer are not read."""
        cut = {"Y": self.rows, "X": self.columns}
        return sliceable(self.source.data)[tuple(cut.get(axis, slice(None)) for axis in self.axes)]


def parts_of(
    layers: Sequence[Image], shapes: Shapes | None, read: Callable[[Image], tuple[Source, str | None]]
) -> list[Part]:
    """List the parts to train on, after all checks that need no pixels.

    Parameters
    ----------
    layers
        The layers to train on.
    shapes
        The Shapes layer whose rectangles to train on; None for the whole layers.
    read
        Reads a layer, and gives the letters of its axes if they are known.

    Raises
    ------
    NotReadyError
        If something is missing or wrong.
    """
    if not layers:
        raise NotReadyError(
            "open an image", "Open an image to train on, or a sample: File > Open Sample > Simulated filaments."
        )
    parts = []
    for layer in layers:
        source, letters = read(layer)
        with refused("correct the axes"):
            axes = named_axes(source.shape, letters, name=repr(source.name))
        with refused("draw a rectangle"):
            places = [(slice(None), slice(None))] if shapes is None else regions(layer, axes, shapes)
        parts += [Part(source, axes, *place) for place in places]
    with refused("choose another image" if shapes is None else "draw a larger rectangle"):
        for part in parts:
            check_part(part)
    return parts


@contextmanager
def refused(mend: str) -> Iterator[None]:
    """Turn an error into `NotReadyError`, with a few words on what mends it."""
    try:
        yield
    except DenoiserError as error:
        raise NotReadyError(mend, str(error)) from error


def check_part(part: Part) -> None:
    """Check what can be checked without reading a pixel.

    Raises
    ------
    ImageError
        If the pixels are not intensities, or the planes are too small.
    """
    # One plane of the same shape and kind of numbers, which takes no memory, stands for the real ones
    kind = np.dtype(getattr(part.source.data, "dtype", float))
    values = np.zeros((), np.float16 if kind.kind in "uif" else kind)
    count, height, width = part.planes_shape
    if min(height, width) >= MIN_SIDE:
        height = width = MIN_SIDE
    plane = Planes(np.broadcast_to(values, (min(count, 1), height, width)), (), "YX")
    check_planes(plane, min_side=MIN_SIDE, name=repr(part.source.name), require_contrast=False)


def regions(layer: Image, axes: str, shapes: Shapes) -> list[tuple[slice, slice]]:
    """Rows and columns of a layer that each rectangle of a Shapes layer touches.

    Raises
    ------
    ImageError
        If there is no rectangle, or one lies outside the layer.
    """
    size = dict(zip(axes, full_shape(layer), strict=False))  # colours come last
    found = []
    for kind, corners in zip(shapes.shape_type, shapes.data, strict=True):
        if kind != "rectangle":
            continue
        here = np.array([layer.world_to_data(shapes.data_to_world(corner)) for corner in corners])  # (4, axes)
        limits = []
        for axis in "YX":
            places = np.round(here[:, axes.index(axis)] + 0.5, 6)  # pixel 0 reaches from -0.5 to 0.5
            low, high = np.clip([np.floor(places.min()), np.ceil(places.max())], 0, size[axis])
            limits.append(slice(int(low), int(high)))
        rows, columns = limits
        if rows.start >= rows.stop or columns.start >= columns.stop:
            raise ImageError(
                f"Expected rectangles inside {layer.name!r}, found one outside in {shapes.name!r}: move or delete it"
            )
        found.append((rows, columns))
    if not found:
        raise ImageError(f"Expected a rectangle in {shapes.name!r}, found none: draw one, or choose the whole image")
    return found
