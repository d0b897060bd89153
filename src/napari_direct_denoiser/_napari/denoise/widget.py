"""The Denoise dock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFileDialog, QGroupBox, QLabel, QPushButton

from ...config import DenoiseChoices, DenoiseSettings
from ...data.images import named_axes
from ...errors import DenoiserError, SettingError
from ..shared.axes_row import AxesRow
from ..shared.channels import channel_axis, split_channels
from ..shared.dock import RunDock, main_button, stacked
from ..shared.forms import Form, control, duration
from ..shared.layer_choice import narrow
from ..shared.layers import Source, read_layer
from ..shared.session import MODELS, NamedModel
from ..shared.workers import Update, loading
from .denoise_now import SHORTCUT, denoise_now
from .results import add_results, check_choices, into_zarr, only_plane_in_view
from .runs import Request, Result, Warned, denoising

if TYPE_CHECKING:
    import napari

    from ...denoiser import Denoiser
    from ...prediction.tiling import Output

_WARNING_COLOUR = "#b8700a"  # readable on napari's dark and light theme


class DenoiseWidget(RunDock):
    """Denoise a layer: in one direct pass, or by what N samples say together, or as single samples."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.axes_row = AxesRow()
        self.split_button = QPushButton("Split channels")
        self.split_button.setToolTip("Make a layer of each channel: a model denoises one kind of image.")
        self.model_choice = QComboBox()
        self.model_choice.setToolTip("A model of the Train dock, or one loaded from a file; the newest comes first.")
        narrow(self.model_choice)
        self.load_button = QPushButton("Load model file …")
        self.load_button.setToolTip("Load a model file (.safetensors).")
        self.where = Form([control(DenoiseChoices, name) for name in ("planes", "result")])
        self.direct_button = main_button("Denoise")
        self.direct_button.setToolTip(
            "One pass of the Direct Denoiser: the fastest, and usually the best. "
            f"Also Layers > Filter > Denoise now, and {SHORTCUT.replace('-', '+')} once this dock was open."
        )
        outputs = ("mean", "median", "std", "single_samples")
        self.form = Form(
            [
                control(DenoiseSettings, "samples"),
                *(control(DenoiseChoices, name) for name in outputs),
                control(DenoiseSettings, "seed"),
            ]
        )
        self.sample_button = QPushButton()
        self.sample_button.setToolTip("Draw samples from HDN, and add what is checked above: all out of the same run.")
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setStyleSheet(f"color: {_WARNING_COLOUR}")
        self.warning.hide()
        self.stop_button.setToolTip("End this run. No layer is added, and no file is left.")
        self._models: list[NamedModel] = []
        self._loaded_name = ""
        self._request: Request | None = None
        self._lay_out()
        self._connect()
        self._name_sample_button()
        self._list_models()

    def _lay_out(self) -> None:
        rows = {
            "Image layer": self.layer_choice,
            "Axes": self.axes_row,
            "": self.split_button,
            "Model": self.model_choice,
            " ": self.load_button,
        }
        for place, (label, widget) in enumerate(rows.items()):
            self.where.insertRow(place, label, widget)
        samples = QGroupBox("Or draw samples from HDN")
        samples.setLayout(stacked(self.form, self.sample_button))
        column = stacked(self.where, self.direct_button, samples, self.progress_row(), self.warning, self.status)
        column.addStretch(1)
        self.fill(column)

    def _connect(self) -> None:
        self.load_button.clicked.connect(self.load)
        self.split_button.clicked.connect(self.split)
        self.direct_button.clicked.connect(self.denoise_directly)
        self.sample_button.clicked.connect(self.denoise_by_samples)
        self.form["samples"].changed.connect(self._name_sample_button)
        self.axes_row.changed.connect(self.refresh_buttons)
        self.model_choice.currentIndexChanged.connect(self.refresh_buttons)
        self.viewer.bind_key(SHORTCUT, denoise_now, overwrite=True)
        MODELS.changed.connect(self._list_models)

    @property
    def model(self) -> NamedModel | None:
        """The chosen model."""
        return self._models[self.model_choice.currentIndex()] if self._models else None

    def denoise_now(self) -> None:
        """Denoise directly with the newest model, as the command in the menu does."""
        if self.job.running:
            return
        if not self._models:
            self.on_failure(SettingError("Expected a model, found none: train one in the Train dock, or load one"))
            return
        self.model_choice.setCurrentIndex(0)
        self.denoise_directly()

    def denoise_directly(self) -> None:
        """One pass of the Direct Denoiser."""
        self._denoise(["direct"])

    def denoise_by_samples(self) -> None:
        """What is checked, out of samples of HDN."""
        outputs: list[Output] = [name for name in ("mean", "median", "std") if self.form[name].value]
        self._denoise([*outputs, "sample"] if self.form["single_samples"].value else outputs)

    def split(self) -> None:
        """Make a layer of each channel of the chosen layer."""
        layer = self.layer_choice.layer
        axis = channel_axis(layer, self._axes(layer))
        if axis is not None:
            split_channels(self.viewer, layer, axis)
            self.say("")

    def _denoise(self, outputs: Sequence[Output]) -> None:
        try:
            request = self._ask(outputs)
        except DenoiserError as error:
            offer = "" if self.split_button.isHidden() else ". “Split channels” above does it"
            self.on_failure(type(error)(f"{error}{offer}"))
            return
        if request is not None:
            self._request = request
            self.warning.hide()
            self.begin(denoising(request))

    def _ask(self, outputs: Sequence[Output]) -> Request | None:
        """Read all that a run needs; None if a person would rather not. `DenoiserError` if it makes no sense."""
        assert self.model is not None
        layer, kept = self.layer_choice.layer, self.form["single_samples"].value
        source = read_layer(layer)
        settings = DenoiseSettings(samples=self.form["samples"].value, seed=self.form["seed"].value)
        axes = named_axes(source.shape, self._axes(layer), name=repr(source.name))
        planes, result = self.where["planes"].value, self.where["result"].value
        request = Request(
            source, axes, self.model, tuple(outputs), settings, kept, as_looked_at=result == "as looked at"
        )
        check_choices(request)
        if planes == "in view":
            request = only_plane_in_view(request, self.viewer, layer)
        return into_zarr(request, self, layer) if result == "zarr folder" else request

    def load(self) -> None:
        """Ask for a model file and load it."""
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", "Model (*.safetensors)")
        if path:
            self.load_file(Path(path))

    def load_file(self, path: Path) -> None:
        """Load a model file; it joins the models of this session."""
        self._request = None
        self._loaded_name = path.stem
        self.begin(loading(path))

    def show_update(self, update: Update) -> None:
        """Show how far the run is, and in which ways the image differs from the training."""
        super().show_update(update)
        if isinstance(update, Warned):
            assert self._request is not None
            differs = "; ".join(update.differences)
            self.warning.setText(f"“{self._request.source.name}” {differs}. Look at the result with care.")
            self.warning.show()

    def on_success(self, result: Any) -> None:
        """Take a loaded model, or add denoised images as layers."""
        if self._request is None:
            self._take_model(result)
        else:
            self._add_layers(*result)

    def _take_model(self, denoiser: Denoiser) -> None:
        model = MODELS.add(self._loaded_name, denoiser)
        self.end(f"Loaded “{model.name}”.", done=True)

    def _add_layers(self, results: Sequence[Result], seconds: float) -> None:
        request = self._request
        assert request is not None
        names = add_results(self.viewer, request, results, seconds)
        added = "Added " + ", ".join(f"“{name}”" for name in names)
        how = ": each plane is computed when you look at it" if request.as_looked_at else f" after {duration(seconds)}"
        self.end(f"{added}{how}.", done=True)

    def refresh_buttons(self) -> None:
        """Enable what can be pressed now, and say what is missing."""
        running, layer = self.job.running, self.layer_choice.layer
        ready = self.model is not None and layer is not None
        self.axes_row.show_layer(layer, self._shown_source(layer))
        self.split_button.setVisible(channel_axis(layer, self._axes(layer)) is not None)
        for button in (self.direct_button, self.sample_button):
            button.setEnabled(ready and not running)
        self.stop_button.setEnabled(running)
        for widget in (self.load_button, self.model_choice, self.layer_choice, self.axes_row, self.split_button):
            widget.setEnabled(not running)
        for form in (self.where, self.form):
            form.set_enabled(not running)
        missing = "Open an image." if self.model is not None else "Train a model in the Train dock, or load one."
        self.hint("" if ready else missing)

    def close_down(self) -> None:
        """Stop the run and let go of the viewer and the models."""
        super().close_down()
        MODELS.changed.disconnect(self._list_models)
        self._models = []

    def _shown_source(self, layer: Any) -> Source | None:
        """Read a layer, with the axes that the model was trained on where it has no names for its own."""
        try:
            source = read_layer(layer)
        except DenoiserError:
            return None
        trained = self.model.denoiser.provenance.axes if self.model is not None else ""
        fits = not source.axes and channel_axis(layer) is None and len(trained) == len(source.shape)
        return replace(source, axes=trained) if fits else source

    def _axes(self, layer: Any) -> str | None:
        source = self._shown_source(layer)
        return None if source is None else self.axes_row.axes_of(layer, source)

    def _list_models(self) -> None:
        """List the models of this session, the newest first; a new one is chosen."""
        self._models = list(reversed(MODELS.all))
        self.model_choice.clear()
        self.model_choice.addItems([model.name for model in self._models])
        self.refresh_buttons()

    def _name_sample_button(self) -> None:
        self.sample_button.setText(f"Draw {self.form['samples'].value} samples")
