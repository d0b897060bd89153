"""The Train dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QLabel

from ...errors import DenoiserError
from ..shared.dock import RunDock, collapsed, main_button, stacked
from ..shared.help import with_help
from ..shared.open_dock import compare_hdn_with_direct, denoise_stack
from ..shared.preferences import ask_for_model, models_folder, preferences
from ..shared.save_dialog import ask_for_file
from ..shared.session import MODELS, NamedModel
from ..shared.workers import Steps, Update, loading
from .current_run import RunView
from .data_section import TrainingData
from .estimate_words import estimate_words
from .models_section import ModelsSection
from .noise_runs import Look, looking, saving_noise
from .noise_section import NoiseSection
from .parts import NotReadyError, Part
from .recovery import Recovered
from .runs import Begun, Requests, continuing, training
from .saving import ModelSaver
from .settings_section import Settings

if TYPE_CHECKING:
    import napari

    from ...config import TrainSettings
    from ...denoiser import Denoiser

_SUFFIX = ".safetensors"
_READY = "Train a model on all planes of the chosen layer. No clean image is needed."


class TrainWidget(RunDock):
    """Train HDN and the Direct Denoiser on layers, follow the gain and a preview, save the model."""

    name = "Train"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.data = TrainingData(self.viewer, self.layer_choice)
        self.choices = Settings()
        self.form, self.advanced = self.choices.form, self.choices.advanced
        self.noise = NoiseSection()
        self.ready = QLabel()
        self.ready.setWordWrap(True)
        self.train_button = main_button("Train")
        self.stop_button.setToolTip("End the training now and keep the best weights so far. Continue can go on later.")
        self.view = RunView(self.viewer)
        self.pause_button, self.preview_box = self.view.pause_button, self.view.preview_box
        self.models, self.saver = ModelsSection(), ModelSaver(self)
        self._take: Callable[[Any], None] = lambda result: None
        self._lay_out()
        self._connect()
        self._recolour()
        self.data.refresh()

    def _lay_out(self) -> None:
        self.form.insertRow(0, "Image layer", with_help(self.layer_choice, "train"))
        self.form.insertRow(1, "Axes", self.data.axes_row)
        self.form.insertRow(2, self.data.channels)
        more = ("Several layers, or a region", "Train on more than one layer, or on a part of it.", self.data.more)
        self.noise_title = collapsed(
            "Noise model", "How the camera adds noise. Automatic fits most images; measure it to check.", self.noise
        )
        row = self.progress_row()
        row.insertWidget(1, self.pause_button)
        column = stacked(
            self.form,
            with_help(collapsed(*more), "train"),
            with_help(self.noise_title, "noise"),
            with_help(self.choices.section, "settings"),
            self.noise.findings,
            self.ready,
            self.train_button,
            row,
            self.status,
            self.view.gain,
            self.models,
            self.preview_box,
            self.view.losses_section,
        )
        column.setSpacing(5)
        column.setStretchFactor(self.view.gain, 100)
        column.addStretch(1)
        self.fill(column)

    def _connect(self) -> None:
        self.data.changed.connect(self._list_layers)
        self.models.changed.connect(self._show_model)
        self.saver.changed.connect(self.refresh_buttons)
        self.noise.form.changed.connect(self.refresh_buttons)
        self.choices.changed.connect(self.refresh_buttons)
        for button, does in (
            (self.train_button, self.train),
            (self.noise.look_button, self.look),
            (self.noise.save_button, self.save_noise),
            (self.models.compare_button, self.compare),
            (self.models.denoise_button, self.denoise),
            (self.models.continue_button, self.continue_training),
            (self.models.save_button, self.save),
            (self.models.load_button, self.load),
        ):
            button.clicked.connect(does)
        self.noise.findings.structured_wanted.connect(lambda: setattr(self.advanced["structured"], "value", True))
        self.models.recovered.load_wanted.connect(self._load_recovered)
        self.viewer.events.theme.connect(self._recolour)

    def settings(self) -> TrainSettings:
        """The settings that are chosen in the dock.

        Raises
        ------
        DenoiserError
            If something is missing or invalid.
        """
        noise = self.noise.form
        return self.choices.settings(noise.choice().text, refine_noise=noise["refine_noise"].value)

    # What the buttons do.
    def train(self) -> None:
        """Start training on what is chosen."""
        with self._refusals():
            parts, noise, settings = self.data.parts(), self.noise.form.choice(), self.settings()
            requests = Requests(self.job.stopping)
            self._begin_training(requests, parts, training(parts, settings, noise, requests))

    def train_now(self) -> None:
        """Train on what is chosen, as the command does. Do nothing during a run."""
        if not self.job.running:
            self.train()

    def continue_training(self) -> None:
        """Train a copy of the chosen model further on what is chosen."""
        model = self.models.model
        assert model is not None
        with self._refusals():
            parts, settings = self.data.parts(), self.settings()
            requests = Requests(self.job.stopping)
            self._begin_training(requests, parts, continuing(model, parts, settings, requests))

    def denoise(self) -> None:
        """Denoise the chosen layer with the chosen model in the Denoise dock; its training is stopped first."""
        layer, model = self.layer_choice.layer, self.models.model
        self._denoise_next = model is not None and model is self.models.training
        if self._denoise_next:
            self.stop_button.click()
        elif layer is not None and model is not None:
            denoise_stack(self.viewer, layer, model)

    def compare(self) -> None:
        """Compare results of the chosen model on the chosen layer in the Compare dock."""
        layer, model = self.layer_choice.layer, self.models.model
        if layer is not None and model is not None:
            compare_hdn_with_direct(self.viewer, layer, model)

    def look(self) -> None:
        """Measure the noise of the chosen data, and fit the noise model to it."""
        with self._refusals():
            self._begin(looking(self.data.parts(), self.noise.form.choice()), self._show_look)

    def save_noise(self) -> None:
        """Ask for a file, and write the noise model that is shown."""
        assert self.noise.look is not None
        with self._refusals():
            path = ask_for_file(self, "Save noise model", "noise", ".json", "noise model", also=".npz")
            if path is not None:
                done = f"Saved the noise model to {path}"
                self._begin(saving_noise(self.noise.look, path), lambda result: self.end(done, done=True))

    def save(self) -> None:
        """Ask for a file, and write the chosen model. A model in training is written after its next step."""
        model = self.models.model
        assert model is not None
        with self._refusals():
            path = ask_for_file(self, "Save model", model.name, _SUFFIX, "model file", folder=models_folder())
            if path is not None and self.view.run is not None and model is self.models.training:
                self.view.run.requests.saves.put(path)
            elif path is not None:
                self.saver.save(model, path)

    def load(self) -> None:
        """Ask for a model file and load it; it joins the models of this session."""
        path = ask_for_model(self)
        if path is not None:
            self._begin(self._loading(path), lambda denoiser: self._take_loaded(MODELS.add(path.stem, denoiser)))

    def _load_recovered(self, offered: Recovered) -> None:
        """Load a recovered model. Its file stays until the model is saved, or the file discarded."""
        if self.job.running:
            return

        def take(denoiser: Denoiser) -> None:
            self._take_loaded(MODELS.add(offered.name, denoiser, offered.folder))
            self.models.recovered.offer()
            self.say(f"Loaded “{offered.name}”. Save it to keep it.")

        self._begin(self._loading(offered.model), take)

    def _loading(self, path: Path) -> Steps:
        return loading(path, preferences().device)

    def _begin_training(self, requests: Requests, parts: list[Part], steps: Steps) -> None:
        self._denoise_next = False
        self.view.begin(requests, self.layer_choice.layer, parts[0])
        self._begin(steps, lambda denoiser: self._end_training("Done.", done=True))

    def _begin(self, steps: Steps, take: Callable[[Any], None]) -> None:
        self._take = take
        self.begin(steps)

    # Progress and end of a run.
    def show_update(self, update: Update) -> None:
        """Show the progress of a run, its curves, its preview, and what was saved."""
        super().show_update(update)
        if self.view.run is None:
            return
        self.view.show_update(update)
        if isinstance(update, Begun):
            self.models.choice.show_training(update.model)
            if update.look is not None:
                self.noise.show_look(update.look, self.layer_choice.layer)
        if self.view.run.note and not self.job_is_stopping:
            self.say(f"{update.words} {self.view.run.note}")
        if self.view.paused and update.fraction is not None:
            self.progress.setFormat(f"{update.fraction:.0%} · paused")

    def on_success(self, result: Any) -> None:
        """Handle the result of the run."""
        self._take(result)

    def on_stop(self) -> None:
        """Take the model of a training that was stopped."""
        if self.view.run is None:
            super().on_stop()
        else:
            self._end_training("Stopped.", done=False)

    def on_failure(self, error: Exception) -> None:
        """Show the error. If there is a model it is kept: it holds the last good weights."""
        run = self.view.run
        words = self._finish() if run is not None else ""
        super().on_failure(error)
        if run is not None and run.last is not None:
            self.say(f"{error}. {words}", error=True)

    def _end_training(self, words: str, *, done: bool) -> None:
        assert self.view.run is not None
        last = self.view.run.last
        why = last.stopped if last else None
        early = f"Ended early: {why}." if why and why != "finished" else words
        self.end(f"{early} {self._finish()}", done=done)
        if self._denoise_next:
            self.denoise()

    def _finish(self) -> str:
        """Take the model of a training that has ended, and describe it."""
        run = self.view.end()
        model = run.end()
        self.models.choice.show_training(None)
        if model is not None:
            self.models.choice.choose(model)
        return run.words(model)

    def _take_loaded(self, model: NamedModel) -> None:
        self.models.choice.choose(model)
        self.end(f"Loaded “{model.name}”.", done=True)

    def _show_look(self, look: Look) -> None:
        self.noise.show_look(look, self.layer_choice.layer)
        self.end("Measured the noise." + ("" if look.findings else " Nothing unusual."), done=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Show an error in a choice. A run may go on meanwhile."""
        try:
            yield
        except DenoiserError as error:
            self.say(str(error), error=True)
            show_error(str(error))

    # State of the controls.
    def refresh_buttons(self) -> None:
        """Enable the controls that can be used now, and show what is missing or what training will take."""
        missing, running, model = self._missing(), self.job.running, self.models.model
        self.noise_title.setText(f"Noise model: {self.noise.form.describe()}")
        self.train_button.setText(f"Train: {missing.short}" if missing else "Train")
        self.train_button.setToolTip(str(missing or _READY))
        self.noise.findings.set_structured(self.advanced["structured"].value)
        self.train_button.setEnabled(not missing and not running)
        self.stop_button.setEnabled(running)
        self.pause_button.setEnabled(running and self.models.training is not None)
        usable, in_training = model is not None and self.layer_choice.layer is not None, model is self.models.training
        self.models.compare_button.setEnabled(usable and not in_training)
        self.models.denoise_button.setEnabled(usable)
        self.models.denoise_button.setText("Stop and denoise" if usable and in_training else "Denoise stack")
        self.models.recovered.load_button.setEnabled(not running)
        self.models.continue_button.setEnabled(not missing and not running and model is not None)
        self.models.save_button.setEnabled(model is not None and not self.saver.running)
        self.models.load_button.setEnabled(not running)
        for part in (self.choices, self.data, self.noise):
            part.set_enabled(not running)

    def _missing(self) -> NotReadyError | None:
        """What is missing before training can start; if nothing, show what the training will take."""
        missing = None
        try:
            words = estimate_words([part.planes_shape for part in self.data.parts()], self.settings())
        except NotReadyError as error:
            missing, words = error, str(error)
        except DenoiserError as error:
            missing, words = NotReadyError("change the settings", str(error)), str(error)
        self.ready.setText(words)
        return missing

    def _show_model(self) -> None:
        """Show the curves of the chosen model, unless a training shows its own."""
        if self.view.run is None:
            self.view.show_history(self.models.model)
        self.refresh_buttons()

    def _list_layers(self) -> None:
        self.noise.form.offer(self.data.others())
        if self.layer_choice.layer is not self.noise.looked_at and not self.job.running:
            self.noise.forget()
        self.refresh_buttons()

    def _recolour(self, event: Any = None) -> None:
        text = get_theme(self.viewer.theme).text.as_hex()
        self.view.recolour(text)
        self.noise.recolour(text)

    def close_down(self) -> None:
        """Ask the training to stop and disconnect from the viewer. The thread of the training keeps the model."""
        super().close_down()
        self.view.close()
        self.data.release()
        self.noise.form.offer([])
        self.models.choice.release()
        self.viewer.events.theme.disconnect(self._recolour)
