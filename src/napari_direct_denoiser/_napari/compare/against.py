"""The "HDN or direct?" tab of the Compare dock: the comparison in the viewer, Figure 1, and the result in words."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from ...config import CompareSettings
from ...data.images import PlaneStack
from ...evaluation.metrics import ssim
from ...progress import Progress, mapped
from ..shared.dock import main_button, stacked
from ..shared.panels import Panels, in_colour
from ..shared.workers import Update

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from ...denoiser import Denoiser
    from ...evaluation.sample_convergence import SampleConvergence
    from ...evaluation.verdict import Compared

_HDN, _DIRECT = "#d55e00", "#56b4e9"  # told apart by the colour-blind
_MOST_TICKS = 8  # of an axis in a dock
_ABOUT_DISAGREEMENT = (
    "Orange: direct is brighter than the mean; blue: darker; in units of the expected deviation (std). Within ±1, "
    "gray, both say the same. Beyond ±2 they differ, which does not say that direct is wrong: where the mean of "
    "samples is biased, it differs by design."
)


class AgainstPanel(QWidget):
    """Number of samples, the button, the plot, the result in words, and how to leave."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = QComboBox()
        self.samples.setToolTip(
            f"{CompareSettings.model_fields['samples'].description} 1000 samples take ten times as long as 100."
        )
        counts = CompareSettings().samples
        for choice in (counts, (*counts, 1000)):
            self.samples.addItem(", ".join(map(str, choice)), choice)
        self.run_button = main_button("Compare HDN with direct")
        self.run_button.setToolTip(
            "Noisy, direct pass, HDN mean, one HDN sample and standard deviation of the plane in view, side by side. "
            "The mean sharpens while samples are drawn. The comparison follows the sliders."
        )
        self.alternatives_button = QPushButton("Alternatives")
        self.alternatives_button.setToolTip(
            "Draw samples of the region in view (the middle of a large one), and show those that represent their "
            "clusters. Zoom in on a doubtful structure first. Structure that the model never draws is not among them."
        )
        self.plot = AgainstPlot()
        self.words = QLabel()
        self.disagreement = QCheckBox("Map of disagreement")
        self.disagreement.setToolTip(_ABOUT_DISAGREEMENT)
        self.about_disagreement = QLabel(_ABOUT_DISAGREEMENT)
        for label in (self.words, self.about_disagreement):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.keep = QCheckBox("Keep its layers")
        self.keep.setToolTip("When the comparison is left, keep its layers, hidden. Otherwise they are removed.")
        self.leave_button = QPushButton("Leave")
        self.leave_button.setToolTip("Close the comparison: the viewer is again as it was before.")
        self.disagreement.toggled.connect(self._toggle_map)
        self.about_disagreement.hide()
        form = QFormLayout()
        form.addRow("Samples", self.samples)
        leaving = QHBoxLayout()
        leaving.addWidget(self.keep, 1)
        leaving.addWidget(self.leave_button)
        buttons = self.run_button, self.alternatives_button
        column = stacked(form, *buttons, leaving, self.words, self.plot, self.disagreement, self.about_disagreement)
        column.setStretchFactor(self.plot, 1)
        column.addStretch(0)
        self.setLayout(column)
        self.clear()
        self.words.setText("Shows noisy, direct, HDN mean, one sample and std side by side, and says which is better.")
        self.show_leaving(False)
        self._map: Image | None = None
        self.take_map(None)

    def show_leaving(self, comparing: bool) -> None:
        """Show how to leave, during a comparison."""
        for widget in (self.keep, self.leave_button):
            widget.setVisible(comparing)

    def take_map(self, layer: Image | None) -> None:
        """Let the box show and hide the map of disagreement, if there is one."""
        self._map = layer
        self.disagreement.setVisible(layer is not None)
        self.disagreement.setChecked(layer is not None and layer.visible)
        if layer is not None:
            layer.events.visible.connect(self._follow_map)

    def _toggle_map(self, on: bool) -> None:
        self.about_disagreement.setVisible(on)
        self.plot.setVisible(self.plot.drawn and not on)  # a small screen has no room for both
        if self._map is not None:
            self._map.visible = on

    def _follow_map(self, event: Any = None) -> None:
        """The map was shown or hidden in the layer list."""
        self.disagreement.setChecked(self._map is not None and self._map.visible)

    def clear(self) -> None:
        """Remove the result of the comparison before."""
        self.words.setText("")
        self.plot.drawn = False
        self.plot.hide()

    def show_result(self, found: Compared) -> None:
        """Draw the curve and describe the result."""
        self.plot.drawn = found.errors is not None
        self.plot.setVisible(self.plot.drawn and not self.disagreement.isChecked())
        if found.errors is not None:
            self.plot.show_errors(found.result, found.errors, "estimated " if found.verdict.is_estimated else "")
        self.words.setText(found.verdict.sentence())


class SecondsAxis(pg.AxisItem):
    """A logarithmic axis with plain numbers, so few that they do not overlap in a dock."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """Give the powers of ten, or 1, 2 and 5 of each, or more where the axis spans little."""
        decades = np.arange(np.floor(minVal), np.ceil(maxVal))
        found: list[float] = []
        for steps in ([1.0], [1.0, 2.0, 5.0], np.arange(1, 10), np.arange(1, 10, 0.1)):
            ticks = np.sort(np.add.outer(decades, np.log10(steps)).ravel())
            ticks = ticks[(ticks >= minVal) & (ticks <= maxVal)]
            if len(ticks) > _MOST_TICKS:
                break
            found = ticks.tolist()
        return [(1.0, found)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Write ticks as seconds."""
        return [f"{10**value:.3g}" for value in values]


class AgainstPlot(Panels):
    """Error over seconds: means of HDN samples and the direct pass."""

    def __init__(self) -> None:
        super().__init__(
            "Root mean squared error over seconds, on a logarithmic axis; lower is better. Orange: mean of the first N "
            "HDN samples. Blue: direct pass.",
            height=230,
        )
        title = f"{in_colour('mean of N samples', _HDN)}, {in_colour('direct', _DIRECT)}"
        self.item = self.panel(0, title, SecondsAxis("bottom"))
        self.item.showGrid(x=True, y=True, alpha=0.2)
        self.item.setLogMode(x=True)
        self.item.setLabel("bottom", "seconds")
        self.drawn = False
        """Whether there is a curve."""

    def show_errors(self, result: SampleConvergence, errors: Sequence[float], kind: str) -> None:
        """Draw the errors of the means, and of the direct pass, which is the last."""
        self.item.clear()
        seconds = [*result.seconds, result.direct_seconds]
        dots = {"symbol": "o", "symbolSize": 9, "symbolPen": None}
        for part, colour in ((slice(-1), _HDN), (slice(-1, None), _DIRECT)):
            line = pg.mkPen(colour, width=2)
            self.item.plot(seconds[part], errors[part], pen=line, symbolBrush=colour, **dots)
        for name, x, y in zip([*map(str, result.samples), "direct"], seconds, errors, strict=True):
            words = pg.TextItem(name, color=self._text, anchor=(0.5, 1.2))
            words.setPos(np.log10(x), y)
            self.item.addItem(words)
        self.item.autoRange(padding=0.2)
        self.item.setLabel("left", f"{kind}RMS error")


@dataclass(frozen=True, eq=False)
class Drawn(Update):
    """The results so far, (H, W) each."""

    samples: int = 0
    images: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def against_direct(
    denoiser: Denoiser, noisy: PlaneStack, truth: PlaneStack | None, number: int, samples: Sequence[int]
) -> Generator[Update, None, Compared]:
    """Denoise one plane directly and by means of more and more samples, and compare both."""
    from ...evaluation.estimated_errors import estimated_errors_steps
    from ...evaluation.sample_convergence import sample_convergence_steps
    from ...evaluation.verdict import estimated, measured

    yield Update("Reading the plane in view …")
    plane = noisy[number][None]
    true_plane = None if truth is None else truth[number if len(truth) > 1 else 0][None]
    if true_plane is not None:
        ssim(true_plane[0], true_plane[0])  # raises now for a truth that could not be compared after the work
    result = yield from mapped(sample_convergence_steps(denoiser.model, plane, samples), _update)
    if true_plane is not None:
        return measured(result, true_plane)
    errors = yield from mapped(
        estimated_errors_steps(denoiser.model, plane, result.direct, result.means),
        lambda progress: Update("Estimating the errors …", progress.fraction),
    )
    return estimated(result, errors)


def _update(progress: Progress) -> Update:
    from ...evaluation.sample_convergence import Snapshot

    if not isinstance(progress, Snapshot):
        return Update("Drawing samples …", progress.fraction, progress.remaining_seconds)
    std = np.zeros_like(progress.direct) if progress.deviation is None else progress.deviation
    images = {"direct": progress.direct, "mean": progress.mean, "sample": progress.sample, "std": std}
    words = f"Drawn {progress.samples} of the samples …"
    return Drawn(words, samples=progress.samples, images={name: image[0] for name, image in images.items()})
