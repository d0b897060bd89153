"""The Compare dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QTabWidget

from ...data.images import named_axes
from ...errors import DenoiserError, ImageError
from ...evaluation.compare import Judged, LazyPlanes, Row
from ..shared.dock import RunDock, stacked
from ..shared.layer_choice import LayerChecks, OneLayer, narrow
from ..shared.layers import METADATA_KEY, Source, facts, full_shape, read_layer
from ..shared.plane_layers import plane_in_view, plane_number, plane_words, source_of_plane
from ..shared.session import MODELS, NamedModel
from ..shared.workers import Steps
from . import runs as compare_runs
from .layers import check_fit, images_of, is_result_of, judged, layers_of
from .panels import AgainstPanel, LookPanel, MeasurePanel

if TYPE_CHECKING:
    import napari

    from ...evaluation.sample_convergence import SampleConvergence


class CompareWidget(RunDock):
    """Compare results of one noisy layer: look at them together, measure them, weigh HDN against the direct pass."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.layer_choice.setToolTip("The noisy image that the results were made from.")
        # A click on a result or the truth makes that the active layer; the noisy one stays what it is.
        self.layer_choice.stay()
        self.truth_choice = OneLayer("The same image without noise, if there is one: PSNR and SSIM need it.", "none")
        self.results = LayerChecks("The results to compare: those of the Denoise dock, or any other images.")
        self.model_choice = QComboBox()
        self.model_choice.setToolTip(
            "A model of this session: HDN against direct runs it, and its noise model judges residuals."
        )
        narrow(self.model_choice)
        self.stop_button.setToolTip("End this run. Nothing is shown of it.")
        self.look = LookPanel(self.viewer, self.on_failure)
        self.measure = MeasurePanel()
        self.against = AgainstPanel()
        self._models: list[NamedModel] = []
        self._take: Callable[[Any], None] = lambda result: None
        self._lay_out()
        self._begin_with_source()
        self._connect()
        self._list_models()
        self._list_layers()
        self._recolour()

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.addRow("Noisy", self.layer_choice)
        choices.addRow("Results", self.results)
        choices.addRow("Truth", self.truth_choice)
        choices.addRow("Model", self.model_choice)
        self.tabs = QTabWidget()
        for panel, title, tooltip in (
            (self.look, "Look", "Look at the chosen layers together."),
            (self.measure, "Measure", "A table of how good the results are."),
            (self.against, "HDN or direct?", "The paper's Figure 1 on your own image."),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(panel, title), tooltip)
        column = stacked(choices, self.tabs, self.progress_row(), self.status)
        column.setStretchFactor(self.tabs, 1)
        self.fill(column)

    def _connect(self) -> None:
        self.layer_choice.currentIndexChanged.connect(self._list_layers)  # told at every change of the layer list
        self.truth_choice.currentIndexChanged.connect(self._list_layers)
        self.results.changed.connect(self._offer)
        self.look.difference_button.clicked.connect(self.subtract)
        self.measure.measure_button.clicked.connect(self.fill_table)
        self.measure.save_button.clicked.connect(self.save_table)
        self.against.run_button.clicked.connect(self.run_against_direct)
        self.viewer.events.theme.connect(self._recolour)
        MODELS.changed.connect(self._list_models)

    @property
    def model(self) -> NamedModel | None:
        """The chosen model."""
        return self._models[self.model_choice.currentIndex()] if self._models else None

    # What the buttons do.
    def subtract(self) -> None:
        """Add the difference of two layers."""
        with self._refusals():
            first, second = self.look.pair()
            source = read_layer(first)
            axes = self._axes(source)
            check_fit(first, second, axes)
            name = f"{first.name} − {second.name}"
            self._run(
                compare_runs.subtracting(source.data, read_layer(second).data, axes),
                lambda found: self._add_difference(source, name, *found),
            )

    def fill_table(self) -> None:
        """Measure the checked results over all planes."""
        with self._refusals():
            noisy, layers, truth = self.layer_choice.layer, self.results.layers, self.truth_choice.layer
            source = read_layer(noisy)
            axes = self._axes(source)
            if not layers:
                raise ImageError("Expected at least one result, found none: check one, or make one in the Denoise dock")
            for layer in layers:
                check_fit(noisy, layer, axes)
            planes = LazyPlanes(source.data, axes)
            results = [judged(layer, axes) for layer in layers]
            if truth is not None:  # the noisy image itself is what all others have to beat
                results.insert(0, Judged(planes, "noisy", name=source.name))
            denoiser = self.model.denoiser if self.model else None
            steps = compare_runs.measuring(planes, results, self._true_planes(axes), denoiser)
            self._run(steps, self._show_table)

    def save_table(self) -> None:
        """Ask where to, and write the table."""
        path, _ = QFileDialog.getSaveFileName(self, "Save table", "compare.csv", "Table (*.csv)")
        if path:
            path = path if path.endswith(".csv") else path + ".csv"
            with self._refusals():
                self.measure.table.save(path)
                self.say(f"Saved the table to {path}")

    def run_against_direct(self) -> None:
        """Denoise the plane in view directly and by ever more samples."""
        assert self.model is not None
        model, noisy = self.model, self.layer_choice.layer
        with self._refusals():
            source = read_layer(noisy)
            axes = self._axes(source)
            planes, leading = LazyPlanes(source.data, axes), plane_in_view(self.viewer, noisy, axes)
            number = plane_number(source.shape, axes, leading)
            words = plane_words(source, axes, leading)
            place = source_of_plane(source, noisy, axes, leading)
            steps = compare_runs.against_direct(
                model.denoiser, planes, self._true_planes(axes), number, self.against.samples.currentData()
            )
            self._run(steps, lambda found: self._show_against_direct(place, words, axes, model.name, *found))

    # What becomes of the results.
    def on_success(self, result: Any) -> None:
        """Show what the run was started for."""
        self._take(result)

    def _add_difference(self, source: Source, name: str, difference: Any, limit: float) -> None:
        self.look.close_view()  # it would hide the new layer, or put it out of place
        shown = {"colormap": "PiYG", "contrast_limits": (-limit, limit), "gamma": 1.0}
        metadata = {METADATA_KEY: {"source": source.name, "method": "difference"}}
        self.viewer.add_image(difference, name=name, metadata=metadata, **{**source.appearance, **shown})
        self.end(f"Added “{name}”, from −{limit:.3g} to {limit:.3g}.", done=True)

    def _show_table(self, rows: list[Row]) -> None:
        self.measure.table.show_rows(rows)
        words = f"Measured {len(rows)} images over all planes."
        without = " No noise model: χ² needs a model of this session." if self.model is None else ""
        self.end(words + ("" if self.truth_choice.layer else without), done=True)

    def _show_against_direct(
        self, place: Source, words: str, axes: str, model: str, result: SampleConvergence, rows: list[Row]
    ) -> None:
        self.look.close_view()  # it holds the layers of before
        self.against.show_result(result, rows)
        for data, keywords in layers_of(result, place, words, axes, model):
            self.viewer.add_image(data, **keywords)
        self.end(f"Compared on {words}, the plane in view. Colours: uncertainty. Red: disagreement.", done=True)

    # What is there to choose from.
    def refresh_buttons(self) -> None:
        """Enable what can be pressed now, and say what is missing."""
        if not hasattr(self, "against"):  # the layer choice speaks up before all controls are made
            return
        running = self.job.running
        ready = self.layer_choice.layer is not None
        self.stop_button.setEnabled(running)
        for widget in (self.layer_choice, self.results, self.truth_choice, self.model_choice):
            widget.setEnabled(not running)
        self.look.difference_button.setEnabled(ready and not running)
        self.measure.measure_button.setEnabled(ready and not running)
        for button in (self.measure.copy_button, self.measure.save_button):
            button.setEnabled(bool(self.measure.table.rows))
        self.against.run_button.setEnabled(ready and self.model is not None and not running)
        missing = (
            "" if self.model is not None else "HDN against direct needs a model: train one, or load one in Denoise."
        )
        self.hint(missing if ready else "Open an image.")

    def close_down(self) -> None:
        """Undo the view, stop the run, and let go of the viewer and the models."""
        self.look.close_view()
        self.look.offer([])
        self.results.offer([], [])
        self.truth_choice.offer([])
        self.viewer.events.theme.disconnect(self._recolour)
        MODELS.changed.disconnect(self._list_models)
        self._models = []
        self._take = lambda result: None
        super().close_down()

    def _run(self, steps: Steps, take: Callable[[Any], None]) -> None:
        self._take = take
        self.begin(steps)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Show what is refused before a run starts."""
        try:
            yield
        except DenoiserError as error:
            self.on_failure(error)

    def _axes(self, source: Source) -> str:
        return named_axes(source.shape, source.axes, name=repr(source.name))

    def _true_planes(self, axes: str) -> LazyPlanes | None:
        truth, noisy = self.truth_choice.layer, self.layer_choice.layer
        if truth is None:
            return None
        check_fit(noisy, truth, axes, one_plane=True)
        return LazyPlanes(read_layer(truth).data, axes if full_shape(truth) == full_shape(noisy) else "YX")

    def _begin_with_source(self) -> None:
        """Where the newest layer is a result, choose what it was made from."""
        layer = self.layer_choice.layer
        place = -1 if layer is None else self.layer_choice.findText(str(facts(layer).get("source")))
        if place >= 0:
            self.layer_choice.setCurrentIndex(place)

    def _list_layers(self) -> None:
        """List the layers anew: they have changed, or another one is the noisy one or the truth."""
        noisy, images = self.layer_choice.layer, images_of(self.viewer)
        others = [layer for layer in images if layer != noisy]
        truth = f"{noisy.name} truth" if noisy is not None else ""  # as the sample calls it
        self.truth_choice.offer(others, next((layer for layer in others if layer.name == truth), None))
        results = [layer for layer in others if layer != self.truth_choice.layer]
        self.results.offer(results, [layer for layer in results if is_result_of(layer, noisy)])
        self._offer()

    def _offer(self) -> None:
        chosen = [self.layer_choice.layer, *self.results.layers, self.truth_choice.layer]
        self.look.offer([layer for layer in chosen if layer is not None])
        self.refresh_buttons()

    def _list_models(self) -> None:
        """List the models of this session, the newest first; a new one is chosen."""
        self._models = list(reversed(MODELS.all))
        self.model_choice.clear()
        self.model_choice.addItems([model.name for model in self._models])
        self.refresh_buttons()

    def _recolour(self, event: Any = None) -> None:
        text = get_theme(self.viewer.theme).text.as_hex()
        for plot in (self.look.plot, self.against.plot):
            plot.recolour(text)
