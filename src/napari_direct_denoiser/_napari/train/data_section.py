"""The data section of the Train dock: a layer, its axes and channel, further layers, a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFormLayout, QPushButton, QWidget

from ...errors import DenoiserError
from ..shared.axes_row import AxesRow
from ..shared.channels import ChannelsRow, find_channels, read_channel
from ..shared.layer_choice import LayerChecks, LayerChoice, LayerList, OneLayer
from ..shared.layers import Source, is_result, read_layer
from .parts import NotReadyError, Part, parts_of, refused

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer


class TrainingData(QObject):
    """The controls that choose what is trained on, and the choice itself as parts."""

    changed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, layer_choice: LayerChoice) -> None:
        super().__init__()
        self._viewer = viewer
        self.layer_choice = layer_choice
        self.axes_row = AxesRow()
        self.channels = ChannelsRow(viewer)
        self.more = MoreData(viewer)
        layer_choice.currentIndexChanged.connect(self.refresh)  # emitted at every change of the layer list
        self.axes_row.changed.connect(self.refresh)
        self.channels.planes_wanted.connect(self._treat_as_planes)
        self.channels.changed.connect(self.changed)
        self.more.changed.connect(self.changed)

    def parts(self) -> list[Part]:
        """What to train on; raises `NotReadyError` if something is missing or wrong."""
        layer = self.layer_choice.layer
        layers = [] if layer is None else [layer, *self.more.also.layers]
        return parts_of(layers, self.more.shapes, self._read)

    def others(self) -> list[Image]:
        """Image layers except the chosen one and results of this plugin, newest first."""
        images = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, Image)]
        return [layer for layer in images if layer is not self.layer_choice.layer and not is_result(layer)]

    def refresh(self) -> None:
        """Show the chosen layer, after another was chosen or it has changed."""
        layer = self.layer_choice.layer
        source = self._source(layer)
        self.axes_row.show_layer(layer, source)
        self.channels.show_layer(layer, None if source is None else source.axes)
        self.more.offer(self.others())
        self.changed.emit()

    def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the controls."""
        for widget in (self.layer_choice, self.axes_row, self.more, self.channels):
            widget.setEnabled(enabled)

    def release(self) -> None:
        """Disconnect from the viewer and its layers."""
        self.more.release()
        self.channels.release()

    def _read(self, layer: Image) -> tuple[Source, str | None]:
        """Read a layer to train on, or the chosen channel of one; for each layer the same channel."""
        if layer.rgb:
            found = find_channels(layer)
        else:
            with refused("correct the axes"):
                source = read_layer(layer, self.axes_row.written(layer))
            found = find_channels(layer, source.axes)
        if found is None:
            return source, source.axes
        channel = self.channels.channel
        if channel is None:
            raise NotReadyError(
                "choose a channel",
                f"{layer.name!r} has {found.size} channels. Channels are different images: choose one, or split them.",
            )
        with refused("choose another layer"):
            return read_channel(layer, found, channel)

    def _source(self, layer: Layer | None) -> Source | None:
        if layer is None or layer.rgb:
            return None
        try:
            return read_layer(layer, self.axes_row.written(layer))
        except DenoiserError:  # the labels name no axes: a person can enter letters
            return read_layer(layer, "?")

    def _treat_as_planes(self, axes: str) -> None:
        self.axes_row.correct(self.layer_choice.layer, axes)


class MoreData(QWidget):
    """Further layers to train on, and a Shapes layer whose rectangles limit the training to a region."""

    changed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.also = LayerChecks(
            "Train on these layers too: images of the same kind of sample, from the same camera with the same "
            "settings. More images make a better model in the same time."
        )
        self.region = OneLayer(
            "Train on the rectangles of a Shapes layer only, in all planes, or on the whole image. A region helps "
            "if most of the image is empty.",
            "Whole image",
        )
        self.draw_button = QPushButton("Draw a rectangle")
        self.draw_button.setToolTip("Add a Shapes layer, and draw the rectangles to train on.")
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Also on", self.also)
        rows.addRow("Region", self.region)
        rows.addRow("", self.draw_button)
        self._drawn_on: Shapes | None = None
        self._list = LayerList(viewer, Shapes, self._list_shapes)
        self.also.changed.connect(self.changed)
        self.region.currentIndexChanged.connect(self._follow_region)
        self.draw_button.clicked.connect(self.draw)
        self._list_shapes()

    @property
    def shapes(self) -> Shapes | None:
        """The Shapes layer whose rectangles to train on; None for the whole image."""
        return self.region.layer

    def offer(self, layers: Sequence[Image]) -> None:
        """List the layers that can be trained on beside the chosen one."""
        self.also.offer(layers)

    def draw(self) -> None:
        """Add a Shapes layer, choose it, and start drawing."""
        layer = self._viewer.add_shapes(name="Region", ndim=2, face_color="transparent", edge_color="yellow")
        layer.mode = "add_rectangle"
        self.region.choose(self._list.layers[0])

    def release(self) -> None:
        """Disconnect from the viewer and its layers."""
        self._list.release()
        self.also.offer([])
        self.region.offer([])
        self._follow_region()

    def _list_shapes(self) -> None:
        self.region.offer(self._list.layers)
        self._follow_region()

    def _follow_region(self) -> None:
        """Listen to the chosen Shapes layer only."""
        if self._drawn_on is not self.shapes:
            if self._drawn_on is not None:
                self._drawn_on.events.data.disconnect(self._on_drawn)
            self._drawn_on = self.shapes
            if self._drawn_on is not None:
                self._drawn_on.events.data.connect(self._on_drawn)
        self.changed.emit()

    def _on_drawn(self, event: Any = None) -> None:
        self.changed.emit()
