"""One plane of a layer: the one in view, its number, and geometry of a layer exactly over it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .layers import Source, full_shape

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray


def plane_in_view(
    viewer: napari.Viewer, layer: Image, axes: str, shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Index of the plane of a layer in view: one number for each axis except Y and X, by the sliders of the viewer.

    `shape` is that of the data if it differs from the layer's, as that of one channel does.
    """
    here = np.round(layer.world_to_data(viewer.dims.point)).astype(int)
    inside = np.clip(here, 0, np.subtract(full_shape(layer) if shape is None else shape, 1))
    return tuple(int(index) for axis, index in zip(axes, inside, strict=True) if axis not in "YX")


def plane_number(shape: tuple[int, ...], axes: str, leading: tuple[int, ...]) -> int:
    """Number of a plane in an image of this shape, in the order of `images.plane_regions`."""
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    return int(np.ravel_multi_index(leading, sizes)) if sizes else 0


def source_of_plane(
    source: Source, layer: Image, axes: str, leading: tuple[int, ...], origin: tuple[int, int] = (0, 0)
) -> Source:
    """A source with the appearance of one of its planes: a layer made with it lies exactly over that plane.

    A layer that begins at the pixel `origin` (Y, X) of the plane lies exactly over that part.
    """
    where = iter(leading)
    corner = [origin["YX".index(axis)] if axis in "YX" else next(where) for axis in axes]
    affine = source.appearance["affine"].copy()
    affine[:-1, -1] += np.subtract(layer.data_to_world(corner), layer.data_to_world([0] * len(corner)))
    return replace(source, appearance={**source.appearance, "affine": affine})


def plane_words(source: Source, axes: str, leading: tuple[int, ...]) -> str:
    """Name a plane of a source: ``cells T=3``."""
    others = [(axis, size) for axis, size in zip(axes, source.shape, strict=True) if axis not in "YX"]
    named = [f"{axis}={index}" for (axis, size), index in zip(others, leading, strict=True) if size > 1]
    return " ".join([source.name, *named])


def as_plane_of(plane: NDArray[Any], axes: str) -> NDArray[Any]:
    """Give a plane (H, W) the axes of its image, all except Y and X with length 1."""
    turned = plane if axes.index("Y") < axes.index("X") else plane.T
    return turned[tuple(slice(None) if axis in "YX" else None for axis in axes)]
