"""The Denoise dock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QGroupBox, QLabel, QPushButton, QWidget

from ...config import DenoiseChoices, DenoiseSettings
from ...data.images import named_axes
from ...errors import DenoiserError, ImageError, SettingError
from ..shared.axes_row import AxesRow
from ..shared.channels import ChannelsRow, find_channels, read_channel
from ..shared.dock import RunDock, collapsed, main_button, side_by_side, stacked
from ..shared.forms import Form, control
from ..shared.help import with_help
from ..shared.layer_choice import selected_images
from ..shared.layers import Source, read_layer
from ..shared.model_choice import ModelChoice
from ..shared.preferences import ask_for_model, preferences
from ..shared.session import MODELS, NamedModel
from ..shared.workers import Update, loading
from .batch import Batch
from .denoise_now import SHORTCUT, bind_shortcut
from .methods_button import MethodsButton
from .results import add_results, check_choices, check_scheduler, into_zarr, only_plane_in_view
from .runs import Request, Warned, denoising
from .student_choice import StudentChoice

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from ...prediction.tiling import Output

_WARNING_COLOUR = "#b8700a"  # readable on napari's dark and light theme


class DenoiseWidget(RunDock):
    """Denoise layers in one direct pass, or by samples: mean, median, mode, standard deviation, single ones."""

    name = "Denoise"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.layer_choice.setToolTip(
            "The noisy image. Select several image layers in the layer list to denoise all of them, one by one."
        )
        self.axes_row = AxesRow()
        self.channels = ChannelsRow(self.viewer)
        self.model_choice = ModelChoice("A model of the Train dock, or one loaded from a file. The newest comes first.")
        self.student_choice = StudentChoice(self.model_choice)
        self.load_button = QPushButton("Load …")
        self.load_button.setToolTip("Load a model file (.safetensors).")
        self.where = Form(
            [
                *(control(DenoiseChoices, name) for name in ("planes", "result")),
                control(DenoiseSettings, "dtype"),
            ]
        )
        self.cluster_form = Form([control(DenoiseChoices, "scheduler")])
        self.direct_form = Form([control(DenoiseChoices, "direct_std")])
        self.direct_button = main_button("Denoise")
        on_key = f" or {SHORTCUT.replace('-', '+')}" if bind_shortcut(self.viewer) else ""
        self.direct_button.setToolTip(
            "One pass of the Direct Denoiser: the fastest, and usually the best. "
            f"Layers > Filter > Denoise now{on_key} does the same with the newest model."
        )
        outputs = ("mean", "median", "mode", "std", "single_samples")
        self.form = Form(
            [
                control(DenoiseSettings, "samples"),
                *(control(DenoiseChoices, name) for name in outputs),
                control(DenoiseSettings, "seed"),
            ]
        )
        self.sample_button = QPushButton()
        self.sample_button.setToolTip(
            "Draw samples from HDN, and add each checked output as a layer. All outputs come from the same samples."
        )
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setStyleSheet(f"color: {_WARNING_COLOUR}")
        self.warning.hide()
        self.stop_button.setToolTip("Stop this run. No layer of it is added, and no file is left.")
        self.methods_button = MethodsButton(self.viewer, self.student_choice)
        self._loaded_name = ""
        self._batch: Batch | None = None
        self._lay_out()
        self._connect()
        self.refresh_buttons()

    def _lay_out(self) -> None:
        rows = {
            "Image layer": with_help(self.layer_choice, "denoise"),
            "Axes": self.axes_row,
            "Channel": self.channels,
            "Model": self.model_choice,
            "Student": self.student_choice,
            "": side_by_side(self.load_button, self.methods_button),
        }
        for place, (label, widget) in enumerate(rows.items()):
            self.where.insertRow(place, label, widget)
        samples = QGroupBox("Or draw samples from HDN")
        samples.setLayout(stacked(self.form, self.sample_button))
        cluster = QWidget()
        cluster.setLayout(self.cluster_form)
        column = stacked(
            self.where,
            with_help(collapsed("On a cluster", "Denoise on other computers, with dask.", cluster), "cluster"),
            self.direct_form,
            with_help(self.direct_button, "error"),
            with_help(samples, "samples"),
            self.progress_row(),
            self.warning,
            self.status,
        )
        column.addStretch(1)
        self.fill(column)

    def _connect(self) -> None:
        self.load_button.clicked.connect(self.load)
        self.channels.changed.connect(self.refresh_buttons)
        self.channels.planes_wanted.connect(self._treat_as_planes)
        self.direct_button.clicked.connect(self.denoise_directly)
        self.sample_button.clicked.connect(self.denoise_by_samples)
        self.methods_button.copied.connect(self.say)
        self.form["samples"].changed.connect(self._name_buttons)
        self.viewer.layers.selection.events.changed.connect(self._follow_selection)
        self.axes_row.changed.connect(self.refresh_buttons)
        self.model_choice.currentIndexChanged.connect(self.refresh_buttons)
        self.student_choice.currentIndexChanged.connect(self.refresh_buttons)

    @property
    def model(self) -> NamedModel | None:
        """The chosen model, with the chosen student in use."""
        return self.student_choice.model

    def denoise_now(self) -> None:
        """Denoise the chosen layer directly with the newest model, as the command in the menu does."""
        if not MODELS.all:
            self.on_failure(SettingError("Expected a model, found none: train one in the Train dock, or load one"))
            return
        self._denoise_with(self.layer_choice.layer, MODELS.all[-1])

    def denoise_layer(self, layer: Image, model: NamedModel) -> None:
        """Choose a layer and a model of this session, and denoise all planes directly. Do nothing during a run."""
        if not self.job.running:
            self.where["planes"].value = "all"
            self._denoise_with(layer, model)

    def _denoise_with(self, layer: Image | None, model: NamedModel) -> None:
        if not self.job.running:
            self.layer_choice.choose(layer)
            self.model_choice.choose(model)
            self.denoise_directly()

    def denoise_directly(self) -> None:
        """One pass of the Direct Denoiser."""
        with_std = self.direct_form["direct_std"].value and self._predicts_std()
        self._denoise(["direct", "std"] if with_std else ["direct"])

    def denoise_by_samples(self) -> None:
        """Compute the checked outputs from posterior samples of HDN."""
        kinds: dict[str, Output] = {"mean": "mean", "median": "median", "mode": "mode", "std": "sample_std"}
        kinds["single_samples"] = "sample"
        self._denoise([output for name, output in kinds.items() if self.form[name].value])

    def _predicts_std(self) -> bool:
        """Whether the direct pass of the chosen model gives a standard deviation; older models do not."""
        return self.model is not None and self.model.denoiser.model.has_std

    def _denoise(self, outputs: Sequence[Output]) -> None:
        self._batch = None
        layers = self._layers()
        try:
            requests = [self._ask(layer, outputs) for layer in layers]
            if self.where["result"].value == "zarr folder":
                requests = into_zarr(requests, self, layers)
        except DenoiserError as error:
            self.on_failure(error)
            return
        if requests:
            self._batch = Batch(requests)
            self.warning.hide()
            self.begin(denoising(self._batch.request))

    def _follow_selection(self, event: Any = None) -> None:
        """Choose among several layers that were selected; the layer choice itself follows a single one."""
        selected = selected_images(self.viewer)
        if len(selected) > 1 and self.layer_choice.layer not in selected:
            self.layer_choice.choose(selected[-1])
        self._name_buttons()

    def _layers(self) -> list[Image | None]:
        """The chosen layer, or all that are selected with it in the layer list."""
        chosen, selected = self.layer_choice.layer, selected_images(self.viewer)
        return list(selected) if chosen in selected else [chosen]

    def _ask(self, layer: Image | None, outputs: Sequence[Output]) -> Request:
        """Read all that the run of a layer needs; `DenoiserError` if the choices cannot work."""
        model, kept = self.model, self.form["single_samples"].value
        assert model is not None
        source, axes = self._read(layer)
        chosen = {"samples": self.form["samples"], "seed": self.form["seed"], "dtype": self.where["dtype"]}
        settings = DenoiseSettings(**{name: control.value for name, control in chosen.items()})
        axes = named_axes(source.shape, axes, name=repr(source.name))
        result, scheduler = self.where["result"].value, self.cluster_form["scheduler"].value.strip()
        check_scheduler(scheduler, result)
        looked_at = result == "as looked at"
        request = Request(
            source, axes, model, tuple(outputs), settings, kept, as_looked_at=looked_at, scheduler=scheduler
        )
        check_choices(request)
        return only_plane_in_view(request, self.viewer, layer) if self.where["planes"].value == "in view" else request

    def _read(self, layer: Image | None) -> tuple[Source, str | None]:
        """Read the layer or the chosen channel of it, with its axes."""
        found = find_channels(layer, self._axes(layer))
        if layer is None or found is None:
            return read_layer(layer), self._axes(layer)
        if self.channels.channel is None:
            raise ImageError(
                f"Expected one channel, found {found.size} in {layer.name!r}: choose a channel, or split them"
            )
        return read_channel(layer, found, self.channels.channel)

    def load(self) -> None:
        """Ask for a model file and load it."""
        path = ask_for_model(self)
        if path is not None:
            self.load_file(path)

    def load_file(self, path: Path) -> None:
        """Load a model file, and add it to the models of this session."""
        self._batch = None
        self._loaded_name = path.stem
        self.begin(loading(path, preferences().device))

    def show_update(self, update: Update) -> None:
        """Show the progress of the run, and a warning if the image differs from the training images."""
        batch = self._batch
        super().show_update(update if batch is None else replace(update, words=batch.place + update.words))
        if isinstance(update, Warned) and batch is not None:
            differs = "; ".join(update.differences)
            found = f"“{batch.request.source.name}” {differs}. Check the result with care."
            before = "" if self.warning.isHidden() else f"{self.warning.text()}\n"
            self.warning.setText(before + found)
            self.warning.show()

    def on_success(self, result: Any) -> None:
        """Add a loaded model to the list, or the results as layers."""
        batch = self._batch
        if batch is None:
            self.show_model(MODELS.add(self._loaded_name, result))
            return
        results, seconds = result

        def go_on(names: Sequence[str]) -> None:
            if batch.add(names, results, seconds):
                self.on_stop() if self.job.stopping() else self.begin(denoising(batch.request))
            else:
                self.end(batch.words(), done=True)

        add_results(self.job.turns, self.viewer, batch.request, results, seconds, go_on)

    def on_stop(self) -> None:
        """Say what was added before the run was stopped."""
        self.end(f"Stopped. {self._batch.words() if self._batch else ''}".strip())

    def on_failure(self, error: Exception) -> None:
        """Show an error, which layer it is about, and what was added before."""
        batch = self._batch
        super().on_failure(error)
        if batch is not None and batch.place:
            self.say(f"{batch.place}“{batch.request.source.name}”: {error}. {batch.words()}".strip(), error=True)

    def show_model(self, model: NamedModel) -> None:
        """Choose a model that was loaded. A run that is under way goes on with its own."""
        self.model_choice.choose(model)
        if not self.job.running:
            self.end(f"Loaded “{model.name}”.", done=True)

    def show_refusal(self, error: DenoiserError) -> None:
        """Show why a model was not loaded. A run that is under way goes on."""
        if self.job.running:
            show_error(str(error))
        else:
            self._batch = None
            self.on_failure(error)

    def refresh_buttons(self) -> None:
        """Enable what can be used now, and say what is missing."""
        running, layer, model = self.job.running, self.layer_choice.layer, self.model
        ready = model is not None and layer is not None
        self.axes_row.show_layer(layer, self._shown_source(layer))
        self.channels.show_layer(layer, self._axes(layer))
        self.where.labelForField(self.channels).setVisible(self.channels.found is not None)
        self.where.setRowVisible(self.student_choice, self.student_choice.offers)
        for button in (self.direct_button, self.sample_button):
            button.setEnabled(ready and not running)
        self.stop_button.setEnabled(running)
        inputs = (self.load_button, self.model_choice, self.student_choice, self.layer_choice, self.axes_row)
        for widget in (*inputs, self.channels):
            widget.setEnabled(not running)
        for form in (self.where, self.cluster_form, self.form):
            form.set_enabled(not running)
        self.direct_form.set_enabled(not running and (model is None or self._predicts_std()))
        missing = "Open an image." if model is not None else "Train a model in the Train dock, or load one."
        self.methods_button.setEnabled(model is not None)
        self._name_buttons()
        advice = model.denoiser.provenance.advice if model is not None else ""
        self.hint(advice and f"{advice}." if ready else missing)

    def close_down(self) -> None:
        """Stop the run, and let go of the viewer and the models."""
        super().close_down()
        self.viewer.layers.selection.events.changed.disconnect(self._follow_selection)
        self.channels.release()
        self.model_choice.release()
        self.student_choice.refresh()

    def _shown_source(self, layer: Image | None) -> Source | None:
        """Read a layer. If its axes have no names, they are those of the training where these fit."""
        try:
            source = read_layer(layer)
        except DenoiserError:
            return None
        model = self.model
        trained = model.denoiser.provenance.axes if model is not None else ""
        fits = not source.axes and find_channels(layer) is None and len(trained) == len(source.shape)
        return replace(source, axes=trained) if fits else source

    def _axes(self, layer: Image | None) -> str | None:
        source = self._shown_source(layer)
        return None if layer is None or source is None else self.axes_row.axes_of(layer, source)

    def _treat_as_planes(self, axes: str) -> None:
        if (layer := self.layer_choice.layer) is not None:
            self.axes_row.correct(layer, axes)

    def _name_buttons(self) -> None:
        count = len(self._layers())
        of = f" {count} layers" if count > 1 else ""
        self.direct_button.setText(f"Denoise{of}")
        self.sample_button.setText(f"Draw {self.form['samples'].value} samples" + (f" of{of}" if of else ""))
