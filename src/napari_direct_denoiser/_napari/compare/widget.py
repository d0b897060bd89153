"""The Compare dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QFileDialog, QFormLayout, QTabWidget

from ...data.images import LazyPlanes, named_axes
from ...errors import DenoiserError, ImageError
from ...evaluation.compare import Judged, Row
from ..shared.dock import RunDock, stacked
from ..shared.layer_choice import LayerChecks, OneLayer
from ..shared.layers import METADATA_KEY, Source, facts, full_shape, read_layer
from ..shared.model_choice import ModelChoice
from ..shared.plane_layers import plane_in_view, plane_number, plane_words, source_of_plane
from ..shared.workers import Steps
from .against import AgainstPanel, against_direct, layers_of
from .look import LookPanel, subtracting
from .measure import MeasurePanel, judged, measuring
from .views import is_view

if TYPE_CHECKING:
    import napari

    from ..shared.session import NamedModel

MAPS = ("std", "sample_std", "deviation", "difference", "disagreement")
"""Methods whose layers are not images to compare but maps; version 0.1 wrote ``deviation``."""
_METHODS = ("direct", "mean", "median")


class CompareWidget(RunDock):
    """Compare results of one noisy layer: look at them together, measure them, run HDN against the direct pass."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.layer_choice.setToolTip("The noisy image that the results were made from.")
        self.layer_choice.stay()  # clicking a result in the layer list must not change it
        self.truth_choice = OneLayer("The same image without noise, if there is one. PSNR and SSIM need it.", "none")
        self.results = LayerChecks("The results to compare: those of the Denoise dock, or any other images.")
        self.model_choice = ModelChoice(
            "A model of this session. HDN against direct runs it; Measure uses its noise model for χ²."
        )
        self.stop_button.setToolTip("Stop this run. No result is shown.")
        self.look = LookPanel(self.viewer, self.on_failure)
        self.measure = MeasurePanel()
        self.against = AgainstPanel()
        self._take: Callable[[Any], None] = lambda result: None
        self._lay_out()
        self._begin_with_source()
        self._connect()
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
            (self.look, "Look", "View the chosen layers together."),
            (self.measure, "Measure", "Table of quality measures of the results."),
            (self.against, "HDN or direct?", "Figure 1 of the paper for your own image."),
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
        self.viewer.events.theme.connect(self._recolour)

    # Actions of the buttons.
    def subtract(self) -> None:
        """Add the difference of two layers as a layer."""
        with self._refusals():
            first, second = self.look.pair()
            source = read_layer(first)
            axes = self._axes(source)
            _check_fit(first, second, axes)

            def add(result: tuple[Any, float]) -> None:
                difference, limit = result
                self.look.close_view()  # it would hide or move the new layer
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
                _check_fit(noisy, layer, axes)
            planes = LazyPlanes(source.data, axes)
            results = [judged(layer, axes) for layer in layers]
            if truth is not None:  # the noisy image itself is the baseline
                results.insert(0, Judged(planes, "noisy", name=source.name))
            model = self.model_choice.model
            steps = measuring(planes, results, self._true_planes(axes), model.denoiser if model else None)
            hint = "" if truth or model else " χ² is empty: it needs the noise model of a model of this session."

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
        """Denoise the plane in view directly and by means of more and more samples."""
        model, noisy = self.model_choice.model, self.layer_choice.layer
        assert model is not None
        with self._refusals():
            source = read_layer(noisy)
            axes = self._axes(source)
            leading = plane_in_view(self.viewer, noisy, axes)
            number = plane_number(source.shape, axes, leading)
            name = plane_words(source, axes, leading)
            place = source_of_plane(source, noisy, axes, leading)
            samples = self.against.samples.currentData()
            planes, truth = LazyPlanes(source.data, axes), self._true_planes(axes)

            def show(found: tuple[Any, list[Row]]) -> None:
                result, rows = found
                self.look.close_view()  # it would hide the new layers
                self.against.show_result(result, rows)
                for data, keywords in layers_of(result, place, name, axes, model.name):
                    self.viewer.add_image(data, **keywords)
                self.end(f"Compared on {name}, the plane in view. The maps are hidden layers.", done=True)

            self._run(against_direct(model.denoiser, planes, truth, number, samples), show)

    def on_success(self, result: Any) -> None:
        """Show the result of the run."""
        self._take(result)

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
        self.against.run_button.setEnabled(ready and model is not None and not running)
        missing = "" if model else "HDN against direct needs a model: train one, or load one in the Denoise dock."
        self.hint(missing if ready else "Open an image.")

    def close_down(self) -> None:
        """Close the view, stop the run, and let go of the viewer and the models."""
        self.look.close_view()
        self.look.offer([])
        self.results.offer([], [])
        self.truth_choice.offer([])
        self.model_choice.release()
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

    def _true_planes(self, axes: str) -> LazyPlanes | None:
        truth, noisy = self.truth_choice.layer, self.layer_choice.layer
        if truth is None:
            return None
        _check_fit(noisy, truth, axes, one_plane=True)
        return LazyPlanes(read_layer(truth).data, axes if full_shape(truth) == full_shape(noisy) else "YX")

    def _begin_with_source(self) -> None:
        """If the newest layer is a result, choose the layer that it was made from."""
        layer = self.layer_choice.layer
        place = -1 if layer is None else self.layer_choice.findText(str(facts(layer).get("source")))
        if place >= 0:
            self.layer_choice.setCurrentIndex(place)

    def _list_layers(self) -> None:
        """List the layers again after a change of the layer list, the noisy layer or the truth."""
        noisy, images = self.layer_choice.layer, _images_of(self.viewer)
        others = [layer for layer in images if layer != noisy]
        truth = f"{noisy.name} truth" if noisy is not None else ""  # the name in the sample data
        self.truth_choice.offer(others, next((layer for layer in others if layer.name == truth), None))
        results = [layer for layer in others if layer != self.truth_choice.layer]
        self.results.offer(results, [layer for layer in results if _is_result_of(layer, noisy)])
        self._offer()

    def _offer(self) -> None:
        chosen = [self.layer_choice.layer, *self.results.layers, self.truth_choice.layer]
        self.look.offer([layer for layer in chosen if layer is not None])
        self.refresh_buttons()

    def _recolour(self, event: Any = None) -> None:
        text = get_theme(self.viewer.theme).text.as_hex()
        for plot in (self.look.plot, self.against.plot):
            plot.recolour(text)


def _images_of(viewer: napari.Viewer) -> list[Image]:
    """Image layers that can be compared: no maps, no layers of a view."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and not is_view(layer)]
    return [layer for layer in images if facts(layer).get("method") not in MAPS]


def _is_result_of(layer: Image, noisy: Image) -> bool:
    known = facts(layer)
    fits = full_shape(layer) == full_shape(noisy)
    return known.get("source") == noisy.name and known.get("method") in _METHODS and fits


def _check_fit(noisy: Image, layer: Image, axes: str, *, one_plane: bool = False) -> None:
    """Raise `ImageError` if a layer has another shape than the noisy one (or than one plane of it, if that will do)."""
    expected, found = full_shape(noisy), full_shape(layer)
    plane = tuple(size for axis, size in zip(axes, expected, strict=True) if axis in "YX")
    if found != expected and not (one_plane and found == plane):
        raise ImageError(
            f"Expected the shape of {noisy.name!r}, {expected}, found {found} in {layer.name!r}: "
            "choose images that belong together"
        )
