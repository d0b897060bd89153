"""The axes of a layer: shown in words, and edited by a person."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from ...data.images import guess_axes, named_axes
from ...errors import DenoiserError
from .layers import Source

if TYPE_CHECKING:
    from napari.layers import Layer

_TOOLTIP = (
    "One letter for each axis of the image, Y and X among them: T time, Z depth, C channel, P position. "
    "They are read from the layer or guessed; correct them if they are wrong. Frames along T are compared with each "
    "other to measure the noise. Channels are never mixed."
)


class AxesRow(QWidget):
    """Letters of the axes of a layer. What a person enters for a layer is kept as long as the layer exists."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.edit = QLineEdit()
        self.edit.setToolTip(_TOOLTIP)
        self.edit.setMaxLength(12)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setToolTip(_TOOLTIP)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.edit)
        column.addWidget(self.words)
        self._written: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        self._layer: Layer | None = None
        self._source: Source | None = None
        self.edit.textEdited.connect(self._write)

    def written(self, layer: Layer) -> str | None:
        """Letters that a person entered for a layer; None if there are none."""
        text = self._written.get(layer)
        return None if text is None else "".join(text.split())

    def axes_of(self, layer: Layer, source: Source) -> str | None:
        """Letters that a person entered for a layer, or those of its labels; None to guess them."""
        written = self.written(layer)
        return source.axes if written is None else written

    def show_layer(self, layer: Layer | None, source: Source | None) -> None:
        """Show the axes of a layer; nothing if there is no source."""
        self._layer, self._source = layer, source
        if layer is None or source is None:
            self.edit.clear()
        elif self.edit.text() != (text := self._text(layer, source)):
            self.edit.setText(text)
        self.edit.setEnabled(source is not None)
        self.words.setText("" if layer is None or source is None else self._describe(layer, source))
        self.words.setVisible(bool(self.words.text()))

    def correct(self, layer: Layer, axes: str) -> None:
        """Enter letters for a layer, as a person does."""
        self._written[layer] = " ".join(axes)
        self.changed.emit()

    def _text(self, layer: Layer, source: Source) -> str:
        if layer in self._written:
            return self._written[layer]
        try:
            return " ".join(source.axes or guess_axes(len(source.shape)))
        except DenoiserError:
            return ""

    def _describe(self, layer: Layer, source: Source) -> str:
        axes = self.axes_of(layer, source)
        sizes = " x ".join(map(str, source.shape))
        try:
            found = named_axes(source.shape, axes)
        except DenoiserError:
            return f"{sizes} = ?"
        planes = math.prod(size for axis, size in zip(found, source.shape, strict=True) if axis not in "YX")
        guessed = "" if axes else " (guessed)"
        return f"{sizes} = {' '.join(found)}, {planes} plane{'s' * (planes != 1)}{guessed}"

    def _write(self, text: str) -> None:
        assert self._layer is not None
        self._written[self._layer] = text
        self.changed.emit()
