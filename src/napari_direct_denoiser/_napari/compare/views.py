"""Ways of looking at layers together: side by side, through a wipe, blinking. Each is undone when it is closed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from ..shared.layers import METADATA_KEY, full_shape, read_layer

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

_DISPLAY = ("contrast_limits", "gamma", "colormap")
_TITLE_POINTS = 8  # so that the names of results fit into a cell of the grid
_BLINK_MILLISECONDS = 600
_GRAB_PIXELS = 10  # on the screen, on both sides of the divider


def grid_of(viewer: napari.Viewer) -> Any:
    """The grid of a viewer, under its name in this version of napari."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def camera_of(viewer: napari.Viewer) -> Any:
    """The camera of a viewer, under its name in this version of napari."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def is_view(layer: Layer) -> bool:
    """Whether a layer is but part of a view, and no image of its own."""
    return "view" in layer.metadata.get(METADATA_KEY, {})


class _Before:
    """How a viewer looked, to make it look so again."""

    _GRID = ("enabled", "shape", "stride", "spacing")
    _CAMERA = ("center", "zoom")

    def __init__(self, viewer: napari.Viewer, shown: Sequence[Image]) -> None:
        self._viewer = viewer
        self._order = list(viewer.layers)
        self._active = viewer.layers.selection.active
        self._visible = {layer: layer.visible for layer in viewer.layers}
        names = ("contrast_limits_range", *_DISPLAY)
        self._display = {layer: {name: getattr(layer, name) for name in names} for layer in shown}
        titles = [layer for layer in shown if hasattr(layer, "name_overlay")]
        self._titles = {layer: (layer.name_overlay.visible, layer.name_overlay.font_size) for layer in titles}
        self._grid = {name: getattr(grid_of(viewer), name) for name in self._GRID}
        self._camera = {name: getattr(camera_of(viewer), name) for name in self._CAMERA}
        self._text = _text_of(viewer)

    def restore(self) -> None:
        """Put everything back, as far as it is still there."""
        layers = self._viewer.layers
        for name, value in self._grid.items():
            setattr(grid_of(self._viewer), name, value)
        for layer, display in self._display.items():
            for name, value in display.items():
                setattr(layer, name, value)
        for layer, (visible, size) in self._titles.items():
            layer.name_overlay.visible, layer.name_overlay.font_size = visible, size
        for layer, visible in self._visible.items():
            layer.visible = visible
        if self._text is not None:
            overlay = self._viewer.text_overlay
            overlay.text, overlay.visible = self._text
        arrange(layers, [layer for layer in self._order if layer in layers])
        if self._active in layers:
            layers.selection.active = self._active
        for name, value in self._camera.items():
            setattr(camera_of(self._viewer), name, value)


class View:
    """Some layers are shown, all with the contrast limits and colormap of the first, and the others are hidden.

    `layers` holds those without which the view makes no sense.
    """

    def __init__(self, viewer: napari.Viewer, layers: Sequence[Image]) -> None:
        self.viewer, self.layers = viewer, list(dict.fromkeys(layers))
        self._before = _Before(viewer, self.layers)
        for layer in viewer.layers:
            layer.visible = layer in self.layers
        for layer in self.layers:
            _display_as(self.layers[0], layer)
        self._link(self.layers)
        self._show_titles()

    def close(self) -> None:
        """Make the viewer look as it did before."""
        linked = [layer for layer in self.layers if layer in self.viewer.layers]
        if len(linked) > 1:
            self.viewer.layers.unlink_layers(linked, _DISPLAY)
        self._before.restore()

    def _link(self, layers: Sequence[Image]) -> None:
        self.viewer.layers.link_layers(layers, _DISPLAY)

    def _show_titles(self) -> None:
        if _text_of(self.viewer) is None:  # since napari 0.9 every layer has a title of its own
            for layer in self.layers:
                layer.name_overlay.visible, layer.name_overlay.font_size = True, _TITLE_POINTS
        else:
            self.viewer.text_overlay.text = "  |  ".join(layer.name for layer in self.layers)
            self.viewer.text_overlay.visible = True


class SideBySide(View):
    """All layers in the cells of napari's grid, in the order given, row by row."""

    def __init__(self, viewer: napari.Viewer, layers: Sequence[Image]) -> None:
        super().__init__(viewer, layers)
        others = [layer for layer in viewer.layers if layer not in self.layers]
        arrange(viewer.layers, [*self.layers, *others])
        grid = grid_of(viewer)
        columns = int(np.ceil(np.sqrt(len(self.layers))))
        grid.shape = (-(-len(self.layers) // columns), columns)  # others, which are hidden, get no cells of their own
        grid.spacing = 0.02
        grid.enabled = True
        grid.stride = 1
        held: Any = viewer.layers if hasattr(viewer, "canvas") else len(viewer.layers)
        if tuple(grid.position(0, held)) != (0, 0):  # some versions of napari begin with the last layer
            grid.stride = -1
        viewer.reset_view()


class Blink(View):
    """Two layers in turn."""

    def __init__(self, viewer: napari.Viewer, layers: Sequence[Image]) -> None:
        super().__init__(viewer, layers)
        self._timer = QTimer()
        self._timer.timeout.connect(self._turn)
        self._timer.start(_BLINK_MILLISECONDS)
        self.layers[1].visible = False

    def close(self) -> None:
        """Make the viewer look as it did before."""
        self._timer.stop()
        super().close()

    def _turn(self) -> None:
        for layer in self.layers:
            layer.visible = not layer.visible


class Wipe(View):
    """One layer left of a divider that can be dragged, another one right of it.

    What lies left is a layer of its own, a cut-out that shares the pixels of the layer that it shows.
    """

    def __init__(self, viewer: napari.Viewer, layers: Sequence[Image], on_moved: Callable[[float], None]) -> None:
        super().__init__(viewer, layers)
        self.left, self.right = self.layers
        self.left.visible = False
        self._on_moved = on_moved
        appearance = read_layer(self.left).appearance
        self.cut = viewer.add_image(
            self._cut_out(0.5),
            name=f"Wipe: {self.left.name}",
            multiscale=self.left.multiscale,
            metadata={METADATA_KEY: {"view": "wipe"}},
            **appearance,
        )
        viewer.layers.move(viewer.layers.index(self.cut), len(viewer.layers))
        self.cut.bounding_box.visible = True  # its right edge is the divider
        self.cut.bounding_box.points = False
        self.cut.bounding_box.line_thickness, self.cut.bounding_box.line_color = 2, "yellow"
        if hasattr(self.cut, "name_overlay"):
            self.left.name_overlay.visible = self.right.name_overlay.visible = False
        self._link([self.cut, self.right])
        viewer.layers.selection.active = self.right
        viewer.mouse_drag_callbacks.append(self._drag)
        self.layers.append(self.cut)

    def close(self) -> None:
        """Make the viewer look as it did before."""
        self.viewer.mouse_drag_callbacks.remove(self._drag)
        if self.cut in self.viewer.layers:
            self.viewer.layers.remove(self.cut)
        super().close()

    def move(self, fraction: float) -> None:
        """Put the divider where this part of the width, 0 to 1, lies left of it."""
        self.cut.data = self._cut_out(fraction)

    def _axis(self) -> int:
        """The axis of the left layer's data that runs to the right."""
        return int(self.viewer.dims.displayed[-1]) - self.viewer.dims.ndim

    def _cut_out(self, fraction: float) -> Any:
        axis = self._axis()

        def cut(level: Any) -> Any:
            columns = max(round(fraction * level.shape[axis]), 1)
            index = [slice(None)] * level.ndim
            index[axis] = slice(columns)
            return level[tuple(index)]

        return [cut(level) for level in self.left.data] if self.left.multiscale else cut(self.left.data)

    def _drag(self, viewer: napari.Viewer, event: Any) -> Generator[None, None, None]:
        """Let the mouse take hold of the divider, and then not of the camera."""
        if event.button != 1 or viewer.dims.ndisplay != 2 or not self._is_near(event.position):
            return
        camera = camera_of(viewer)
        panning, camera.mouse_pan = camera.mouse_pan, False
        yield
        while event.type == "mouse_move":
            axis = self._axis()
            column = self.left.world_to_data(event.position)[axis] + 0.5  # pixels have their centre at whole numbers
            self._on_moved(float(np.clip(column / full_shape(self.left)[axis], 0, 1)))
            yield
        camera.mouse_pan = panning

    def _is_near(self, position: Sequence[float]) -> bool:
        axis = self._axis()
        here = np.array(self.left.world_to_data(position))
        divider = here.copy()
        divider[axis] = full_shape(self.cut)[axis] - 0.5
        away = np.subtract(self.left.data_to_world(here), self.left.data_to_world(divider))
        return bool(np.linalg.norm(away) * camera_of(self.viewer).zoom < _GRAB_PIXELS)


def arrange(layers: Any, order: Sequence[Layer]) -> None:
    """Bring a layer list into an order, without taking any layer out."""
    for index, layer in enumerate(order):
        layers.move(layers.index(layer), index)


def _display_as(first: Image, layer: Image) -> None:
    for name in _DISPLAY:
        setattr(layer, name, getattr(first, name))


def _text_of(viewer: napari.Viewer) -> tuple[str, bool] | None:
    """The text over the canvas, where layers have no titles (before napari 0.9)."""
    if all(hasattr(layer, "name_overlay") for layer in viewer.layers):
        return None
    return viewer.text_overlay.text, viewer.text_overlay.visible
