"""Views of several layers: side by side, wipe, blink. Closing a view restores the viewer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from ..shared.layers import METADATA_KEY, full_shape, read_layer
from .titles import TITLES

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

    from ..shared.turns import Turns

_DISPLAY = ("contrast_limits", "gamma", "colormap")
_MARGIN = 0.95  # of a cell that is filled, as by napari
BLINK_MILLISECONDS = 600
GRAB_PIXELS = 10
"""Screen pixels on both sides of the divider of a wipe within which the mouse grabs it."""


def grid_of(viewer: napari.Viewer) -> Any:
    """Grid of a viewer; its name depends on the version of napari."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def camera_of(viewer: napari.Viewer) -> Any:
    """Camera of a viewer; its name depends on the version of napari."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def canvas_size(viewer: napari.Viewer) -> tuple[int, int]:
    """Height and width of the canvas of a viewer, pixels; its name depends on the version of napari."""
    return tuple(viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size)


def is_view(layer: Layer) -> bool:
    """Whether a layer belongs to a view, and is not an image of its own."""
    return "view" in layer.metadata.get(METADATA_KEY, {})


def in_one_go(viewer: napari.Viewer) -> AbstractContextManager[None]:
    """Let napari arrange its canvas, and collect garbage, once at the end of several changes of the layer list.

    Versions before 0.9 do so after each.
    """
    return viewer.layers.batched_update() if hasattr(viewer.layers, "batched_update") else nullcontext()


class View:
    """Show some layers with the contrast limits and colormap of the first, and hide the others.

    Parameters
    ----------
    viewer
        The viewer that holds the layers.
    images
        Layers to show.
    maps
        Those of them that keep their own contrast limits and colormap.
    turns
        In which the pictures after the first appear, one by one, and then their names; without, all do at once.
    """

    def __init__(
        self, viewer: napari.Viewer, images: Sequence[Image], maps: Sequence[Image] = (), turns: Turns | None = None
    ) -> None:
        self.viewer, self._turns = viewer, turns
        self.images = list(dict.fromkeys(images))
        self.layers: list[Layer] = list(self.images)
        """Layers without which the view has to close."""
        self._coming = set(self.images[1:]) if turns else set()
        self._undo = ExitStack()
        camera = camera_of(viewer)
        self._set(camera, center=camera.center, zoom=camera.zoom)
        self._undo.callback(self._restore_order, list(viewer.layers), viewer.layers.selection.active)
        for layer in viewer.layers:
            self._set(layer, visible=layer in self.images and layer not in self._coming)
        shared = {name: getattr(self.images[0], name) for name in _DISPLAY}
        alike = [layer for layer in self.images if layer not in maps]
        for layer in alike:
            self._set(layer, contrast_limits_range=layer.contrast_limits_range, **shared)
        self._link(alike)
        self._lay_out()
        for layer in self.images[1:]:
            self._soon(partial(self._show, layer))
        self._show_titles()

    def close(self) -> None:
        """Restore the viewer."""
        self._undo.close()

    def _lay_out(self) -> None:
        """Prepare the canvas for the pictures."""

    def _soon(self, step: Callable[[], object]) -> None:
        """Take a step of the opening, in a turn of its own if the view has turns."""
        if self._turns is None:
            step()
        else:
            self._turns.add(f"view {id(step)}", step)

    def _show(self, layer: Layer) -> None:
        self._coming.discard(layer)
        _assign(layer, "visible", True)

    def _set(self, target: Any, **values: Any) -> None:
        """Set attributes until the view closes."""
        for name, value in values.items():
            self._undo.callback(_assign, target, name, getattr(target, name))
            _assign(target, name, value)

    def _restore_order(self, order: Sequence[Layer], active: Layer | None) -> None:
        layers = self.viewer.layers
        _arrange(layers, [layer for layer in order if layer in layers])
        if active in layers:
            layers.selection.active = active

    def _link(self, layers: Sequence[Layer]) -> None:
        self.viewer.layers.link_layers(layers, _DISPLAY)
        if len(layers) > 1:
            self._undo.callback(self.viewer.layers.unlink_layers, layers, _DISPLAY)

    def _show_titles(self) -> None:
        if all(hasattr(layer, "name_overlay") for layer in self.images):
            for layer in self.images:
                self._soon(partial(self._entitle, layer))
        else:  # before napari 0.9, layers have no titles
            names = "  |  ".join(layer.name for layer in self.images)
            self._set(self.viewer.text_overlay, text=names, visible=True)

    def _entitle(self, layer: Layer) -> None:
        TITLES.show(layer)
        self._undo.callback(TITLES.hide_soon, layer)


class SideBySide(View):
    """All layers in the cells of napari's grid, in the given order, row by row.

    Parameters
    ----------
    viewer, images, maps, turns
        As of every view.
    fitted
        A layer, smaller than the others, that is to fill its cell; usually the first does.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        images: Sequence[Image],
        maps: Sequence[Image] = (),
        turns: Turns | None = None,
        fitted: Image | None = None,
    ) -> None:
        self._fitted = fitted or images[0]
        super().__init__(viewer, images, maps, turns)

    def _lay_out(self) -> None:
        viewer = self.viewer
        _arrange(viewer.layers, [*self.images, *(layer for layer in viewer.layers if layer not in self.images)])
        self._set(viewer.dims, ndisplay=2)
        self._set(grid_of(viewer), shape=self._shape(), spacing=0.02, stride=1)
        self._soon(self._enable_grid)

    def _enable_grid(self) -> None:
        viewer, grid = self.viewer, grid_of(self.viewer)
        self._set(grid, enabled=True)
        held: Any = viewer.layers if hasattr(viewer, "canvas") else len(viewer.layers)
        if tuple(grid.position(0, held)) != (0, 0):  # some versions of napari begin with the last layer
            grid.stride = -1
        viewer.reset_view()
        if self._fitted is not self.images[0]:
            self._zoom()
        for emitter in (viewer.layers.events.inserted, viewer.layers.events.removed):
            self._fit_after(emitter)

    def add(self, layer: Image) -> None:
        """Give one more layer, which may be hidden, the last cell."""
        layers = self.viewer.layers
        layers.move(layers.index(layer), len(self.images))
        self.images.append(layer)
        self._fit_after(layer.events.visible)
        if hasattr(layer, "name_overlay"):
            self._entitle(layer)

    def _zoom(self) -> None:
        shown = [*self.viewer.dims.displayed][-2:]
        corners = self._fitted.extent.world[:, shown]
        cell = np.divide(canvas_size(self.viewer), self._shape())
        camera = camera_of(self.viewer)
        camera.center = corners.mean(0)
        camera.zoom = _MARGIN * float(np.min(cell / np.maximum(np.ptp(corners, axis=0), 1e-9)))

    def _fit_after(self, emitter: Any) -> None:
        emitter.connect(self._fit)
        self._undo.callback(emitter.disconnect, self._fit)

    def _fit(self, event: Any = None) -> None:
        grid_of(self.viewer).shape = self._shape()

    def _shape(self) -> tuple[int, int]:
        """Rows and columns with which the pictures are largest. Hidden layers have no cells."""
        count = sum(layer.visible or layer in self._coming for layer in self.viewer.layers) or 1
        height, width = canvas_size(self.viewer)
        extent = self._fitted.extent.world
        pixels = np.maximum(extent[1] - extent[0], 1e-9)[[*self.viewer.dims.displayed]][-2:]

        def zoom(columns: int) -> float:
            rows = -(-count // columns)
            return float(min(height / rows / pixels[0], width / columns / pixels[1]))

        columns = max(range(1, count + 1), key=zoom)
        return -(-count // columns), columns


class Blink(View):
    """Two layers in turn."""

    def __init__(self, viewer: napari.Viewer, images: Sequence[Image]) -> None:
        super().__init__(viewer, images)
        self._timer = QTimer()
        self._timer.timeout.connect(self._turn)
        self._timer.start(BLINK_MILLISECONDS)
        self._undo.callback(self._timer.stop)
        self.images[1].visible = False

    def _turn(self) -> None:
        for layer in self.images:
            layer.visible = not layer.visible


class Wipe(View):
    """One layer left of a divider that can be dragged, another one right of it.

    The left part is a layer of its own: a slice that shares the pixels of the left layer.

    Parameters
    ----------
    viewer
        The viewer that holds the layers.
    images
        The left and the right layer.
    on_moved
        Called with the place of the divider, 0 to 1 of the width, when it is dragged with the mouse.
    """

    def __init__(self, viewer: napari.Viewer, images: Sequence[Image], on_moved: Callable[[float], None]) -> None:
        super().__init__(viewer, images)
        self.left, self.right = self.images
        self.left.visible = False
        self._on_moved = on_moved
        self.cut = viewer.add_image(
            self._cut_out(0.5),
            name=f"Wipe: {self.left.name}",
            multiscale=self.left.multiscale,
            metadata={METADATA_KEY: {"view": "wipe"}},
            **read_layer(self.left).appearance,
        )
        self.layers.append(self.cut)
        self._link([self.cut, self.right])
        self._undo.callback(self._remove_cut)
        viewer.layers.move(viewer.layers.index(self.cut), len(viewer.layers))
        self.cut.bounding_box.visible = True  # its right edge is the divider
        self.cut.bounding_box.points = False
        self.cut.bounding_box.line_thickness, self.cut.bounding_box.line_color = 2, "yellow"
        if hasattr(self.cut, "name_overlay"):
            self.left.name_overlay.visible = self.right.name_overlay.visible = False
        viewer.layers.selection.active = self.right
        viewer.mouse_drag_callbacks.append(self._drag)
        self._undo.callback(viewer.mouse_drag_callbacks.remove, self._drag)

    def move(self, fraction: float) -> None:
        """Put the divider at a fraction, 0 to 1, of the width."""
        self.cut.data = self._cut_out(fraction)

    def _remove_cut(self) -> None:
        if self.cut in self.viewer.layers:
            self.viewer.layers.remove(self.cut)

    def _axis(self) -> int:
        """Axis of the left layer's data that is shown horizontally."""
        return int(self.viewer.dims.displayed[-1]) - self.viewer.dims.ndim

    def _cut_out(self, fraction: float) -> Any:
        axis = self._axis()

        def cut(level: Any) -> Any:
            index = [slice(None)] * level.ndim
            index[axis] = slice(max(round(fraction * level.shape[axis]), 1))
            return level[tuple(index)]

        return [cut(level) for level in self.left.data] if self.left.multiscale else cut(self.left.data)

    def _drag(self, viewer: napari.Viewer, event: Any) -> Generator[None, None, None]:
        """Move the divider with the mouse. The camera does not pan meanwhile."""
        if event.button != 1 or viewer.dims.ndisplay != 2 or not self._is_near(event.position):
            return
        camera = camera_of(viewer)
        panning, camera.mouse_pan = camera.mouse_pan, False
        yield
        while event.type == "mouse_move":
            axis = self._axis()
            column = self.left.world_to_data(event.position)[axis] + 0.5  # centres of pixels are whole numbers
            self._on_moved(float(np.clip(column / full_shape(self.left)[axis], 0, 1)))
            yield
        camera.mouse_pan = panning

    def _is_near(self, position: Sequence[float]) -> bool:
        axis = self._axis()
        here = np.array(self.left.world_to_data(position))
        divider = here.copy()
        divider[axis] = full_shape(self.cut)[axis] - 0.5
        away = np.subtract(self.left.data_to_world(here), self.left.data_to_world(divider))
        return bool(np.linalg.norm(away) * camera_of(self.viewer).zoom < GRAB_PIXELS)


def _assign(target: Any, name: str, value: Any) -> None:
    """Set an attribute; napari arranges the canvas even if a layer is as visible as before."""
    if name != "visible" or target.visible != value:
        setattr(target, name, value)


def _arrange(layers: Any, order: Sequence[Layer]) -> None:
    """Reorder a layer list without removing a layer; napari and the docks follow once."""
    with layers.events.reordered.blocker():
        moved = [layers.move(layers.index(layer), index) for index, layer in enumerate(order)]
    if any(moved):
        layers.events.reordered(value=layers)
