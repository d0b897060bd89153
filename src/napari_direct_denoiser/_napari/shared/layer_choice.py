"""Controls that choose among the layers of a viewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QListWidget, QListWidgetItem, QSizePolicy

from .layers import is_result

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

_ROWS_SHOWN = 4


def selected_images(viewer: napari.viewer.Viewer) -> list[Image]:
    """The selected image layers of a viewer, from bottom to top; results of this plugin are left out."""
    selected = [layer for layer in viewer.layers if layer in viewer.layers.selection]
    return [layer for layer in selected if isinstance(layer, Image) and not is_result(layer)]


class LayerList:
    """The layers of one kind in a viewer, newest first as in napari's own list.

    Parameters
    ----------
    viewer
        Whose layers to list.
    kind
        Class of the layers.
    changed
        Called when a layer is added, removed, moved or renamed.
    """

    def __init__(self, viewer: napari.viewer.Viewer, kind: type[Layer], changed: Callable[[], object]) -> None:
        self._viewer, self._kind, self._changed = viewer, kind, changed
        events = viewer.layers.events
        self._emitters = [events.inserted, events.removed, events.reordered]
        for emitter in self._emitters:
            emitter.connect(self._on_change)
        self.layers: list[Any] = []
        self._list()

    def release(self) -> None:
        """Disconnect from the viewer and its layers."""
        for emitter in self._emitters:
            emitter.disconnect(self._on_change)
        self._disconnect_names()
        self.layers = []

    def _on_change(self, event: Any = None) -> None:
        self._list()
        self._changed()

    def _list(self) -> None:
        self._disconnect_names()
        self.layers = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, self._kind)]
        for layer in self.layers:
            layer.events.name.connect(self._on_change)

    def _disconnect_names(self) -> None:
        for layer in self.layers:
            layer.events.name.disconnect(self._on_change)


def narrow(choice: QComboBox) -> None:
    """Let long names be cut rather than widen the dock."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(12)
    choice.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class OneLayer(QComboBox):
    """One of some layers, or none where `none` names that choice."""

    def __init__(self, tooltip: str, none: str | None = None) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        narrow(self)
        self._none = none
        self._layers: list[Any] = []
        self._touched = False
        self.currentIndexChanged.connect(self._touch)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._layers[self.currentIndex()] if 0 <= self.currentIndex() < len(self._layers) else None

    def offer(self, layers: Sequence[Layer], default: Layer | None = None) -> None:
        """List layers. What was chosen by hand stays while it is listed, otherwise the default is chosen."""
        kept = self._touched and (self.layer in layers or (self.layer is None and self._none is not None))
        chosen = self.layer if kept else default
        self._layers = [*([None] if self._none else []), *layers]
        with QSignalBlocker(self):
            self.clear()
            self.addItems([self._none if layer is None else layer.name for layer in self._layers])
            self.setCurrentIndex(self._layers.index(chosen) if chosen in self._layers else -1)
        self._touched = kept

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer that is listed; do nothing if it is not."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def _touch(self) -> None:
        self._touched = True


class LayerChoice(OneLayer):
    """The image layers of a viewer. Follows the active layer, unless that is a result of this plugin.

    Emits `currentIndexChanged` at every change of the layer list, also if the choice stays.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__("The noisy image: an image layer of this viewer. All of its planes are used.")
        self._viewer = viewer
        self._images = LayerList(viewer, Image, self._relist)
        viewer.layers.selection.events.active.connect(self._follow_active)
        self._relist()
        self._follow_active()

    def stay(self) -> None:
        """Keep the choice from now on when another layer is made active."""
        self._viewer.layers.selection.events.active.disconnect(self._follow_active)

    def release(self) -> None:
        """Disconnect from the viewer and its layers."""
        self.stay()
        self._images.release()
        self._layers = []

    def _relist(self) -> None:
        layers = self._images.layers
        kept = self.layer if self.layer in layers else None
        self.offer(layers, kept or (layers[0] if layers else None))
        self.currentIndexChanged.emit(self.currentIndex())

    def _follow_active(self, event: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and not is_result(active):
            self.choose(active)


class LayerChecks(QListWidget):
    """Any number of some layers. Those that were not checked by hand are checked by default or not."""

    changed = Signal()

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setFixedHeight(_ROWS_SHOWN * (self.fontMetrics().height() + 6))
        self._layers: list[Any] = []
        self._touched: dict[Any, bool] = {}
        self.itemChanged.connect(self._touch)

    @property
    def layers(self) -> list[Any]:
        """The checked layers."""
        return [layer for row, layer in enumerate(self._layers) if self.item(row).checkState() == Qt.CheckState.Checked]

    def offer(self, layers: Sequence[Layer], default: Sequence[Layer] = ()) -> None:
        """List layers; those of `default` are checked unless a person unchecked them."""
        self._layers = list(layers)
        self._touched = {layer: checked for layer, checked in self._touched.items() if layer in layers}
        with QSignalBlocker(self):
            self.clear()
            for layer in layers:
                item = QListWidgetItem(layer.name)
                item.setToolTip(layer.name)
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
                checked = self._touched.get(layer, layer in default)
                item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
                self.addItem(item)

    def _touch(self, item: QListWidgetItem) -> None:
        self._touched[self._layers[self.row(item)]] = item.checkState() == Qt.CheckState.Checked
        self.changed.emit()
