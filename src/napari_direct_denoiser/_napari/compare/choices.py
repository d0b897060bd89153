"""Which layers can be compared with which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image

from ...errors import ImageError
from ..shared.layers import facts, full_shape
from .views import is_view

if TYPE_CHECKING:
    import napari

MAPS = ("std", "sample_std", "deviation", "difference", "disagreement")
"""Methods whose layers are not images to compare but maps; version 0.1 wrote ``deviation``."""
_METHODS = ("direct", "mean", "median")


def images_of(viewer: napari.Viewer) -> list[Image]:
    """Image layers that can be compared: no maps, no layers of a view."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and not is_view(layer)]
    return [layer for layer in images if facts(layer).get("method") not in MAPS]


def is_result_of(layer: Image, noisy: Image) -> bool:
    known = facts(layer)
    fits = full_shape(layer) == full_shape(noisy)
    return known.get("source") == noisy.name and known.get("method") in _METHODS and fits


def check_fit(noisy: Image, layer: Image, axes: str, *, one_plane: bool = False) -> None:
    """Raise `ImageError` if a layer has another shape than the noisy one (or than one plane of it, if that will do)."""
    expected, found = full_shape(noisy), full_shape(layer)
    plane = tuple(size for axis, size in zip(axes, expected, strict=True) if axis in "YX")
    if found != expected and not (one_plane and found == plane):
        raise ImageError(
            f"Expected the shape of {noisy.name!r}, {expected}, found {found} in {layer.name!r}: "
            "choose images that belong together"
        )
