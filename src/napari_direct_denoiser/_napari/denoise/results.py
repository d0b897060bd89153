"""From the layers of a viewer to what the Denoise dock asks for, and from its results to layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

from ...data.images import plane_regions
from ...errors import SettingError
from ..shared.layers import facts, result_layer
from ..shared.plane_layers import plane_in_view, plane_number, plane_words, source_of_plane
from .runs import Request, Result
from .zarr_dialog import ask_for_folder, may_write

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

_FLOAT_BYTES = 4


def check_choices(request: Request) -> None:
    """Raise `SettingError` for choices that do not go together."""
    if not request.outputs:
        raise SettingError("Expected something to make of the samples, found nothing checked: check Mean, for example")
    drawn = request.settings.samples
    if "sample" in request.outputs and request.kept > drawn:
        raise SettingError(
            f"Expected at most as many single samples as are drawn, {drawn}, found {request.kept}: "
            "keep fewer or draw more"
        )
    if request.as_looked_at and request.outputs != ("direct",):
        raise SettingError(
            "Expected the direct pass for a result “as looked at”, found samples, which take too long while you move "
            "a slider: choose In memory or Zarr folder"
        )


def only_plane_in_view(request: Request, viewer: napari.viewer.Viewer, layer: Image) -> Request:
    """Ask for the one plane of a layer that the sliders of the viewer point at."""
    source, axes = request.source, request.axes
    leading = plane_in_view(viewer, layer, axes)
    number = plane_number(source.shape, axes, leading)
    return replace(
        request,
        source=replace(source_of_plane(source, layer, axes, leading), name=plane_words(source, axes, leading)),
        region=plane_regions(source.shape, axes)[number],
        first=number,
    )


def into_zarr(request: Request, parent: QWidget, layer: Layer) -> Request | None:
    """Ask where zarr folders are to go; None if a person would rather not. `SettingError` where they cannot."""
    folder = ask_for_folder(parent)
    if folder is None:
        return None
    request = replace(request, folder=folder)
    sizes = {path: _FLOAT_BYTES * prod(request.shape(each)) for each in request.outputs if (path := request.path(each))}
    place = facts(layer).get("path") or layer.source.path
    return request if may_write(parent, sizes, None if place is None else Path(place)) else None


def add_results(viewer: napari.viewer.Viewer, request: Request, results: Sequence[Result], seconds: float) -> list[str]:
    """Add results as layers over their source; gives their names. The first one lies on top."""
    names = []
    measured = None if request.as_looked_at else seconds  # nothing is computed yet
    for result in reversed(results):
        known, path = request.facts(result.output, measured), request.path(result.output)
        if path is not None:
            known["path"] = str(path)
            _remove_replaced(viewer, str(path))
        samples = request.samples(result.output)
        data, keywords = result_layer(request.source, result.data, result.output, known, samples, result.limits)
        names.append(viewer.add_image(data, **keywords).name)
    return names[::-1]


def _remove_replaced(viewer: napari.viewer.Viewer, path: str) -> None:
    """Remove layers of a zarr folder that is no more what it was."""
    for layer in list(viewer.layers):
        if facts(layer).get("path") == path:
            viewer.layers.remove(layer)
