"""The plots of the Compare dock: profiles along a line, and HDN against the direct pass."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg

from ..shared.panels import Panels, in_colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...evaluation.compare import Row

# Okabe and Ito's colours, told apart by the colour-blind; those that show on dark and on light
_COLOURS = ("#999999", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_KEY_LETTERS = 34  # fit into the width of the dock
_HDN, _DIRECT = "#d55e00", "#56b4e9"


class _Plot(Panels):
    """One plot with a title of any number of lines."""

    def __init__(self, tooltip: str) -> None:
        super().__init__(tooltip, height=230)
        self.item = self.panel(0, "")

    def entitle(self, item: pg.PlotItem, title: str) -> None:
        """Write a title over the plot, with room for all of its lines."""
        super().entitle(item, title)
        height = 16 * (1 + title.count("<br>")) + 8  # pyqtgraph leaves room for one
        item.titleLabel.setMaximumHeight(height)
        item.layout.setRowFixedHeight(0, height)


class ProfilePlot(_Plot):
    """Intensities of some layers along a line."""

    def __init__(self) -> None:
        super().__init__("Intensity of the noisy image, the results and the truth along the drawn line.")

    def say(self, words: str) -> None:
        """Show nothing but words."""
        self.item.clear()
        self.entitle(self.item, words)

    def show_profiles(self, distance: NDArray[np.float64], profiles: dict[str, NDArray[np.float32]], unit: str) -> None:
        """Draw profiles by the name of their layer; the first one, the noisy, lies under the others."""
        self.item.clear()
        keys = []
        for number, (name, profile) in enumerate(profiles.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            self.item.plot(distance, profile, pen=pg.mkPen(colour, width=2 if number else 1), connect="finite")
            short = name if len(name) <= _KEY_LETTERS else f"{name[: _KEY_LETTERS // 2]}…{name[-_KEY_LETTERS // 2 :]}"
            keys.append(in_colour(escape(short), colour))
        self.entitle(self.item, "<br>".join(keys))
        self.item.setLabel("bottom", f"distance ({unit})")


class AgainstPlot(_Plot):
    """Quality over seconds: the running mean of HDN, and the direct pass (Figure 1 of the paper)."""

    def __init__(self) -> None:
        super().__init__(
            "Seconds on a logarithmic axis. Orange: the mean of the first N samples of HDN. Blue: the direct pass."
        )
        self.item.showGrid(x=True, y=True, alpha=0.2)
        self.item.setLogMode(x=True)
        self.item.setLabel("bottom", "seconds")

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Draw the means (all rows but the last) and the direct pass (the last)."""
        self.item.clear()
        with_truth = rows[-1].psnr is not None
        heights = [row.psnr if with_truth else row.rms_from_final_mean for row in rows]
        seconds = [row.seconds or np.nan for row in rows]
        dots = {"symbol": "o", "symbolSize": 9, "symbolPen": None}
        for part, colour in ((slice(-1), _HDN), (slice(-1, None), _DIRECT)):
            line = pg.mkPen(colour, width=2)
            self.item.plot(seconds[part], heights[part], pen=line, symbolBrush=colour, **dots)
        for row, x, y in zip(rows, seconds, heights, strict=True):
            words = pg.TextItem(str(row.samples) if row.samples else "direct", color=self._text, anchor=(0.5, 1.2))
            words.setPos(np.log10(x), y)
            self.item.addItem(words)
        self.item.autoRange(padding=0.2)
        what = "PSNR, dB" if with_truth else f"RMS distance to the mean of {rows[-2].samples}"
        key = f"{in_colour('mean of N samples', _HDN)}, {in_colour('direct', _DIRECT)}"
        self.entitle(self.item, f"{what}<br>{key}")
