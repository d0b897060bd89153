"""The Look tab of the Compare dock: views of the chosen layers, and their difference."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFormLayout, QGridLayout, QPushButton, QSlider, QWidget

from ...data.images import LazyPlanes, sampled_planes
from ...errors import DenoiserError, ImageError
from ..shared.dock import stacked
from ..shared.layer_choice import OneLayer
from ..shared.layers import read_layer
from ..shared.workers import Update
from .profile import ProfileLine, ProfilePlot
from .views import Blink, SideBySide, View, Wipe

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

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
    "profile": (
        "Line profile",
        "Draw a line over the image, and plot the intensities along it in all chosen layers. A direct result gets a "
        "band of ±2 standard deviations if there is a std layer of it.",
    ),
}
_SLIDER_STEPS = 1000
_PERCENTILE_SHOWN = 99.5  # of the absolute difference: limit of the colours
_PLANES_SEEN = 8  # planes of a difference that are read to find that limit

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
