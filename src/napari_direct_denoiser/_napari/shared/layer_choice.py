"""Controls that choose among the image layers of a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QListWidget, QListWidgetItem, QSizePolicy

from .layers import is_result

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

_ROWS_SHOWN = 4


def narrow(choice: QComboBox) -> None:
    """Let long names be cut rather than widen the dock."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(12)
    choice.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class LayerChoice(QComboBox):
    """The image layers of a viewer. Follows the active layer, unless that is a result of ours."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setToolTip("The noisy image: a layer of this viewer, every plane of it.")
        narrow(self)
        self._viewer = viewer
        self._layers: list[Layer] = []
        events = viewer.layers.events
        self._emitters = [events.inserted, events.removed, events.reordered]
        for emitter in self._emitters:
            emitter.connect(self.refresh)
        viewer.layers.selection.events.active.connect(self._follow_active)
        self.refresh()
        self._follow_active()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer."""
        return self._layers[self.currentIndex()] if self._layers else None

    def refresh(self, event: Any = None) -> None:
        """List the layers anew, newest first as in napari's own list, and keep the choice."""
        chosen = self.layer
        self._forget_names()
        self._layers = [layer for layer in reversed(self._viewer.layers) if isinstance(layer, Image)]
        for layer in self._layers:
            layer.events.name.connect(self.refresh)
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        self.setCurrentIndex(self._layers.index(chosen) if chosen in self._layers else 0)
        self.blockSignals(False)
        self.currentIndexChanged.emit(self.currentIndex())

    def stay(self) -> None:
        """Keep the choice from now on, whichever layer is made active."""
        self._viewer.layers.selection.events.active.disconnect(self._follow_active)

    def release(self) -> None:
        """Let go of the viewer and its layers."""
        for emitter in self._emitters:
            emitter.disconnect(self.refresh)
        self.stay()
        self._forget_names()
        self._layers = []

    def _forget_names(self) -> None:
        for layer in self._layers:
            layer.events.name.disconnect(self.refresh)

    def _follow_active(self, event: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if active in self._layers and not is_result(active):
            self.setCurrentIndex(self._layers.index(active))


class OneLayer(QComboBox):
    """One of some layers, or none where that is a choice."""

    def __init__(self, tooltip: str, none: str | None = None) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        narrow(self)
        self._none = none
        self._layers: list[Image | None] = []
        self._touched = False
        self.currentIndexChanged.connect(self._touch)

    @property
    def layer(self) -> Image | None:
        """The chosen layer."""
        return self._layers[self.currentIndex()] if self.currentIndex() >= 0 else None

    def offer(self, layers: Sequence[Image], default: Image | None = None) -> None:
        """List layers; the choice of a person stays as long as it is there, else the default is chosen."""
        kept = self._touched and (self.layer in layers or (self.layer is None and self._none is not None))
        chosen = self.layer if kept else default
        self._layers = [*([None] if self._none else []), *layers]
        with QSignalBlocker(self):
            self.clear()
            self.addItems([self._none if layer is None else layer.name for layer in self._layers])
            self.setCurrentIndex(self._layers.index(chosen) if chosen in self._layers else -1)
        self._touched = kept

    def _touch(self) -> None:
        self._touched = True


class LayerChecks(QListWidget):
    """Some of some layers. Those that a person has not touched are checked by default or not."""

    changed = Signal()

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setFixedHeight(_ROWS_SHOWN * (self.fontMetrics().height() + 6))
        self._layers: list[Image] = []
        self._touched: dict[Image, bool] = {}
        self.itemChanged.connect(self._touch)

    @property
    def layers(self) -> list[Image]:
        """The checked layers."""
        return [layer for row, layer in enumerate(self._layers) if self.item(row).checkState() == Qt.CheckState.Checked]

    def offer(self, layers: Sequence[Image], default: Sequence[Image]) -> None:
        """List layers anew."""
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
