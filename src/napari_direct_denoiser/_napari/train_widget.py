"""The Train dock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget
from superqt import QCollapsible

from ..config import TrainSettings, train_settings
from ..errors import DenoiserError
from . import workers
from .dock import RunDock, main_button, stacked
from .forms import Form, TrainForm, control, duration
from .layers import Source, read_layer
from .loss_plot import LossPlot
from .session import MODELS, NamedModel
from .workers import Update

if TYPE_CHECKING:
    import napari

    from ..denoiser import Denoiser
    from ..training import TrainingProgress

_SUFFIX = ".safetensors"
_SECONDS_BETWEEN_DRAWINGS = 0.5


class TrainWidget(RunDock):
    """Train HDN and its Direct Denoiser on a layer, watch the losses, save the model."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.form = TrainForm()
        self.advanced = Form([control(TrainSettings, name) for name in ("max_steps", "seed", "device")])
        self.train_button = main_button("Train")
        self.train_button.setToolTip("Train a model on every plane of the chosen layer. No clean image is needed.")
        self.stop_button.setToolTip("End training after this step and keep the model as it is.")
        self.save_button = QPushButton("Save model …")
        self.save_button.setToolTip("Write the newest model to one file, for other sessions and the command line.")
        self.plot = LossPlot()
        self.model: NamedModel | None = None
        self._source: Source | None = None
        self._settings = TrainSettings()
        self._denoiser: Denoiser | None = None
        self._record: TrainingProgress | None = None
        self._drawn = 0.0
        self._lay_out()
        self.train_button.clicked.connect(self.train)
        self.save_button.clicked.connect(self.save)
        self.viewer.events.theme.connect(self._recolour)
        self._recolour()
        self.refresh_buttons()

    def _lay_out(self) -> None:
        self.form.insertRow(0, "Image layer", self.layer_choice)
        inner = QWidget()
        inner.setLayout(self.advanced)
        advanced = QCollapsible("More settings")
        advanced.toggleButton().setToolTip("Settings that are seldom needed.")
        advanced.addWidget(inner)
        buttons = QHBoxLayout()
        buttons.addWidget(self.train_button, 1)
        buttons.addWidget(self.save_button)
        column = stacked(self.form, advanced, buttons, self.progress_row(), self.status, self.plot)
        column.setStretchFactor(self.plot, 1)
        self.fill(column)

    def settings(self) -> TrainSettings:
        """The settings as they stand in the dock.

        Raises
        ------
        SettingError
            If they do not make sense.
        """
        return train_settings(**self.form.values(), **self.advanced.values())

    def train(self) -> None:
        """Start training on the chosen layer."""
        try:
            self._settings = self.settings()
            self._source = read_layer(self.layer_choice.layer)
        except DenoiserError as error:
            self.on_failure(error)
            return
        self._denoiser = self._record = None
        self.plot.reset()
        self.begin(workers.training(self._source.data, self._settings, self._source.axes))

    def save(self) -> None:
        """Ask where to, and write the newest model."""
        assert self.model is not None
        suggested = "".join(c if c.isalnum() else "_" for c in self.model.name) + _SUFFIX
        path, _ = QFileDialog.getSaveFileName(self, "Save model", suggested, f"Model (*{_SUFFIX})")
        if not path:
            return
        path = path if path.endswith(_SUFFIX) else path + _SUFFIX
        try:
            self.model.denoiser.save(path)
        except DenoiserError as error:
            self.on_failure(error)
        else:
            self.say(f"Saved “{self.model.name}” to {path}")

    def refresh_buttons(self) -> None:
        """Enable what can be pressed now."""
        running = self.job.running
        ready = self.layer_choice.layer is not None
        self.train_button.setEnabled(ready and not running)
        self.stop_button.setEnabled(running)
        self.save_button.setEnabled(self.model is not None and not running)
        self.form.set_enabled(not running)
        self.advanced.set_enabled(not running)
        self.layer_choice.setEnabled(not running)
        self.hint("" if ready else "Open an image to train on, or File > Open Sample > Direct Denoiser.")

    def show_update(self, update: Update) -> None:
        """Show how far training is, and plot its losses."""
        super().show_update(update)
        if update.record is None:
            return
        self._denoiser, self._record = update.denoiser, update.record
        self.plot.add(update.record)
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
            self._drawn = time.monotonic()
            self.plot.draw()

    def on_success(self, denoiser: Denoiser) -> None:
        """Take the model that was trained to its end."""
        why = self._record.stopped if self._record else None
        early = f"Ended early: {why}." if why and why != "finished" else "Done."
        self.end(f"{early} {self._take()}", done=True)

    def on_stop(self) -> None:
        """Take the model as it was when training was stopped."""
        self.end(f"Stopped. {self._take()}")

    def on_failure(self, error: Exception) -> None:
        """Show the error, and keep the model if there is one: it holds the last good weights."""
        super().on_failure(error)
        if self._denoiser is not None:
            self.say(f"{error}. {self._take()}", error=True)
            self.refresh_buttons()

    def _take(self) -> str:
        """Put the model, if a step was made, into the list of this session; say so."""
        if self._denoiser is None or self._record is None or self._source is None:
            return "There is no model yet."
        self.plot.draw()
        preset = self._denoiser.summary()["preset"]
        self.model = MODELS.add(f"{self._source.name}, {preset}, {self._settings.loss}", self._denoiser)
        self._denoiser = None
        facts = f"{self._record.step} steps in {duration(self._record.elapsed_seconds)}"
        return f"{facts}. The Denoise dock has the model as “{self.model.name}”."

    def _recolour(self, event: Any = None) -> None:
        self.plot.recolour(get_theme(self.viewer.theme).text.as_hex())

    def close_down(self) -> None:
        """Stop training and let go of the viewer."""
        super().close_down()
        self.viewer.events.theme.disconnect(self._recolour)
