"""The three parts of the Compare dock: to look, to measure, and HDN against direct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSlider, QWidget

from ...config import CompareSettings
from ...errors import DenoiserError, ImageError
from ...evaluation.compare import STANDARD_ERRORS
from ..shared.dock import main_button, stacked
from ..shared.layer_choice import OneLayer
from ..shared.layers import read_layer
from .plots import AgainstPlot, ProfilePlot
from .profile_line import ProfileLine
from .table import CompareTable
from .views import Blink, SideBySide, View, Wipe

if TYPE_CHECKING:
    import napari

    from ...evaluation.compare import Row
    from ...evaluation.sample_convergence import SampleConvergence

_STEPS = 1000  # of the slider of the wipe
_BUTTONS = {
    "side": ("Side by side", "All chosen layers in a grid, with the contrast limits and colormap of the noisy one."),
    "wipe": ("Wipe", "The first layer left of a divider, the second right of it: drag the divider in the image."),
    "blink": ("Blink", "The first and the second layer in turn."),
    "profile": ("Line profile", "Draw a line over the image and see the intensities along it in all chosen layers."),
}


class LookPanel(QWidget):
    """Ways of looking, one at a time: pressing a button again, or another one, undoes it."""

    def __init__(self, viewer: napari.Viewer, fail: Callable[[Exception], None]) -> None:
        super().__init__()
        self._viewer, self._fail = viewer, fail
        self.view: View | ProfileLine | None = None
        self._layers: list[Image] = []
        self._viewed: list[Image] = []
        self.first = OneLayer("The layer to the left, the one to begin with, or the one to subtract from.")
        self.second = OneLayer("The layer to the right, the other one, or the one that is subtracted.")
        self.buttons = {name: QPushButton(words) for name, (words, _) in _BUTTONS.items()}
        for name, button in self.buttons.items():
            button.setCheckable(True)
            button.setToolTip(_BUTTONS[name][1])
            button.toggled.connect(partial(self._toggle, name))
        self.difference_button = QPushButton("Difference")
        self.difference_button.setToolTip("Add first − second as a layer, in diverging colours with symmetric limits.")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Where the divider is. It can be dragged in the image as well.")
        self.slider.setRange(0, _STEPS)
        self.slider.valueChanged.connect(self._move)
        self.plot = ProfilePlot()
        for widget in (self.first, self.second):
            widget.currentIndexChanged.connect(self._reopen)
        self._lay_out()
        self._show_parts("")

    def _lay_out(self) -> None:
        pair = QFormLayout()
        pair.addRow("First", self.first)
        pair.addRow("Second", self.second)
        rows = QGridLayout()
        for number, name in enumerate(("wipe", "blink")):
            rows.addWidget(self.buttons[name], 0, number)
        rows.addWidget(self.difference_button, 0, 2)
        column = stacked(self.buttons["side"], pair, rows, self.slider, self.buttons["profile"], self.plot)
        column.setStretchFactor(self.plot, 1)
        column.addStretch(0)
        self.setLayout(column)

    def offer(self, layers: Sequence[Image]) -> None:
        """Take the chosen layers, the noisy one first. A view of other layers ends, or goes on with these."""
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
        elif self._is_outdated():
            self._reopen()

    def pair(self) -> tuple[Image, Image]:
        """The first and the second layer; `ImageError` if they are the same."""
        first, second = self.first.layer, self.second.layer
        if first is None or second is None or first == second:
            found = "none" if first is None else f"{first.name!r} twice"
            raise ImageError(f"Expected two different layers, found {found}: choose another first or second layer")
        return first, second

    def close_view(self) -> None:
        """Undo the way of looking that is on."""
        view, self.view = self.view, None
        for button in self.buttons.values():
            with QSignalBlocker(button):
                button.setChecked(False)
        self._show_parts("")
        if view is not None:
            view.close()

    def _toggle(self, name: str, on: bool) -> None:
        self.close_view()
        if not on:
            return
        try:
            self._viewed = self._wanted(name)
            self.view = self._opened(name)
        except DenoiserError as error:
            self._fail(error)
            return
        with QSignalBlocker(self.buttons[name]):
            self.buttons[name].setChecked(True)
        self._show_parts(name)

    def _reopen(self) -> None:
        if self.view is not None:
            self._toggle(self._open_name(), True)

    def _is_outdated(self) -> bool:
        try:
            return set(self._wanted(self._open_name())) != set(self._viewed)
        except DenoiserError:  # said when it is opened anew
            return True

    def _open_name(self) -> str:
        return next(name for name, button in self.buttons.items() if button.isChecked())

    def _wanted(self, name: str) -> list[Image]:
        layers = [*self.pair()] if name in ("wipe", "blink") else self._layers
        for layer in layers:
            read_layer(layer)  # refuses colour images
        return layers

    def _opened(self, name: str) -> View | ProfileLine:
        if name == "side":
            return SideBySide(self._viewer, self._viewed)
        if name == "blink":
            return Blink(self._viewer, self._viewed)
        if name == "profile":
            return ProfileLine(self._viewer, self._viewed, self.plot.show_profiles, self._fail)
        self.slider.setValue(_STEPS // 2)
        return Wipe(self._viewer, self._viewed, lambda part: self.slider.setValue(round(part * _STEPS)))

    def _move(self, value: int) -> None:
        if isinstance(self.view, Wipe):
            self.view.move(value / _STEPS)

    def _show_parts(self, name: str) -> None:
        self.slider.setVisible(name == "wipe")
        self.plot.setVisible(name == "profile")
        if name == "profile":
            self.plot.say("Draw a line over the image.")


class MeasurePanel(QWidget):
    """The table, and what can be done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.measure_button = main_button("Measure")
        self.measure_button.setToolTip(
            "Compare the checked results over all planes: with the truth if there is one, otherwise by their residuals."
        )
        self.table = CompareTable()
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the table, with all figures, as text for a spreadsheet.")
        self.save_button = QPushButton("Save CSV …")
        self.save_button.setToolTip("Write the table, with all figures, to a CSV file.")
        self.copy_button.clicked.connect(self.table.copy)
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.save_button)
        column = stacked(self.measure_button, self.table, buttons)
        column.setStretchFactor(self.table, 1)
        self.setLayout(column)


class AgainstPanel(QWidget):
    """HDN against direct: how many samples, the plot, and the result in words."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = QComboBox()
        self.samples.setToolTip(
            f"{CompareSettings.model_fields['samples'].description} 1000 samples take ten times as long as 100."
        )
        counts = CompareSettings().samples
        for choice in (counts, (*counts, 1000)):
            self.samples.addItem(", ".join(map(str, choice)), choice)
        self.run_button = main_button("HDN against direct")
        self.run_button.setToolTip(
            "The paper's Figure 1 on the plane in view: means of ever more samples of HDN beside the one direct pass, "
            "with a map of the uncertainty and of where they disagree by more than 3 standard errors."
        )
        self.plot = AgainstPlot()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        form = QFormLayout()
        form.addRow("Samples", self.samples)
        column = stacked(form, self.run_button, self.plot, self.words)
        column.setStretchFactor(self.plot, 1)
        self.setLayout(column)

    def show_result(self, result: SampleConvergence, rows: Sequence[Row]) -> None:
        """Draw the curve and say what came out."""
        self.plot.show_rows(rows)
        mean, direct = rows[-2:]
        took = [
            f"{seconds:.3g} s" + ("" if row.psnr is None else f" ({row.psnr:.2f} dB)")
            for row, seconds in ((direct, result.direct_seconds), (mean, result.seconds[-1]))
        ]
        times = result.seconds[-1] / result.direct_seconds
        differing = "" if result.disagreement is None else f"{np.mean(result.disagreement):.1%}"
        self.words.setText(
            f"Direct {took[0]}; {mean.name} {took[1]}, {times:.0f} times as long. They are "
            f"{mean.rms_from_direct:.3g} apart (RMS), and by more than {STANDARD_ERRORS} standard errors in "
            f"{differing} of the pixels."
        )
