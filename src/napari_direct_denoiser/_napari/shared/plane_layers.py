"""One plane of a layer: the one in view, its number, and layers that lie exactly over it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .layers import Source, full_shape

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray


def plane_in_view(viewer: napari.Viewer, layer: Image, axes: str) -> tuple[int, ...]:
    """Index of the plane of a layer that the sliders of the viewer point at: one number for each axis but Y and X."""
    here = np.round(layer.world_to_data(viewer.dims.point)).astype(int)
    inside = np.clip(here, 0, np.subtract(full_shape(layer), 1))
    return tuple(int(index) for axis, index in zip(axes, inside, strict=True) if axis not in "YX")


def plane_number(shape: tuple[int, ...], axes: str, leading: tuple[int, ...]) -> int:
    """Number of a plane in an image of this shape, as `images.plane_regions` counts them."""
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    return int(np.ravel_multi_index(leading, sizes)) if sizes else 0


def source_of_plane(source: Source, layer: Image, axes: str, leading: tuple[int, ...]) -> Source:
    """What a layer is made with that has but this plane of a source, and lies exactly where that lies."""
    where = iter(leading)
    corner = [0 if axis in "YX" else next(where) for axis in axes]
    affine = source.appearance["affine"].copy()
    affine[:-1, -1] += np.subtract(layer.data_to_world(corner), layer.data_to_world([0] * len(corner)))
    return replace(source, appearance={**source.appearance, "affine": affine})


def plane_words(source: Source, axes: str, leading: tuple[int, ...]) -> str:
    """Name a plane of a source: ``cells T=3``."""
    others = [axis for axis in axes if axis not in "YX"]
    return " ".join([source.name, *(f"{axis}={index}" for axis, index in zip(others, leading, strict=True))])


def as_plane_of(plane: NDArray[Any], axes: str) -> NDArray[Any]:
    """Give a plane (H, W) the axes of the image that it is from, each but Y and X of length 1."""
    turned = plane if axes.index("Y") < axes.index("X") else plane.T
    return turned[tuple(slice(None) if axis in "YX" else None for axis in axes)]
