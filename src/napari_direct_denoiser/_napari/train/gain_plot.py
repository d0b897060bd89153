"""The live plot of the estimated gain over the best Gaussian blur, with its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from ..shared.panels import TRAIN_COLOUR, Panels
from .gain_curve import GainCurve
from .loss_plot import robust_range

if TYPE_CHECKING:
    from ...progress import TrainingProgress
    from ...training.provenance import Record

_TOOLTIP = (
    "How much nearer to the truth the direct pass is than the best Gaussian blur. Estimated on patches that are not "
    "trained on, without a truth (Stein's unbiased risk estimate). The band is plus and minus one standard error, the "
    "dashed line is the blur. Training is long enough when the curve is flat."
)
_HEIGHT, _HIGHEST = 150, 260  # pixels
_LEAST_SPAN = 0.2  # dB: less would magnify what does not matter


class GainView(QWidget):
    """The estimated gain over the training steps, in words and as a curve; only words where there is no estimate."""

    def __init__(self) -> None:
        super().__init__()
        self.curve = GainCurve()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.words.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.plot = GainPlot()
        self.setToolTip(_TOOLTIP)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.words)
        column.addWidget(self.plot, 1)

    def add(self, record: TrainingProgress | Record) -> None:
        """Add one record; shown at the next `draw`."""
        self.curve.add(record)

    def draw(self, *, ended: bool = False) -> None:
        """Show the curve, with the gain so far or, after the training, what came of it."""
        words = self.curve.outcome() if ended else self.curve.now()
        self.words.setText(words)
        self.setVisible(bool(words))
        self.plot.setVisible(self.curve.judged)
        self._keep_room(self.curve.judged or not self.curve.why)
        if self.curve.judged:
            self.plot.draw(self.curve)

    def reset(self) -> None:
        """Remove all records."""
        self.curve = GainCurve()

    def _keep_room(self, kept: bool) -> None:
        """Keep the room of a curve that is still to come, so that the controls below do not jump."""
        for part, grows in ((self.plot, QSizePolicy.Policy.Expanding), (self, QSizePolicy.Policy.Preferred)):
            policy = QSizePolicy(QSizePolicy.Policy.Preferred, grows if kept else QSizePolicy.Policy.Maximum)
            policy.setRetainSizeWhenHidden(kept and part is self.plot)
            part.setSizePolicy(policy)


class GainPlot(Panels):
    """The curve, with a band of its standard error and a line at 0, the blur."""

    def __init__(self) -> None:
        super().__init__(_TOOLTIP, height=_HEIGHT)
        self.setMaximumHeight(_HIGHEST)
        self.item = self.panel(0, "")
        self.item.setLabel("left", "gain (dB)")
        self.item.setLabel("bottom", "training step")
        self.blur = pg.InfiniteLine(0, angle=0, pen=pg.mkPen("#999999", width=1, style=Qt.PenStyle.DashLine))
        self.low, self.high = pg.PlotDataItem(), pg.PlotDataItem()
        self.band = pg.FillBetweenItem(self.low, self.high, brush=pg.mkBrush(TRAIN_COLOUR + "50"))
        self.line = pg.PlotDataItem(pen=pg.mkPen(TRAIN_COLOUR, width=2))
        self.validations = pg.PlotDataItem(pen=None, symbol="o", symbolSize=5, symbolBrush=TRAIN_COLOUR, symbolPen=None)
        for part in (self.blur, self.band, self.line, self.validations):
            self.item.addItem(part)

    def draw(self, curve: GainCurve) -> None:
        """Show a curve. The kept weights, and with them the newest gain, hold until now."""
        self.validations.setData(curve.steps, curve.gains)
        steps = [*curve.steps, curve.newest_step]
        gains, errors = (np.array([*values, values[-1]]) for values in (curve.gains, curve.errors))
        self.line.setData(steps, gains)
        self.low.setData(steps, gains - errors)
        self.high.setData(steps, gains + errors)
        edges = [*(gains - errors), *(gains + errors)]
        limits = robust_range([], [], [*steps, *steps], edges)
        if limits is not None:
            low, high = limits
            low = max(min(edges), 2 * low - high)  # of the rise at the beginning as much as of what follows
            middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN) / 2
            self.item.setYRange(middle - half, middle + half, padding=0.1)
