"""The layer that shows the plane in view as the model in training denoises it now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from ..shared.layers import METADATA_KEY, Source
from ..shared.plane_layers import as_plane_of, plane_in_view, plane_number
from .runs import Previewed, Requests, View

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

_MAX_SIDE = 768  # pixels; of a larger plane the middle of the canvas is shown


class Preview(QObject):
    """Asks a run for the plane in view, and shows what comes back. The layer of the newest run stays.

    While another plane comes into view than the one that it has, the layer is hidden: to slice and draw it would
    only hold up the slider.
    """

    deleted = Signal()
    """A person deleted the layer while it was in use."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.shown: Image | None = None
        self._requests: Requests | None = None
        self._layer: Image | None = None
        self._source: Source | None = None
        self._axes = ""
        self._on = False
        self._plane = 0
        self._hidden = False
        viewer.dims.events.current_step.connect(self._look)
        viewer.layers.events.removed.connect(self._on_removed)

    def begin(self, layer: Image, source: Source, axes: str, requests: Requests, *, on: bool) -> None:
        """Follow a run that trains on a layer; the layer may be deleted meanwhile."""
        self._remove()
        self._layer, self._source, self._axes, self._requests = layer, source, axes, requests
        self.turn(on)

    def turn(self, on: bool) -> None:
        """Show the preview, or take it away; without a run, do nothing."""
        self._on = on
        if self._requests is None:
            return
        if not on:
            self._requests.view = None
            self._remove()
        self._look()

    def end(self) -> None:
        """The run is over: the layer stays as it is."""
        self._requests = self._layer = None
        self._hide(False)

    def show(self, update: Previewed) -> None:
        """Show a denoised plane."""
        if self._requests is None or not self._on:
            return
        self._look()  # of a large plane, the part that is seen may be another by now
        wanted = self._requests.view
        if update.image is None or update.view is None or wanted is None or wanted.number != update.view.number:
            return
        self._plane = update.view.number
        data = as_plane_of(update.image, self._axes)
        affine = self._affine(update.view)
        if self.shown is None:
            self._add(data, affine)
            return
        self.shown.data[...] = data  # assigning another array would hold up the viewer for longer
        if np.array_equal(self.shown.affine.affine_matrix, affine):
            self.shown.refresh(extent=False)
        else:
            self.shown.affine = affine
        self._hide(False)

    def close(self) -> None:
        """Let go of the viewer."""
        self.end()
        self._viewer.dims.events.current_step.disconnect(self._look)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self.shown = None

    def _add(self, data: Any, affine: Any) -> None:
        assert self._source is not None
        active = self._viewer.layers.selection.active
        name = f"{self._source.name} preview"
        metadata = {METADATA_KEY: {"source": self._source.name, "method": "preview"}}
        self.shown = self._viewer.add_image(
            data, **{**self._source.appearance, "affine": affine, "name": name, "metadata": metadata}
        )
        self._viewer.layers.selection.active = active  # or a person would change the wrong layer

    def _affine(self, view: View) -> Any:
        """Where a plane lies: as its source, moved to its first pixel."""
        assert self._layer is not None
        assert self._source is not None
        leading = iter(view.leading)
        first = {"Y": view.rows[0], "X": view.columns[0]}
        corner = [first[axis] if axis in first else next(leading) for axis in self._axes]
        affine = self._source.appearance["affine"].copy()
        affine[:-1, -1] += np.subtract(self._layer.data_to_world(corner), self._layer.data_to_world([0] * len(corner)))
        return affine

    def _look(self, event: Any = None) -> None:
        """Ask for the plane that the sliders point at."""
        if self._requests is None or self._layer is None or self._source is None or not self._on:
            return
        sizes = dict(zip(self._axes, self._source.shape, strict=True))
        leading = plane_in_view(self._viewer, self._layer, self._axes)
        number = plane_number(self._source.shape, self._axes, leading)
        rows, columns = (_part(sizes[axis], self._middle(axis)) for axis in "YX")
        self._requests.view = View(number, leading, rows, columns)
        if number != self._plane:
            self._hide(True)

    def _middle(self, axis: str) -> float:
        """The pixel of the layer in the middle of what is seen of it, along one axis."""
        assert self._layer is not None
        seen = np.mean(self._layer.corner_pixels, axis=0)
        if self._layer.multiscale:
            seen = seen * self._layer.downsample_factors[self._layer.data_level]
        return float(seen[self._axes.index(axis)])

    def _hide(self, hidden: bool) -> None:
        """Hide the layer, unless a person did, or show it again."""
        if self.shown is not None and hidden is self.shown.visible and (hidden or self._hidden):
            self.shown.visible, self._hidden = not hidden, hidden

    def _remove(self) -> None:
        layer, self.shown, self._hidden = self.shown, None, False
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if self.shown is not None and event.value == self.shown:  # napari gives plugins a proxy of the layer
            self.shown = None
            if self._requests is not None:
                self.deleted.emit()


def _part(side: int, middle: float) -> tuple[int, int]:
    """First and last but one pixel of a part of a side, around a place or as near as can be."""
    length = min(side, _MAX_SIDE)
    first = int(np.clip(middle - length / 2, 0, side - length))
    return first // 32 * 32, first // 32 * 32 + length  # steps, or each move of the camera would show another
