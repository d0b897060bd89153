"""Live preview: the plane in view, denoised by the model in training, as a layer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qtpy.QtCore import QObject, Signal

from ...data.images import LazyPlanes
from ...progress import drain
from ..shared.layers import METADATA_KEY, Source, with_labels
from ..shared.plane_layers import as_plane_of, plane_in_view, plane_number
from ..shared.workers import Update

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from ...denoiser import Denoiser
    from .parts import Part

_LOG = logging.getLogger(__name__)
_MAX_SIDE = 768  # pixels; of a larger plane the part in the middle of the canvas is shown
SECONDS_BETWEEN_PREVIEWS = 2.0  # more would hold up the viewer
_PREVIEW_SHARE = 0.1  # of the time, at most


@dataclass(frozen=True)
class View:
    """The part of one plane that a preview shows: number and index of the plane, its rows and columns."""

    number: int
    leading: tuple[int, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Previewed(Update):
    """A plane, denoised by the weights of this moment; no image if that failed."""

    view: View | None = None
    image: NDArray[np.float32] | None = None


class HasView(Protocol):
    """Where a dock leaves the view that it wants to be previewed."""

    view: View | None


class Previewer:
    """Denoises the plane in view now and then, in the thread of the training."""

    def __init__(self, denoiser: Denoiser, part: Part) -> None:
        self._denoiser = denoiser
        self._planes = LazyPlanes(part.source.data, part.axes)
        self._ended = -float("inf")
        self._took = 0.0

    def due(self, *, done: bool) -> bool:
        """Whether it is time for the next preview."""
        return done or time.monotonic() - self._ended > max(SECONDS_BETWEEN_PREVIEWS, self._took / _PREVIEW_SHARE)

    def image(self, view: View) -> NDArray[np.float32] | None:
        """Denoise a part of a plane in the direct pass. None if that fails: no preview may end a training."""
        began = time.monotonic()
        try:
            plane = self._planes[view.number][slice(*view.rows), slice(*view.columns)]
            return drain(self._denoiser.denoise_steps(np.ascontiguousarray(plane), ["direct"], axes="YX"))["direct"]
        except Exception:  # an empty plane, a file that is gone, not enough memory ...
            _LOG.debug("Plane %s could not be previewed", view, exc_info=True)
            return None
        finally:
            self._ended = time.monotonic()
            self._took = self._ended - began


class Preview(QObject):
    """Asks a run for the plane in view, and shows the result in a layer. The layer stays after the run.

    While the layer holds another plane than the one in view it is hidden: slicing and drawing it would only slow the
    slider down.
    """

    deleted = Signal()
    """A person deleted the layer while it was in use."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.shown: Image | None = None
        self._requests: HasView | None = None
        self._layer: Image | None = None
        self._source: Source | None = None
        self._axes = ""
        self._on = False
        self._plane = 0
        self._hidden = False
        viewer.dims.events.current_step.connect(self._look)
        viewer.layers.events.removed.connect(self._on_removed)

    def begin(self, layer: Image, source: Source, axes: str, requests: HasView, *, on: bool) -> None:
        """Follow a run that trains on a layer; the layer may be deleted during the run."""
        self._remove()
        self._layer, self._source, self._axes, self._requests = layer, source, axes, requests
        self.turn(on)

    def turn(self, on: bool) -> None:
        """Show the preview or remove it. Does nothing without a run."""
        self._on = on
        if self._requests is None:
            return
        if not on:
            self._requests.view = None
            self._remove()
        self._look()

    def end(self) -> None:
        """Stop following the run. The layer stays as it is."""
        self._requests = self._layer = None
        self._hide(False)

    def show(self, update: Previewed) -> None:
        """Show a denoised plane."""
        if self._requests is None or not self._on:
            return
        self._look()  # the part of a large plane that is in view may have changed
        wanted = self._requests.view
        if update.image is None or update.view is None or wanted is None or wanted.number != update.view.number:
            return
        self._plane = update.view.number
        data = as_plane_of(update.image, self._axes)
        affine = self._affine(update.view)
        if self.shown is None:
            self._add(data, affine)
            return
        self.shown.data[...] = data  # faster than to assign a new array
        if np.array_equal(self.shown.affine.affine_matrix, affine):
            self.shown.refresh(extent=False)
        else:
            self.shown.affine = affine
        self._hide(False)

    def close(self) -> None:
        """Disconnect from the viewer."""
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
            data,
            **{
                **with_labels(self._source.appearance, self._axes),
                "affine": affine,
                "name": name,
                "metadata": metadata,
            },
        )
        self._viewer.layers.selection.active = active  # a person works on the layer that was active

    def _affine(self, view: View) -> Any:
        """Affine of a plane: that of its source, moved to the first pixel of the plane."""
        assert self._layer is not None
        assert self._source is not None
        leading = iter(view.leading)
        first = {"Y": view.rows[0], "X": view.columns[0]}
        corner = [first[axis] if axis in first else next(leading) for axis in self._axes]
        affine = self._source.appearance["affine"].copy()
        affine[:-1, -1] += np.subtract(self._layer.data_to_world(corner), self._layer.data_to_world([0] * len(corner)))
        return affine

    def _look(self, event: Any = None) -> None:
        """Ask the run for the plane in view."""
        if self._requests is None or self._layer is None or self._source is None or not self._on:
            return
        sizes = dict(zip(self._axes, self._source.shape, strict=True))
        leading = plane_in_view(self._viewer, self._layer, self._axes, self._source.shape)
        number = plane_number(self._source.shape, self._axes, leading)
        rows, columns = (_part(sizes[axis], self._middle(axis)) for axis in "YX")
        self._requests.view = View(number, leading, rows, columns)
        if number != self._plane:
            self._hide(True)

    def _middle(self, axis: str) -> float:
        """The pixel in the middle of the part of the layer that is in view, along one axis."""
        assert self._layer is not None
        seen = np.mean(self._layer.corner_pixels, axis=0)
        if self._layer.multiscale:
            seen = seen * self._layer.downsample_factors[self._layer.data_level]
        return float(seen[self._axes.index(axis)])

    def _hide(self, hidden: bool) -> None:
        """Hide the layer, or show it again unless a person has hidden it."""
        if self.shown is not None and hidden is self.shown.visible and (hidden or self._hidden):
            self.shown.visible, self._hidden = not hidden, hidden

    def _remove(self) -> None:
        layer, self.shown, self._hidden = self.shown, None, False
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if self.shown is not None and event.value == self.shown:  # the event holds a proxy of the layer
            self.shown = None
            if self._requests is not None:
                self.deleted.emit()


def _part(side: int, middle: float) -> tuple[int, int]:
    """Start and stop of a part of a side, centred at a pixel or as near to it as possible."""
    length = min(side, _MAX_SIDE)
    first = int(np.clip(middle - length / 2, 0, side - length))
    return first // 32 * 32, first // 32 * 32 + length  # in steps, so that a small move of the camera changes nothing
