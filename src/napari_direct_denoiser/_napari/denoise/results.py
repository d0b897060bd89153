"""From the choices in the Denoise dock to a request, and from its results to layers and zarr folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ...data.images import plane_regions
from ...data.ome_zarr import check_zarr_target
from ...errors import SettingError
from ..shared.layers import facts, result_layer
from ..shared.plane_layers import plane_in_view, plane_number, plane_words, source_of_plane
from .runs import DIRECT_PASS, Request, Result

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

    from ..shared.turns import Turns


def check_choices(request: Request) -> None:
    """Raise `SettingError` for choices that do not fit together."""
    if not request.outputs:
        raise SettingError("Expected at least one output of the samples, found none checked: check Mean, for example")
    drawn = request.settings.samples
    if "sample" in request.outputs and request.kept > drawn:
        raise SettingError(
            f"Expected at most as many single samples as are drawn, {drawn}, found {request.kept}: "
            "keep fewer or draw more"
        )
    if request.as_looked_at and not DIRECT_PASS.issuperset(request.outputs):
        raise SettingError(
            "Expected the direct pass for a result “as looked at”, found samples, which are too slow to compute while "
            "you move a slider: choose In memory or Zarr folder"
        )


def check_scheduler(scheduler: str, result: str) -> None:
    """Raise `SettingError` if there is a scheduler, and the result is not what its workers write."""
    if scheduler and result != "zarr folder":
        raise SettingError(
            f"Expected the zarr folder as result, which the workers of {scheduler} write together, found {result}: "
            "choose Zarr folder, or leave Scheduler empty"
        )


def only_plane_in_view(request: Request, viewer: napari.viewer.Viewer, layer: Image) -> Request:
    """Restrict a request to the plane of its layer that the sliders of the viewer point at."""
    source, axes = request.source, request.axes
    leading = plane_in_view(viewer, layer, axes, source.shape)
    number = plane_number(source.shape, axes, leading)
    return replace(
        request,
        source=replace(source_of_plane(source, layer, axes, leading), name=plane_words(source, axes, leading)),
        region=plane_regions(source.shape, axes)[number],
        first=number,
    )


def into_zarr(requests: Sequence[Request], parent: QWidget, layers: Sequence[Layer]) -> list[Request]:
    """Ask for the folder to write the zarr folders of some layers to; no requests if the person cancels.

    Raises
    ------
    SettingError
        If they cannot be written there, one of them is an image that is to be denoised, or two have one name.
    """
    chosen = QFileDialog.getExistingDirectory(parent, "Folder for the zarr folders")
    if not chosen:
        return []
    requests = [replace(request, folder=Path(chosen)) for request in requests]
    sizes: dict[Path, int] = {}
    for request in requests:
        for each in request.outputs:
            path = request.path(each)
            assert path is not None
            if path in sizes:
                raise SettingError(
                    f"Expected layers whose results have different names, found {path.name} twice: rename"
                )
            sizes[path] = request.dtype(each).itemsize * prod(request.shape(each))
    places = [facts(layer).get("path") or layer.source.path for layer in layers]
    return requests if _may_write(parent, sizes, [Path(place) for place in places if place is not None]) else []


def _may_write(parent: QWidget, needed_bytes: Mapping[Path, int], sources: Sequence[Path]) -> bool:
    """Check that zarr folders of these sizes (uncompressed) can be written, and ask before any is replaced."""
    kept = {folder for source in sources for folder in (source.resolve(), *source.resolve().parents)}
    for path in needed_bytes:
        check_zarr_target(path, sum(needed_bytes.values()))
        if path.resolve() in kept:
            raise SettingError(f"Expected a folder other than that of the image itself, found {path}: choose another")
    there = [path.name for path in needed_bytes if path.exists()]
    if not there:
        return True
    words = f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'}. Replace?"
    return QMessageBox.question(parent, "Replace?", words) == QMessageBox.StandardButton.Yes


def add_results(
    turns: Turns,
    viewer: napari.viewer.Viewer,
    request: Request,
    results: Sequence[Result],
    seconds: float,
    then: Callable[[Sequence[str]], object],
) -> None:
    """Add results as layers over their source, the first one on top, one in each turn; then hand over their names."""
    names: list[str] = []

    def add(result: Result) -> None:
        names.insert(0, _add(viewer, request, result, seconds))

    for result in reversed(results):
        turns.add(result.output, partial(add, result))
    turns.add("then", lambda: then(names))


def _add(viewer: napari.viewer.Viewer, request: Request, result: Result, seconds: float) -> str:
    measured = None if request.as_looked_at else seconds  # nothing is computed yet
    known, path = request.facts(result.output, measured), request.path(result.output)
    if path is not None:
        known["path"] = str(path)
        _remove_replaced(viewer, str(path))
    samples = request.samples(result.output)
    data, keywords = result_layer(
        request.source, result.data, result.output, known, samples, result.limits, request.axes
    )
    return str(viewer.add_image(data, multiscale=isinstance(data, list), **keywords).name)


def _remove_replaced(viewer: napari.viewer.Viewer, path: str) -> None:
    """Remove layers of a zarr folder that has been replaced."""
    for layer in list(viewer.layers):
        if facts(layer).get("path") == path:
            viewer.layers.remove(layer)
