"""Which layers the Compare dock compares: the controls to choose them, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QListWidget, QListWidgetItem

from ..compare import Judged, LazyPlanes
from ..errors import ImageError
from .compare_views import full_shape, is_view
from .dock import narrow
from .layers import facts, read_layer

if TYPE_CHECKING:
    import napari

MAPS = ("deviation", "difference", "disagreement")
"""Methods of layers that show how results differ, and are none themselves."""
_METHODS = ("direct", "mean", "median")
_ROWS_SHOWN = 4


def images_of(viewer: napari.Viewer) -> list[Image]:
    """Layers that can be compared: the images, without maps and those that are but part of a view."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and not is_view(layer)]
    return [layer for layer in images if facts(layer).get("method") not in MAPS]


def is_result_of(layer: Image, noisy: Image) -> bool:
    """Whether a layer was denoised out of this one."""
    known = facts(layer)
    fits = full_shape(layer) == full_shape(noisy)
    return known.get("source") == noisy.name and known.get("method") in _METHODS and fits


def judged(layer: Image, axes: str) -> Judged:
    """See a result as a row of the table."""
    known = facts(layer)
    samples = 0 if known.get("method") == "direct" else known.get("samples")
    planes = LazyPlanes(read_layer(layer).data, axes)
    return Judged(planes, known.get("method", layer.name), samples, known.get("seconds"), layer.name)


def check_fit(noisy: Image, layer: Image, axes: str, *, one_plane: bool = False) -> None:
    """Raise `ImageError` if a layer has another shape than the noisy one, or than a plane of it where that will do."""
    expected, found = full_shape(noisy), full_shape(layer)
    plane = tuple(size for axis, size in zip(axes, expected, strict=True) if axis in "YX")
    if found != expected and not (one_plane and found == plane):
        raise ImageError(
            f"Expected the shape of {noisy.name!r}, {expected}, found {found} in {layer.name!r}: "
            "choose images that belong together"
        )


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
