"""The Compare dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QFormLayout, QTabWidget

from ...data.images import LazyPlanes, named_axes
from ...errors import DenoiserError, ImageError
from ...evaluation.compare import Judged, Row
from ..shared.dock import RunDock, stacked
from ..shared.help import with_help
from ..shared.layer_choice import LayerChecks, OneLayer
from ..shared.layers import METADATA_KEY, Source, facts, read_layer
from ..shared.model_choice import ModelChoice
from ..shared.workers import Steps, Update
from .against import AgainstPanel, Drawn
from .alternatives import AlternativesInGrid
from .choices import check_fit, images_of, is_result_of, true_planes
from .comparison import Comparison
from .in_grid import ResultsInGrid
from .look import LookPanel, subtracting
from .measure import MeasurePanel, judged, measuring

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from ..shared.session import NamedModel

_MILLISECONDS_AFTER_A_SLIDER = 300


class CompareWidget(RunDock):
    """Compare results of one noisy layer: look at them together, measure them, run HDN against the direct pass."""

    name = "Compare"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.layer_choice.setToolTip("The noisy image that the results were made from.")
        self.layer_choice.stay()  # clicking a result in the layer list must not change it
        self.truth_choice = OneLayer("The same image without noise, if there is one. PSNR and SSIM need it.", "none")
        self.results = LayerChecks("The results to compare: those of the Denoise dock, or any other images.")
        self.model_choice = ModelChoice(
            "A model of this session. “HDN or direct?” runs it; Measure uses its noise model for χ²."
        )
        self.stop_button.setToolTip("Stop this run. Pictures that are shown stay.")
        self.look = LookPanel(self.viewer, self.on_failure)
        self.measure = MeasurePanel()
        self.against = AgainstPanel()
        self.comparison: ResultsInGrid | None = None
        self._leaving = self.job.turns.before()
        self._again = False
        self._take: Callable[[Any], None] = lambda result: None
        self._slider_timer = QTimer(self)
        self._slider_timer.setSingleShot(True)
        self._slider_timer.setInterval(_MILLISECONDS_AFTER_A_SLIDER)
        self._slider_timer.timeout.connect(self._follow_sliders)
        self._lay_out()
        self._begin_with_source()
        self._connect()
        self._list_layers()
        self._recolour()

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.addRow("Noisy", with_help(self.layer_choice, "compare"))
        choices.addRow("Results", self.results)
        choices.addRow("Truth", self.truth_choice)
        choices.addRow("Model", self.model_choice)
        self.tabs = QTabWidget()
        for panel, title, tooltip in (
            (self.against, "HDN or direct?", "Compare the direct pass with samples of HDN and their mean."),
            (self.look, "Look", "View the chosen layers together."),
            (self.measure, "Measure", "Table of quality measures of the results."),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(panel, title), tooltip)
        column = stacked(choices, self.tabs, self.progress_row(), self.status)
        column.setStretchFactor(self.tabs, 1)
        self.fill(column)

    def _connect(self) -> None:
        self.layer_choice.currentIndexChanged.connect(self._list_layers)  # emitted at every change of the layer list
        self.truth_choice.currentIndexChanged.connect(self._list_layers)
        self.results.changed.connect(self._offer)
        self.model_choice.currentIndexChanged.connect(self.refresh_buttons)
        self.look.difference_button.clicked.connect(self.subtract)
        self.measure.measure_button.clicked.connect(self.fill_table)
        self.measure.save_button.clicked.connect(self.save_table)
        self.against.run_button.clicked.connect(self.run_against_direct)
        self.against.alternatives_button.clicked.connect(self.find_alternatives)
        self.against.leave_button.clicked.connect(self.leave)
        self.look.opening.connect(self.leave)
        self.viewer.dims.events.current_step.connect(self._on_slider)
        self.viewer.events.theme.connect(self._recolour)

    # Actions of the buttons.
    def subtract(self) -> None:
        """Add the difference of two layers as a layer."""
        with self._refusals():
            first, second = self.look.pair()
            source = read_layer(first)
            axes = self._axes(source)
            check_fit(first, second, axes)

            def add(result: tuple[Any, float]) -> None:
                difference, limit = result
                self.look.close_view()  # it would hide or move the new layer
                self.leave()
                look = {"colormap": "PiYG", "contrast_limits": (-limit, limit), "gamma": 1.0}
                metadata = {METADATA_KEY: {"source": source.name, "method": "difference"}}
                name = f"{first.name} − {second.name}"
                self.viewer.add_image(difference, name=name, metadata=metadata, **{**source.appearance, **look})
                self.end(f"Added “{name}”, contrast from −{limit:.3g} to {limit:.3g}.", done=True)

            self._run(subtracting(source.data, read_layer(second).data, axes), add)

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
            if truth is not None:  # the noisy image itself is the baseline
                results.insert(0, Judged(planes, "noisy", name=source.name))
            model = self.model_choice.model
            name, denoiser = (model.name, model.denoiser) if model else ("", None)
            own = [facts(layer).get("model") == name for layer in layers]
            own = [False] * (len(results) - len(own)) + own  # the baseline
            steps = measuring(planes, results, true_planes(noisy, truth, axes), denoiser, own)
            hint = "" if model else " Columns that need a model of this session are empty."

            def show(rows: list[Row]) -> None:
                self.measure.table.show_rows(rows)
                self.end(f"Measured {len(rows)} images over all planes.{hint}", done=True)

            self._run(steps, show)

    def save_table(self) -> None:
        """Ask where to save the table, and save it."""
        path, _ = QFileDialog.getSaveFileName(self, "Save table", "compare.csv", "Table (*.csv)")
        if path:
            path = path if path.endswith(".csv") else path + ".csv"
            with self._refusals():
                self.measure.table.save(path)
                self.say(f"Saved the table to {path}")

    def compare_layer(self, layer: Image, model: NamedModel) -> None:
        """Choose a layer and a model of this session, and compare HDN with the direct pass. Do nothing during a run."""
        if not self.job.running:
            self.layer_choice.choose(layer)
            self.model_choice.choose(model)
            self.tabs.setCurrentWidget(self.against)
            self.run_against_direct()

    def run_against_direct(self) -> None:
        """Compare HDN with the direct pass on the plane in view, in place of the comparison before."""
        self._open(partial(Comparison, samples=self.against.samples.currentData()))

    def find_alternatives(self) -> None:
        """Show the alternatives of the region in view, in place of the comparison before."""
        self._open(AlternativesInGrid)

    def _open(self, kind: Callable[..., ResultsInGrid]) -> None:
        model, noisy, truth = self.model_choice.model, self.layer_choice.layer, self.truth_choice.layer
        assert model is not None
        self.look.close_view()
        self.leave()
        self.comparison = kind(self.viewer, noisy, truth, model, self.job.turns, self._leaving)
        self._compare_plane()

    def _compare_plane(self) -> None:
        """Compute the results of the open comparison for the plane in view."""
        assert self.comparison is not None
        with self._refusals():
            steps = self.comparison.steps()
            self.against.clear()
            self._run(steps, self._show_comparison)

    def _show_comparison(self, found: Any) -> None:
        comparison = self.comparison
        if comparison is None:
            return
        if isinstance(comparison, Comparison):
            self.against.show_result(found)
        else:
            self.against.words.setText(found.sentence())
        comparison.finish(found)
        self.job.turns.add("map", lambda: self.against.take_map(comparison.made.get("disagreement")))
        self.job.turns.add("end", lambda: self.end("", done=True))

    def _follow_sliders(self) -> None:
        """Compare another plane if the sliders were moved to one."""
        if self.comparison is None or not self.comparison.is_outdated:
            return
        if self.job.turns.waiting:
            self._slider_timer.start()  # the pictures of the plane before come first
        elif not self.job.running:
            self._compare_plane()
        elif self._is_comparing and not self.job_is_stopping:
            self._again = True
            self._stop()

    def leave(self) -> None:
        """Close the comparison, and restore the viewer."""
        comparison, self.comparison = self.comparison, None
        if comparison is None:
            return
        was_showing = self.job.turns.waiting
        self.job.turns.clear()
        if self._is_comparing:
            self._stop()
        elif was_showing:
            self.end("")
        self.against.take_map(None)
        comparison.close(keep=self.against.keep.isChecked())
        self._list_layers()

    # Progress and end of a run.
    def show_update(self, update: Update) -> None:
        """Show the progress of the run, and the images of a comparison."""
        super().show_update(update)
        if isinstance(update, Drawn) and isinstance(self.comparison, Comparison) and not self.job_is_stopping:
            self.comparison.show(update.images, update.samples)
            self.refresh_buttons()

    def on_success(self, result: Any) -> None:
        """Show the result of the run."""
        self._take(result)

    def on_stop(self) -> None:
        """Begin again on another plane, or say that the run was stopped."""
        again, self._again = self._again, False
        if again and self.comparison is not None:
            self._compare_plane()
        else:
            super().on_stop()
            self._drop_empty()

    def on_failure(self, error: Exception) -> None:
        """Show an error."""
        self._again = False
        super().on_failure(error)
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Forget a comparison that showed nothing."""
        if self.comparison is not None and self.comparison.is_empty:
            self.comparison = None

    @property
    def _is_comparing(self) -> bool:
        return self.job.running and self._take == self._show_comparison

    # State of the controls.
    def refresh_buttons(self) -> None:
        """Enable what can be used now, and say what is missing."""
        if not hasattr(self, "against"):  # the layer choice emits before all controls exist
            return
        running = self.job.running
        ready = self.layer_choice.layer is not None
        model = self.model_choice.model
        self.stop_button.setEnabled(running)
        for widget in (self.layer_choice, self.results, self.truth_choice, self.model_choice):
            widget.setEnabled(not running)
        self.look.difference_button.setEnabled(ready and not running)
        self.measure.measure_button.setEnabled(ready and not running)
        for button in (self.measure.copy_button, self.measure.save_button):
            button.setEnabled(bool(self.measure.table.rows))
        for button in (self.against.run_button, self.against.alternatives_button):
            button.setEnabled(ready and model is not None and not running)
        self.against.show_leaving(self.comparison is not None and not self.comparison.is_empty)
        missing = "" if model else "The comparison needs a model: train one, or load one in the Denoise dock."
        self.hint(missing if ready else "Open an image.")

    def close_down(self) -> None:
        """Close the view, stop the run, and let go of the viewer and the models."""
        self.look.close_view()
        self.leave()
        self._leaving.finish()
        self.look.offer([])
        self.results.offer([], [])
        self.truth_choice.offer([])
        self.model_choice.release()
        self._slider_timer.stop()
        self.viewer.dims.events.current_step.disconnect(self._on_slider)
        self.viewer.events.theme.disconnect(self._recolour)
        self._take = lambda result: None
        super().close_down()

    def _run(self, steps: Steps, take: Callable[[Any], None]) -> None:
        self._take = take
        self.begin(steps)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Show errors that are raised before a run starts."""
        try:
            yield
        except DenoiserError as error:
            self.on_failure(error)

    def _axes(self, source: Source) -> str:
        return named_axes(source.shape, source.axes, name=repr(source.name))

    def _begin_with_source(self) -> None:
        """If the newest layer is a result, choose the layer that it was made from."""
        layer = self.layer_choice.layer
        place = -1 if layer is None else self.layer_choice.findText(str(facts(layer).get("source")))
        if place >= 0:
            self.layer_choice.setCurrentIndex(place)

    def _list_layers(self) -> None:
        """List the layers again after a change of the layer list, the noisy layer or the truth."""
        if self.comparison is not None and not self.comparison.complete:
            self.leave()
        noisy, images = self.layer_choice.layer, images_of(self.viewer)
        others = [layer for layer in images if layer != noisy]
        truth = f"{noisy.name} truth" if noisy is not None else ""  # the name in the sample data
        self.truth_choice.offer(others, next((layer for layer in others if layer.name == truth), None))
        results = [layer for layer in others if layer != self.truth_choice.layer]
        self.results.offer(results, [layer for layer in results if is_result_of(layer, noisy)])
        self._offer()

    def _offer(self) -> None:
        chosen = [self.layer_choice.layer, *self.results.layers, self.truth_choice.layer]
        self.look.offer([layer for layer in chosen if layer is not None])
        self.refresh_buttons()

    def _on_slider(self, event: Any = None) -> None:
        if self.comparison is not None:
            self._slider_timer.start()

    def _recolour(self, event: Any = None) -> None:
        text = get_theme(self.viewer.theme).text.as_hex()
        for plot in (self.look.plot, self.against.plot):
            plot.recolour(text)
