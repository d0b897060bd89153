"""The noise section of the Train dock: choose, measure and save the noise model; findings about the noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, FileEdit, FloatSpinBox
from magicgui.widgets.bases import ValueWidget
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from ...config import TrainSettings
from ...data.images import named_axes
from ..shared.forms import Form, control
from ..shared.layer_choice import OneLayer
from ..shared.layers import read_layer
from .noise_plot import NoisePlot
from .noise_runs import Look, NoiseChoice
from .parts import NotReadyError, Part

if TYPE_CHECKING:
    from napari.layers import Image

    from ...noise import Finding

_KINDS = [
    ("automatic", "auto"),
    ("from a calibration layer", "calibration"),
    ("from a file", "file"),
    ("Poisson-Gaussian by numbers", "poisson"),
    ("Gaussian by numbers", "gaussian"),
]
_FIELDS = {"poisson": ("gain", "offset", "read_noise"), "gaussian": ("sigma",), "file": ("noise_file",)}
_FILES = (".json", ".npz", ".npy")


class NoiseForm(Form):
    """Choice of the noise model, with the numbers, layers or file that it needs."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__([*_controls(), control(TrainSettings, "refine_noise")])
        self.calibration = OneLayer(
            "A calibration: frames of one static scene, or images of something smooth, such as a field diaphragm out "
            "of focus, from the same camera. Its brightness must cover that of the images. It gives the most exact "
            "noise model."
        )
        self.signal = OneLayer(
            "The same scene without noise, if there is such an image. Otherwise the mean of the frames is taken.",
            "unknown: take the mean",
        )
        self.insertRow(1, "Calibration", self.calibration)
        self.insertRow(2, "Its signal", self.signal)
        self["noise"].changed.connect(self._show_rows)
        for each in self.controls.values():
            each.changed.connect(lambda value: self.changed.emit())
        for choice in (self.calibration, self.signal):
            choice.activated.connect(self.changed)
        self._show_rows()

    @property
    def kind(self) -> str:
        """auto, poisson, gaussian, calibration or file."""
        kind: str = self["noise"].value
        return kind

    def describe(self) -> str:
        """Name the kind of noise model."""
        return next(words for words, kind in _KINDS if kind == self.kind)

    def choice(self) -> NoiseChoice:
        """The choice that was made.

        Raises
        ------
        NotReadyError
            If a layer or a file is missing.
        ImageError
            If the calibration layer cannot be used.
        """
        if self.kind == "calibration":
            if self.calibration.layer is None:
                raise NotReadyError("open a calibration", "Expected a calibration layer, found none: open one")
            signal = self.signal.layer
            return NoiseChoice("auto", _part(self.calibration.layer), None if signal is None else _part(signal))
        values = self.values()
        if self.kind == "file":
            file = values["noise_file"]
            if file is None or not Path(file).is_file() or Path(file).suffix.lower() not in _FILES:
                found = "none" if file is None else str(file)
                words = f"Expected a noise model file (.json, .npz or .npy), found {found}: choose one"
                raise NotReadyError("choose a noise model file", words)
            return NoiseChoice(str(file))
        numbers = [f"{values[name]:.6g}" for name in _FIELDS.get(self.kind, ())]
        return NoiseChoice(f"{self.kind}:{','.join(numbers)}" if numbers else self.kind)

    def offer(self, layers: Sequence[Image]) -> None:
        """List the layers that can be a calibration."""
        self.calibration.offer(layers, layers[0] if layers else None)
        self.signal.offer(layers)

    def _show_rows(self) -> None:
        for kind, names in _FIELDS.items():
            for name in names:
                self.setRowVisible(self[name].native, kind == self.kind)
        for row in (self.calibration, self.signal):
            self.setRowVisible(row, self.kind == "calibration")


class NoiseSection(QWidget):
    """The form, the fit in words and plots, and buttons to measure and to save it.

    The findings are shown elsewhere in the dock, where they are visible while this section is collapsed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.form = NoiseForm()
        self.form.changed.connect(self.forget)
        self.findings = FindingsBox()
        self.findings.auto_wanted.connect(self._use_auto)
        self.look_button = QPushButton("Measure the noise")
        self.look_button.setToolTip(
            "Measure the noise of the chosen image and fit the noise model, without training. Takes seconds."
        )
        self.save_button = QPushButton("Save …")
        self.save_button.setToolTip(
            "Write this noise model to a file (.json, or .npz for independent noise), for other images of this camera."
        )
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.plot: NoisePlot | None = None
        """None until there is something to draw: the dock opens sooner."""
        self._text = "#999999"
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, 99)
        self.slider.setValue(50)
        self.slider.setToolTip("The signal at which the histogram is shown, from the darkest to the brightest pixels.")
        self.slider.valueChanged.connect(self._show_signal)
        self.look: Look | None = None
        self.looked_at: Image | None = None
        buttons = QHBoxLayout()
        buttons.addWidget(self.look_button, 1)
        buttons.addWidget(self.save_button)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self.form)
        column.addLayout(buttons)
        for part in (self.words, self.slider):
            column.addWidget(part)
        self._show(words=False, plot=False)

    def show_look(self, look: Look, layer: Image | None) -> None:
        """Show a noise model, and the noise of a layer that it was fitted to."""
        self.look, self.looked_at = look, layer
        measured = bool(len(look.fit.signals))
        self._show(words=True, plot=measured)
        self.findings.show_findings(look.findings)
        described = look.fit.model.describe()
        described = described[0].upper() + described[1:]
        self.words.setText(f"{described}. The points are measured in {look.fit.source}." if measured else described)
        if self.plot is not None and measured:
            self.plot.show_fit(look.fit, look.calibration)
            self._show_signal()

    def forget(self) -> None:
        """Hide the fit: another layer or another noise model was chosen."""
        self.look = self.looked_at = None
        self.findings.show_findings(())
        self._show(words=False, plot=False)

    def recolour(self, text: str) -> None:
        """Draw in the colour of the text of napari's theme."""
        self._text = text
        if self.plot is not None:
            self.plot.recolour(text)

    def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the controls."""
        self.form.set_enabled(enabled)
        for widget in (self.form.calibration, self.form.signal, self.look_button):
            widget.setEnabled(enabled)
        self.save_button.setEnabled(enabled and self.look is not None)

    def _use_auto(self) -> None:
        self.form["noise"].value = "auto"
        self.look_button.click()

    def _show(self, *, words: bool, plot: bool) -> None:
        self.words.setVisible(words)
        self.slider.setVisible(plot)
        if plot and self.plot is None:
            self.plot = NoisePlot()
            self.plot.recolour(self._text)
            self._column.insertWidget(self._column.indexOf(self.slider), self.plot)
        if self.plot is not None:
            self.plot.setVisible(plot)

    def _show_signal(self) -> None:
        if self.look is not None and self.plot is not None:
            self.plot.show_signal(self.plot.signal_at(self.slider.value() / 100))


class FindingsBox(QWidget):
    """Findings about the noise of the images, and a button for the setting that a finding suggests."""

    structured_wanted = Signal()
    auto_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton("Turn on Structured noise")
        self.button.setToolTip(TrainSettings.model_fields["structured"].description or "")
        self.button.clicked.connect(self.structured_wanted)
        self.auto_button = QPushButton("Use the automatic noise model")
        self.auto_button.setToolTip("Set the noise model to automatic, and measure the noise again.")
        self.auto_button.clicked.connect(self.auto_wanted)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.words)
        column.addWidget(self.button)
        column.addWidget(self.auto_button)
        self._suggested = self._on = False
        self.show_findings(())

    def show_findings(self, findings: Sequence[Finding]) -> None:
        """Show findings; hide if there are none."""
        self.words.setText("\n".join(f"• {finding.words}." for finding in findings))
        self._suggested = any(finding.suggests_structured for finding in findings)
        self.auto_button.setVisible(any(finding.suggests_auto for finding in findings))
        self.setVisible(bool(findings))
        self.set_structured(self._on)

    def set_structured(self, on: bool) -> None:
        """Show the button only while the setting is off."""
        self._on = on
        self.button.setVisible(self._suggested and not on)


def _part(layer: Image) -> Part:
    source = read_layer(layer)
    return Part(source, named_axes(source.shape, source.axes, name=repr(source.name)))


def _controls() -> list[ValueWidget]:
    number = {"min": 0.001, "max": 1e6, "step": 0.001}
    file = FileEdit(
        name="noise_file",
        label="File",
        filter="*.json *.npz *.npy",
        nullable=True,
        tooltip="A noise model file: any model, saved here (.json), or a mixture (.npz) or histogram (.npy).",
    )
    for part in file:
        part.tooltip = file.tooltip
    return [
        ComboBox(
            name="noise", label="Noise model", choices=_KINDS, tooltip=TrainSettings.model_fields["noise"].description
        ),
        FloatSpinBox(
            name="gain",
            label="Gain",
            value=1.0,
            tooltip="Camera counts per photo-electron. Higher: more noise at equal brightness.",
            **number,
        ),
        FloatSpinBox(
            name="offset",
            label="Offset",
            value=100.0,
            tooltip="Camera counts without light.",
            **{**number, "min": -1e6},
        ),
        FloatSpinBox(
            name="read_noise",
            label="Read noise",
            value=3.0,
            tooltip="Standard deviation of the noise without light, in counts.",
            **{**number, "min": 0.0},
        ),
        FloatSpinBox(
            name="sigma",
            label="Sigma",
            value=10.0,
            tooltip="Standard deviation of the noise, in camera counts: too low leaves noise, too high blurs.",
            **number,
        ),
        file,
    ]
