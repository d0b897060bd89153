"""The Look tab of the Compare dock: views of the chosen layers, their difference, and profiles along a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QObject, QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QFormLayout, QGridLayout, QPushButton, QSlider, QWidget

from ...data.images import LazyPlanes, sampled_planes
from ...errors import DenoiserError, ImageError
from ..shared.dock import stacked
from ..shared.layer_choice import OneLayer
from ..shared.layers import METADATA_KEY, read_layer
from ..shared.panels import Panels, in_colour
from ..shared.workers import Job, Update
from .views import Blink, SideBySide, View, Wipe

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

_BUTTONS = {
    "side": (
        "Side by side",
        "Show all chosen layers in a grid, with the contrast limits and colormap of the noisy one.",
    ),
    "wipe": (
        "Wipe",
        "Show the first layer left of a divider and the second right of it. Drag the divider in the image.",
    ),
    "blink": ("Blink", "Show the first and the second layer in turn."),
    "profile": ("Line profile", "Draw a line over the image, and plot the intensities along it in all chosen layers."),
}
_SLIDER_STEPS = 1000
_PERCENTILE_SHOWN = 99.5  # of the absolute difference: limit of the colours
_PLANES_SEEN = 8  # planes of a difference that are read to find that limit
_MILLISECONDS_BETWEEN_READINGS = 100
_SEGMENT = 512  # points of a line that are read at a time
# Okabe and Ito's colours for the colour-blind; those that are visible on dark and on light
_COLOURS = ("#999999", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_KEY_LETTERS = 34  # fit into the width of the dock

Fail = Callable[[Exception], None]


class LookPanel(QWidget):
    """One view at a time. Pressing its button again, or another one, closes it."""

    opening = Signal()
    """Emitted before a view is opened."""

    def __init__(self, viewer: napari.Viewer, fail: Fail) -> None:
        super().__init__()
        self._viewer, self._fail = viewer, fail
        self.view: View | ProfileLine | None = None
        self._layers: list[Image] = []
        self.first = OneLayer("The layer left of the divider, the one that blinks first, or the one to subtract from.")
        self.second = OneLayer("The layer right of the divider, the one that blinks second, or the one to subtract.")
        self.buttons = {name: QPushButton(words) for name, (words, _) in _BUTTONS.items()}
        for name, button in self.buttons.items():
            button.setCheckable(True)
            button.setToolTip(_BUTTONS[name][1])
            button.toggled.connect(partial(self._toggle, name))
        self.difference_button = QPushButton("Difference")
        self.difference_button.setToolTip("Add first − second as a layer, with a diverging colormap, centred on 0.")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Place of the divider. It can be dragged in the image as well.")
        self.slider.setRange(0, _SLIDER_STEPS)
        self.slider.valueChanged.connect(self._move)
        self.plot = ProfilePlot()
        for widget in (self.first, self.second):
            widget.currentIndexChanged.connect(self._reopen)
        pair = QFormLayout()
        pair.addRow("First", self.first)
        pair.addRow("Second", self.second)
        row = QGridLayout()
        for number, button in enumerate((self.buttons["wipe"], self.buttons["blink"], self.difference_button)):
            row.addWidget(button, 0, number)
        column = stacked(self.buttons["side"], pair, row, self.slider, self.buttons["profile"], self.plot)
        column.setStretchFactor(self.plot, 1)
        column.addStretch(0)
        self.setLayout(column)
        self._show_controls("")

    def offer(self, layers: Sequence[Image]) -> None:
        """Take the chosen layers, the noisy one first. An open view continues with these, or closes."""
        self._layers = list(layers)
        self.first.offer(self._layers, next(iter(self._layers), None))
        self.second.offer(self._layers, next(iter(self._layers[1:]), None))
        self.difference_button.setEnabled(len(self._layers) > 1)
        for name, button in self.buttons.items():
            button.setEnabled(button.isChecked() or len(self._layers) > (name != "profile"))
        if self.view is None:
            return
        if any(layer not in self._viewer.layers for layer in self.view.layers):
            self.close_view()
        elif isinstance(self.view, ProfileLine):
            self.view.read(self._layers)
        elif self._is_outdated(self.view):
            self._reopen()

    def pair(self) -> tuple[Image, Image]:
        """The first and the second layer; `ImageError` if they are the same."""
        first, second = self.first.layer, self.second.layer
        if first is None or second is None or first == second:
            found = "none" if first is None else f"{first.name!r} twice"
            raise ImageError(f"Expected two different layers, found {found}: choose another first or second layer")
        return first, second

    def close_view(self) -> None:
        """Close the open view."""
        view, self.view = self.view, None
        for button in self.buttons.values():
            with QSignalBlocker(button):
                button.setChecked(False)
        self._show_controls("")
        if view is not None:
            view.close()

    def _toggle(self, name: str, on: bool) -> None:
        self.close_view()
        if not on:
            return
        self.opening.emit()
        try:
            self.view = self._opened(name, self._wanted(name))
        except DenoiserError as error:
            self._fail(error)
            return
        with QSignalBlocker(self.buttons[name]):
            self.buttons[name].setChecked(True)
        self._show_controls(name)

    def _reopen(self) -> None:
        if self.view is not None:
            self._toggle(self._open_name(), True)

    def _open_name(self) -> str:
        return next(name for name, button in self.buttons.items() if button.isChecked())

    def _is_outdated(self, view: View) -> bool:
        try:
            return self._wanted(self._open_name()) != view.images
        except DenoiserError:  # shown when the view is opened again
            return True

    def _wanted(self, name: str) -> list[Image]:
        layers = [*self.pair()] if name in ("wipe", "blink") else self._layers
        for layer in layers:
            read_layer(layer)  # refuses colour images
        return list(layers)

    def _opened(self, name: str, images: list[Image]) -> View | ProfileLine:
        if name == "side":
            return SideBySide(self._viewer, images)
        if name == "blink":
            return Blink(self._viewer, images)
        if name == "profile":
            return ProfileLine(self._viewer, images, self.plot.show_profiles, self._fail)
        self.slider.setValue(_SLIDER_STEPS // 2)
        return Wipe(self._viewer, images, lambda part: self.slider.setValue(round(part * _SLIDER_STEPS)))

    def _move(self, value: int) -> None:
        if isinstance(self.view, Wipe):
            self.view.move(value / _SLIDER_STEPS)

    def _show_controls(self, name: str) -> None:
        self.slider.setVisible(name == "wipe")
        self.plot.setVisible(name == "profile")
        if name == "profile":
            self.plot.say("Draw a line over the image.")


class ProfilePlot(Panels):
    """Intensities of some layers along a line."""

    def __init__(self) -> None:
        super().__init__("Intensity of the noisy image, the results and the truth along the drawn line.", height=230)
        self.item = self.panel(0, "")

    def entitle(self, item: pg.PlotItem, title: str) -> None:
        """Write a title of any number of lines over the plot."""
        super().entitle(item, title)
        height = 16 * (1 + title.count("<br>")) + 8  # pyqtgraph leaves room for one line
        item.titleLabel.setMaximumHeight(height)
        item.layout.setRowFixedHeight(0, height)

    def say(self, words: str) -> None:
        """Show words and no profile."""
        self.item.clear()
        self.entitle(self.item, words)

    def show_profiles(self, distance: NDArray[np.float64], profiles: dict[str, NDArray[np.float32]], unit: str) -> None:
        """Draw profiles by the name of their layer, the first one (noisy) below the others."""
        self.item.clear()
        keys = []
        for number, (name, profile) in enumerate(profiles.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            self.item.plot(distance, profile, pen=pg.mkPen(colour, width=2 if number else 1), connect="finite")
            short = name if len(name) <= _KEY_LETTERS else f"{name[: _KEY_LETTERS // 2]}…{name[-_KEY_LETTERS // 2 :]}"
            keys.append(in_colour(escape(short), colour))
        self.entitle(self.item, "<br>".join(keys))
        self.item.setLabel("bottom", f"distance ({unit})")


class ProfileLine(QObject):
    """A Shapes layer with one line. The profiles are read when the line, the plane in view or the images change."""

    def __init__(self, viewer: napari.Viewer, images: Sequence[Image], show: Callable[..., None], fail: Fail) -> None:
        super().__init__()
        self._viewer, self._images, self._show, self._fail = viewer, list(images), show, fail
        self._active = viewer.layers.selection.active
        first = self._images[0]
        self.shapes = viewer.add_shapes(
            ndim=2,  # without other axes the line is in every plane
            name="Profile line",
            scale=first.scale[-2:],
            units=first.units[-2:],
            edge_color="yellow",
            edge_width=max(max(read_layer(first).shape[-2:]) / 200, 1),
            metadata={METADATA_KEY: {"view": "profile"}},
        )
        self.shapes.mode = "add_line"
        self.layers = [self.shapes]
        self._request: tuple[NDArray[np.float64], list[str], str]
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._read)
        self._job = Job(self)
        self._job.succeeded.connect(self._on_read)
        self._job.failed.connect(fail)
        self.shapes.events.data.connect(self._on_drawn)
        viewer.dims.events.current_step.connect(self._soon)

    def read(self, images: Sequence[Image]) -> None:
        """Read these images from now on."""
        self._images = list(images)
        self._soon()

    def close(self) -> None:
        """Remove the line."""
        self._timer.stop()
        self._job.shutdown()
        self._viewer.dims.events.current_step.disconnect(self._soon)
        self.shapes.events.data.disconnect(self._on_drawn)
        if self.shapes in self._viewer.layers:
            self._viewer.layers.remove(self.shapes)
        if self._active in self._viewer.layers:
            self._viewer.layers.selection.active = self._active

    def _on_drawn(self, event: Any) -> None:
        if len(self.shapes.data) > 1 and event.action == "added":  # a new line replaces the old one
            QTimer.singleShot(0, self._keep_last)
        self._soon()

    def _keep_last(self) -> None:
        self.shapes.selected_data = set(range(len(self.shapes.data) - 1))
        self.shapes.remove_selected()

    def _soon(self, event: Any = None) -> None:
        if not self._timer.isActive():
            self._timer.start(_MILLISECONDS_BETWEEN_READINGS)

    def _read(self) -> None:
        if self._job.running:
            self._soon()
        elif len(self.shapes.data) and self._images:
            try:
                self._start()
            except DenoiserError as error:
                self._fail(error)

    def _start(self) -> None:
        drawn = self.shapes.data[-1]
        ends = []
        for corner in (drawn[0], drawn[-1]):
            world = np.array(self._viewer.dims.point, float)
            world[-2:] = self.shapes.data_to_world(corner)
            ends.append(world)
        lines = [np.array([image.world_to_data(end) for end in ends]) for image in self._images]
        points = int(np.ceil(np.linalg.norm(lines[0][1] - lines[0][0]))) + 1
        if points > 2:
            distance = np.linspace(0, np.linalg.norm(ends[1] - ends[0]), points)
            self._request = distance, [image.name for image in self._images], f"{self.shapes.units[-1]:~P}"
            self._job.start(_reading_lines([read_layer(image).data for image in self._images], lines, points))

    def _on_read(self, profiles: list[NDArray[np.float32]]) -> None:
        distance, names, unit = self._request
        self._show(distance, dict(zip(names, profiles, strict=True)), unit)


def _reading_lines(
    images: Sequence[Any], ends: Sequence[NDArray[np.float64]], points: int
) -> Generator[Update, None, list[NDArray[np.float32]]]:
    """Read each image along a line between two ends (2, axes) in its own pixels; NaN outside the image."""
    yield Update("Reading the line …")
    return [_along(image, line, points) for image, line in zip(images, ends, strict=True)]


def _along(image: Any, line: NDArray[np.float64], points: int) -> NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    start, end = np.where(line[0] == line[1], np.round(line), line)  # the index of the plane is a whole number
    found = []
    # In segments: of each, its bounding box is read
    for part in np.array_split(np.linspace(start, end, points), math.ceil(points / _SEGMENT)):
        low = np.clip(np.floor(part.min(0)).astype(int), 0, np.subtract(image.shape, 1))
        high = np.clip(np.ceil(part.max(0)).astype(int) + 1, low + 1, image.shape)
        box = np.asarray(image[tuple(map(slice, low, high))]).astype(np.float32)
        found.append(map_coordinates(box, (part - low).T, order=1, mode="constant", cval=np.nan))
    return np.concatenate(found)


def subtracting(first: Any, second: Any, axes: str) -> Generator[Update, None, tuple[Any, float]]:
    """Subtract two images: a dask array that is computed plane by plane, and a limit for its contrast."""
    yield Update("Subtracting …")
    difference = _lazy(first) - _lazy(second)
    planes = LazyPlanes(difference, axes)
    largest, count = 0.0, min(len(planes), _PLANES_SEEN)
    for done, plane in enumerate(sampled_planes([planes], _PLANES_SEEN), 1):
        largest = max(largest, float(np.nanpercentile(np.abs(plane), _PERCENTILE_SHOWN)))
        yield Update("Subtracting …", done / count)
    return difference, largest or 1.0


def _lazy(image: Any) -> Any:
    import dask.array as da

    if not isinstance(image, da.Array):
        chunks = (1,) * (len(image.shape) - 2) + tuple(image.shape[-2:])
        image = da.from_array(image, chunks=chunks, name=False)  # a random name: hashing the pixels takes long
    return image.astype(np.float32)
