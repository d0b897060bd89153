"""What the Train dock trains on: a layer and its axes, further layers, a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes
from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QPushButton, QWidget

from ...errors import DenoiserError
from ..shared.axes_row import AxesRow
from ..shared.channels import channel_axis, split_channels
from ..shared.layer_choice import LayerChecks, LayerChoice, narrow
from ..shared.layers import Source, is_result, read_layer
from .parts import Part, parts_of

if TYPE_CHECKING:
    import napari

_WHOLE = "Whole image"


class TrainingData(QObject):
    """The controls that say what is trained on, and what they say together."""

    changed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, layer_choice: LayerChoice) -> None:
        super().__init__()
        self._viewer = viewer
        self.layer_choice = layer_choice
        self.axes_row = AxesRow()
        self.more = MoreData(viewer)
        self.split_button = QPushButton("Split the channels")
        self.split_button.setToolTip("Make a layer of each channel: a model learns one kind of image.")
        self.split_button.clicked.connect(self.split)
        layer_choice.currentIndexChanged.connect(self.refresh)  # told at every change of the layer list
        self.axes_row.changed.connect(self.refresh)
        self.more.changed.connect(self.changed)

    def parts(self) -> list[Part]:
        """What to train on; `NotReadyError` if it cannot be trained on."""
        layer = self.layer_choice.layer
        layers = [] if layer is None else [layer, *self.more.also.layers]
        return parts_of(layers, self.more.shapes, self.axes_row.written)

    def others(self) -> list[Image]:
        """Image layers beside the chosen one and the results of this plugin, newest first."""
        images = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, Image)]
        return [layer for layer in images if layer is not self.layer_choice.layer and not is_result(layer)]

    def split(self) -> None:
        """Make a layer of each channel of the chosen layer."""
        axis = self._channel_axis()
        if axis is not None:
            split_channels(self._viewer, self.layer_choice.layer, axis)

    def refresh(self) -> None:
        """Show the chosen layer: it is another one, or it has changed."""
        layer = self.layer_choice.layer
        self.axes_row.show_layer(layer, self._source())
        self.split_button.setVisible(self._channel_axis() is not None)
        self.more.offer(self.others())
        self.changed.emit()

    def set_enabled(self, enabled: bool) -> None:
        """Let a person change the choice, or not."""
        for widget in (self.layer_choice, self.axes_row, self.more, self.split_button):
            widget.setEnabled(enabled)

    def release(self) -> None:
        """Let go of the viewer and its layers."""
        self.more.release()

    def _source(self) -> Source | None:
        layer = self.layer_choice.layer
        if layer is None or layer.rgb:
            return None
        try:
            return read_layer(layer, self.axes_row.written(layer))
        except DenoiserError:  # of labels that do not tell, a person can write what is right
            return read_layer(layer, "?")

    def _channel_axis(self) -> int | None:
        source = self._source()
        return channel_axis(self.layer_choice.layer, None if source is None else source.axes)


class MoreData(QWidget):
    """Further layers to train on, and a Shapes layer whose rectangles to train on."""

    changed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.also = LayerChecks("Layers to train on beside the chosen one: images of the same kind and camera.")
        self.region = QComboBox()
        self.region.setToolTip("Train on the rectangles of a Shapes layer only, in all planes; or on the whole image.")
        narrow(self.region)
        self.draw_button = QPushButton("Draw a rectangle")
        self.draw_button.setToolTip("Add a Shapes layer and draw rectangles in it, to train on them only.")
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Also on", self.also)
        rows.addRow("Region", self.region)
        rows.addRow("", self.draw_button)
        self._shapes: list[Shapes] = []
        self.also.changed.connect(self.changed)
        self.region.currentIndexChanged.connect(self.changed)
        self.draw_button.clicked.connect(self.draw)
        events = viewer.layers.events
        self._emitters = [events.inserted, events.removed, events.reordered]
        for emitter in self._emitters:
            emitter.connect(self._list_shapes)
        self._list_shapes()

    @property
    def shapes(self) -> Shapes | None:
        """The Shapes layer whose rectangles to train on; None for the whole image."""
        row = self.region.currentIndex() - 1
        return self._shapes[row] if 0 <= row < len(self._shapes) else None

    def offer(self, layers: Sequence[Image]) -> None:
        """List the layers that may be trained on beside the chosen one."""
        self.also.offer(layers, [])

    def draw(self) -> None:
        """Add a Shapes layer, choose it, and let a person draw."""
        layer = self._viewer.add_shapes(name="Region", ndim=2, face_color="transparent", edge_color="yellow")
        layer.mode = "add_rectangle"
        self.region.setCurrentIndex(1 + self._shapes.index(layer))

    def release(self) -> None:
        """Let go of the viewer and its layers."""
        for emitter in self._emitters:
            emitter.disconnect(self._list_shapes)
        self._forget()
        self.also.offer([], [])

    def _forget(self) -> None:
        for layer in self._shapes:
            layer.events.data.disconnect(self._on_drawn)
            layer.events.name.disconnect(self._list_shapes)
        self._shapes = []

    def _list_shapes(self, event: Any = None) -> None:
        chosen = self.shapes
        self._forget()
        self._shapes = [layer for layer in self._viewer.layers if isinstance(layer, Shapes)]
        for layer in self._shapes:
            layer.events.data.connect(self._on_drawn)
            layer.events.name.connect(self._list_shapes)
        with QSignalBlocker(self.region):
            self.region.clear()
            self.region.addItems([_WHOLE, *(f"Rectangles of {layer.name}" for layer in self._shapes)])
            self.region.setCurrentIndex(1 + self._shapes.index(chosen) if chosen in self._shapes else 0)
        self.changed.emit()

    def _on_drawn(self, event: Any = None) -> None:
        if self.shapes is not None:
            self.changed.emit()
