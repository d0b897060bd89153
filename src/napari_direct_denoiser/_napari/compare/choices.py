"""Which layers can be compared with which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image

from ...data.images import LazyPlanes
from ...errors import ImageError
from ..shared.layers import facts, full_shape, read_layer
from .views import is_view

if TYPE_CHECKING:
    import napari

MAPS = ("std", "sample_std", "deviation", "difference", "disagreement")
"""Methods whose layers are not images to compare but maps; version 0.1 wrote ``deviation``."""
_STD = ("std", "sample_std", "deviation")
_METHODS = ("direct", "mean", "median")


def images_of(viewer: napari.Viewer) -> list[Image]:
    """Image layers that can be compared: no maps, no layers of a view."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and not is_view(layer)]
    return [layer for layer in images if facts(layer).get("method") not in MAPS]


def is_result_of(layer: Image, noisy: Image) -> bool:
    known = facts(layer)
    fits = full_shape(layer) == full_shape(noisy)
    return known.get("source") == noisy.name and known.get("method") in _METHODS and fits


def std_of(layer: Image, viewer: napari.Viewer) -> Image | None:
    """The layer with the standard deviation of a direct result: that of the direct pass, or else that of samples."""
    known = facts(layer)
    if known.get("method") != "direct":
        return None

    def belongs(other: Image) -> bool:
        if facts(other).get("source") != known.get("source") or full_shape(other) != full_shape(layer):
            return False
        return np.allclose(other.affine.affine_matrix, layer.affine.affine_matrix)

    found = [other for other in reversed(viewer.layers) if isinstance(other, Image) and belongs(other)]  # newest first
    by_method = {facts(other).get("method"): other for other in reversed(found)}
    return next((by_method[method] for method in _STD if method in by_method), None)


def check_fit(noisy: Image, layer: Image, axes: str, *, one_plane: bool = False) -> None:
    """Raise `ImageError` if a layer has another shape than the noisy one (or than one plane of it, if that will do)."""
    expected, found = full_shape(noisy), full_shape(layer)
    plane = tuple(size for axis, size in zip(axes, expected, strict=True) if axis in "YX")
    if found != expected and not (one_plane and found == plane):
        raise ImageError(
            f"Expected the shape of {noisy.name!r}, {expected}, found {found} in {layer.name!r}: "
            "choose images that belong together"
        )


def true_planes(noisy: Image, truth: Image | None, axes: str) -> LazyPlanes | None:
    """Planes of the truth, if there is one; `ImageError` if it does not fit the noisy layer."""
    if truth is None:
        return None
    check_fit(noisy, truth, axes, one_plane=True)
    return LazyPlanes(read_layer(truth).data, axes if full_shape(truth) == full_shape(noisy) else "YX")
