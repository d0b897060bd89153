"""The live plot of the two losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from ..training import TrainingProgress

_TRAIN, _VALIDATION = "#4c9be8", "#f0883e"  # told apart by the colour-blind, on dark and light


class _Panel:
    """One loss over the steps: training thin, validation thick."""

    def __init__(self, item: pg.PlotItem, title: str) -> None:
        self.item, self.title = item, title
        item.setMouseEnabled(x=False, y=False)
        item.setMenuEnabled(False)
        item.hideButtons()
        item.showGrid(y=True, alpha=0.2)
        item.getAxis("left").setWidth(48)
        self.train = item.plot(pen=pg.mkPen(_TRAIN, width=1))
        self.validation = item.plot(
            pen=pg.mkPen(_VALIDATION, width=2), symbol="o", symbolSize=5, symbolBrush=_VALIDATION, symbolPen=None
        )
        self.clear()

    def clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.validated_steps: list[int] = []
        self.validated: list[float] = []
        self.draw()

    def add(self, step: int, loss: float, validation: float | None) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if validation is not None and [validation] != self.validated[-1:]:  # records repeat the latest
            self.validated_steps.append(step)
            self.validated.append(validation)

    def draw(self) -> None:
        self.train.setData(self.steps, self.losses)
        self.validation.setData(self.validated_steps, self.validated)
        shown = np.array(
            [*self.losses[len(self.losses) // 10 :], *self.validated]
        )  # the first fall would hide the rest
        shown = shown[np.isfinite(shown)]
        if shown.size:
            low, high = np.percentile(shown, [0, 98])
            self.item.setYRange(low, max(high, low + 1e-6), padding=0.1)

    def recolour(self, text: str) -> None:
        self.item.setTitle(self.title, color=text, size="9pt")
        for side in ("left", "bottom"):
            self.item.getAxis(side).setPen(text)
            self.item.getAxis(side).setTextPen(text)


class LossPlot(pg.GraphicsLayoutWidget):
    """ELBO and direct loss, of training and validation, while training goes on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setBackground(None)
        self.setToolTip(
            "Losses over training steps, lower is better. Above the negative ELBO of HDN in nats a pixel, "
            "below the loss of the Direct Denoiser. Blue: training; orange: validation."
        )
        key = f'<span style="color: {_TRAIN}">training</span>, <span style="color: {_VALIDATION}">validation</span>'
        self._elbo = _Panel(self.addPlot(0, 0), f"HDN: −ELBO (nats/pixel), {key}")
        self._direct = _Panel(self.addPlot(1, 0), f"Direct Denoiser: loss, {key}")
        self._direct.item.setLabel("bottom", "training step")
        self._direct.item.setXLink(self._elbo.item)
        self._panels = (self._elbo, self._direct)

    def sizeHint(self) -> QSize:
        """As narrow as the rest of the dock."""
        return QSize(300, 300)

    def minimumSizeHint(self) -> QSize:
        """Small enough for a screen of 1280 x 800."""
        return QSize(200, 180)

    def add(self, record: TrainingProgress) -> None:
        """Add one record; shown at the next `draw`."""
        self._elbo.add(record.step, record.elbo, record.validation_elbo)
        self._direct.add(record.step, record.direct_loss, record.validation_direct_loss)

    def draw(self) -> None:
        """Show all records."""
        for panel in self._panels:
            panel.draw()

    def reset(self) -> None:
        """Forget all records."""
        for panel in self._panels:
            panel.clear()

    def recolour(self, text: str) -> None:
        """Draw axes and titles in the colour of the text of napari's theme."""
        for panel in self._panels:
            panel.recolour(text)
