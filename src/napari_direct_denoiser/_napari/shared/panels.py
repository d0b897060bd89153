"""Plots below each other in the colours of napari's theme, narrow enough for a dock."""

from __future__ import annotations

import pyqtgraph as pg
from qtpy.QtCore import QSize

TRAIN_COLOUR, VALIDATION_COLOUR = "#4c9be8", "#f0883e"  # told apart by the colour-blind, on dark and light


class Panels(pg.GraphicsLayoutWidget):
    """Plots that cannot be moved or zoomed with the mouse."""

    def __init__(self, tooltip: str, height: int) -> None:
        super().__init__()
        self.setBackground(None)
        self.setToolTip(tooltip)
        self._height = height
        self._text = "#999999"
        self._titles: dict[pg.PlotItem, str] = {}

    def sizeHint(self) -> QSize:
        """As narrow as the rest of the dock."""
        return QSize(300, self._height)

    def set_height(self, height: int) -> None:
        """Change the height, pixels."""
        self._height = height
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        """Small enough for a screen of 1280 x 800."""
        return QSize(200, round(0.6 * self._height))

    def panel(self, row: int, title: str, bottom: pg.AxisItem | None = None) -> pg.PlotItem:
        """Add an empty plot, with an axis of one's own below it."""
        item = self.addPlot(row, 0, axisItems=None if bottom is None else {"bottom": bottom}, enableMenu=False)
        item.setMouseEnabled(x=False, y=False)
        item.hideButtons()
        item.showGrid(y=True, alpha=0.2)
        item.getAxis("left").setWidth(48)
        for side in ("left", "bottom"):
            item.getAxis(side).enableAutoSIPrefix(False)  # "(x0.001)" in a label misleads
        self.entitle(item, title)
        return item

    def entitle(self, item: pg.PlotItem, title: str) -> None:
        """Write a title, in HTML, over a plot; without one there is no room for it."""
        self._titles[item] = title
        item.setTitle(title or None, color=self._text, size="9pt")

    def recolour(self, text: str) -> None:
        """Draw axes and titles in the colour of the text of napari's theme."""
        self._text = text
        for item, title in self._titles.items():
            self.entitle(item, title)
            for side in ("left", "bottom"):
                item.getAxis(side).setPen(text)
                item.getAxis(side).setTextPen(text)


def in_colour(words: str, colour: str) -> str:
    """Write words of a title in the colour of what they name."""
    return f'<span style="color: {colour}">{words}</span>'
