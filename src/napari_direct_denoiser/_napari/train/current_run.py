"""A training in the Train dock: how far it is, its curves and preview, and the model that it leaves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QCheckBox, QPushButton

from ..shared.dock import collapsed
from ..shared.forms import duration
from ..shared.session import MODELS, SECONDS_PER_STEP, NamedModel
from ..shared.workers import Update
from .gain_plot import GainView
from .loss_plot import LossPlot
from .preview import Preview, Previewed
from .recovery import discard
from .runs import Begun, Requests, Saved, Stepped

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from ...progress import TrainingProgress
    from ...training.provenance import Record
    from .parts import Part

_SECONDS_BETWEEN_DRAWINGS = 0.5


@dataclass(eq=False)
class CurrentRun:
    """What the dock knows of a training while it goes on."""

    requests: Requests
    model: NamedModel | None = None
    """The model in training, which is not in the list yet."""
    first: TrainingProgress | None = None
    last: TrainingProgress | None = None
    note: str = ""
    """What else happened, such as a file that was saved."""

    def step(self, record: TrainingProgress) -> None:
        """Record how far the training is."""
        self.first, self.last = self.first or record, record

    def take_saved(self, saved: Saved, *, running: bool) -> None:
        """Record that the model was saved, or could not be."""
        then = " as it was then" if running else ""
        self.note = f"Saved it{then} to {saved.path}." if saved.error is None else f"{saved.error}."

    def end(self) -> NamedModel | None:
        """Take the model from the list, after the run has put it there, and remove its recovery file."""
        if self.model is None:
            return None
        model = MODELS.of(self.model.denoiser)
        if model is None:  # no step was made
            return None
        if self.first is not None and self.last is not None and (steps := self.last.step - self.first.step) > 0:
            seconds = self.last.elapsed_seconds - self.first.elapsed_seconds
            SECONDS_PER_STEP[model.denoiser.summary()["preset"]] = seconds / steps
        for saved in [*self.requests.saved, *self.requests.save(model.denoiser)]:
            self.take_saved(saved, running=False)
        discard(self.model.recovery)
        return model

    def words(self, model: NamedModel | None) -> str:
        """Say how much was trained, and what else happened."""
        if model is None or self.last is None:
            return "There is no model yet."
        steps = "1 step" if self.last.step == 1 else f"{self.last.step:,} steps"
        facts = f"{steps} in {duration(self.last.elapsed_seconds)}"
        frames = model.denoiser.provenance.learned_frames
        return f"{facts}{', also from other frames of the static scene' if frames else ''}. {self.note}".strip()


class RunView(QObject):
    """What is shown of a training: gain, losses and preview, with the controls for pause and preview."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.run: CurrentRun | None = None
        self.pause_button = QPushButton("Pause")
        self.pause_button.setCheckable(True)
        self.pause_button.setToolTip(
            "Pause or resume the training. The processor is free meanwhile, and the time of a pause does not count."
        )
        self.preview_box = QCheckBox("Live preview")
        self.preview_box.setChecked(True)
        self.preview_box.setToolTip(
            "During training, show in a layer how the model denoises the plane in view by now. "
            "Takes at most a tenth of the time."
        )
        self.gain = GainView()
        self.losses = LossPlot()
        self.losses_section = collapsed("Losses", "Loss of HDN and of the Direct Denoiser at each step.", self.losses)
        self.preview = Preview(viewer)
        self._drawn = 0.0
        self.pause_button.clicked.connect(self._pause)
        self.preview_box.toggled.connect(self.preview.turn)
        self.preview.deleted.connect(lambda: self.preview_box.setChecked(False))
        self.show_history(None)

    @property
    def paused(self) -> bool:
        """Whether the training rests."""
        return self.pause_button.isChecked()

    def begin(self, requests: Requests, layer: Image, part: Part) -> None:
        """Show a training that starts, with a preview of a layer."""
        self.run = CurrentRun(requests)
        self._reset(())
        self._draw()
        self.preview.begin(layer, part.source, part.axes, requests, on=self.preview_box.isChecked())

    def show_history(self, model: NamedModel | None) -> None:
        """Show the curves of a model that is trained."""
        self._reset(() if model is None else model.denoiser.provenance.history)
        self._draw(ended=True)

    def show_update(self, update: Update) -> None:
        """Show the curves, the preview, and what was saved."""
        run = self.run
        assert run is not None
        if isinstance(update, Begun):
            run.model = update.model
            assert run.model is not None
            self._reset(run.model.denoiser.provenance.history)
            self._draw()
        elif isinstance(update, Stepped) and update.record is not None:
            run.step(update.record)
            self._add(update.record)
            if time.monotonic() - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
                self._draw()
        elif isinstance(update, Previewed):
            self.preview.show(update)
        elif isinstance(update, Saved):
            run.take_saved(update, running=True)
            if update.error is not None:
                show_error(str(update.error))

    def end(self) -> CurrentRun:
        """Show that the training has ended; give what is known of it."""
        run, self.run = self.run, None
        assert run is not None
        self.preview.end()
        self.pause_button.setChecked(False)
        self.pause_button.setText("Pause")
        return run

    def close(self) -> None:
        """Disconnect from the viewer."""
        self.preview.close()
        self.run = None

    def recolour(self, text: str) -> None:
        """Draw in the colour of the text of napari's theme."""
        self.gain.plot.recolour(text)
        self.losses.recolour(text)

    def _reset(self, history: Sequence[Record]) -> None:
        self.gain.reset()
        self.losses.reset()
        for record in history:
            self._add(record)

    def _add(self, record: TrainingProgress | Record) -> None:
        self.gain.add(record)
        self.losses.add(record)

    def _draw(self, *, ended: bool = False) -> None:
        self._drawn = time.monotonic()
        self.gain.draw(ended=ended)
        self.losses.draw()
        self.losses_section.setVisible(not ended or bool(self.losses.neg_elbo.steps))

    def _pause(self) -> None:
        if self.run is not None:
            self.pause_button.setText("Resume" if self.paused else "Pause")
            (self.run.requests.pause.set if self.paused else self.run.requests.pause.clear)()
