"""The Denoise dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QGroupBox, QPushButton

from ..config import DenoiseSettings
from ..errors import DenoiserError
from . import workers
from .dock import RunDock, main_button, narrow, stacked
from .forms import Form, control, duration
from .layers import Source, read_layer, result_layer
from .session import MODELS, NamedModel

if TYPE_CHECKING:
    import napari
    import numpy as np
    from numpy.typing import NDArray

    from ..denoiser import Denoiser
    from ..prediction import Output


class DenoiseWidget(RunDock):
    """Denoise a layer: in one direct pass, or by the mean or median of N samples."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.model_choice = QComboBox()
        self.model_choice.setToolTip("A model of the Train dock, or one loaded from a file.")
        narrow(self.model_choice)
        self.load_button = QPushButton("Load model file …")
        self.load_button.setToolTip("Load a model file (.safetensors).")
        self.direct_button = main_button("Denoise (direct)")
        self.direct_button.setToolTip("One pass of the Direct Denoiser: the fastest, and usually the best.")
        self.form = Form(
            [
                control(DenoiseSettings, "method", ["mean", "median"]),
                control(DenoiseSettings, "samples"),
                control(DenoiseSettings, "seed"),
            ]
        )
        self.sample_button = QPushButton()
        self.sample_button.setToolTip(
            "Draw samples from HDN and take their mean (MMSE) or median (MMAE), pixel by pixel."
        )
        self.stop_button.setToolTip("End this run. No layer is added.")
        self._models: list[NamedModel] = []
        self._loaded_name = ""
        self._request: tuple[Source, NamedModel, DenoiseSettings] | None = None
        self._lay_out()
        self.load_button.clicked.connect(self.load)
        self.direct_button.clicked.connect(self.denoise_directly)
        self.sample_button.clicked.connect(self.denoise_by_samples)
        for name in ("method", "samples"):
            self.form[name].changed.connect(self._name_sample_button)
        self._name_sample_button()
        MODELS.changed.connect(self._list_models)
        self._list_models()

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.addRow("Image layer", self.layer_choice)
        choices.addRow("Model", self.model_choice)
        choices.addRow("", self.load_button)
        samples = QGroupBox("Or draw samples from HDN")
        samples.setLayout(stacked(self.form, self.sample_button))
        column = stacked(choices, self.direct_button, samples, self.progress_row(), self.status)
        column.addStretch(1)
        self.fill(column)

    @property
    def model(self) -> NamedModel | None:
        """The chosen model."""
        return self._models[self.model_choice.currentIndex()] if self._models else None

    def denoise_directly(self) -> None:
        """One pass of the Direct Denoiser."""
        self._denoise("direct")

    def denoise_by_samples(self) -> None:
        """Mean or median of samples of HDN."""
        self._denoise(self.form["method"].value)

    def _denoise(self, method: Output) -> None:
        assert self.model is not None
        try:
            source = read_layer(self.layer_choice.layer)
        except DenoiserError as error:
            self.on_failure(error)
            return
        settings = DenoiseSettings(method=method, samples=self.form["samples"].value, seed=self.form["seed"].value)
        self._request = source, self.model, settings
        self.begin(
            workers.denoising(
                self.model.denoiser, source.data, method, samples=settings.samples, seed=settings.seed, axes=source.axes
            )
        )

    def load(self) -> None:
        """Ask for a model file and load it."""
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", "Model (*.safetensors)")
        if path:
            self.load_file(Path(path))

    def load_file(self, path: Path) -> None:
        """Load a model file; it joins the models of this session."""
        self._request = None
        self._loaded_name = path.stem
        self.begin(workers.loading(path))

    def on_success(self, result: Any) -> None:
        """Take a loaded model, or add a denoised image as a layer."""
        if self._request is None:
            self._take_model(result)
        else:
            self._add_layer(*result)

    def _take_model(self, denoiser: Denoiser) -> None:
        model = MODELS.add(self._loaded_name, denoiser)
        self.end(f"Loaded “{model.name}”.", done=True)

    def _add_layer(self, image: NDArray[np.float32], seconds: float) -> None:
        assert self._request is not None
        source, model, settings = self._request
        samples = None if settings.method == "direct" else settings.samples
        provenance = {
            "source": source.name,
            "model": model.name,
            "method": settings.method,
            "samples": samples,
            "seed": None if samples is None else settings.seed,
            "seconds": seconds,
            "training": model.denoiser.summary(),
        }
        data, keywords = result_layer(source, image, settings.method, provenance, samples)
        self.viewer.add_image(data, **keywords)
        self.end(f"Added “{keywords['name']}” after {duration(seconds)}.", done=True)

    def refresh_buttons(self) -> None:
        """Enable what can be pressed now, and say what is missing."""
        running = self.job.running
        ready = self.model is not None and self.layer_choice.layer is not None
        for button in (self.direct_button, self.sample_button):
            button.setEnabled(ready and not running)
        self.stop_button.setEnabled(running)
        for widget in (self.load_button, self.model_choice, self.layer_choice):
            widget.setEnabled(not running)
        self.form.set_enabled(not running)
        missing = "Open an image." if self.model is not None else "Train a model in the Train dock, or load one."
        self.hint("" if ready else missing)

    def close_down(self) -> None:
        """Stop the run and let go of the viewer and the models."""
        super().close_down()
        MODELS.changed.disconnect(self._list_models)
        self._models = []

    def _list_models(self) -> None:
        """List the models of this session, the newest first; a new one is chosen."""
        self._models = list(reversed(MODELS.all))
        self.model_choice.clear()
        self.model_choice.addItems([model.name for model in self._models])
        self.refresh_buttons()

    def _name_sample_button(self) -> None:
        how, samples = self.form["method"].value, self.form["samples"].value
        self.sample_button.setText(f"Denoise ({how} of {samples})")
