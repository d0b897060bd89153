"""The "HDN or direct?" tab of the Compare dock: means of more and more samples beside the direct pass (Figure 1)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QWidget

from ...config import CompareSettings
from ...data.images import PlaneStack
from ...evaluation.compare import STANDARD_ERRORS, Row, table_steps
from ...evaluation.metrics import ssim
from ...progress import mapped
from ..shared.dock import main_button, stacked
from ..shared.layers import METADATA_KEY, Source, result_layer
from ..shared.panels import Panels, in_colour
from ..shared.plane_layers import as_plane_of
from ..shared.workers import Update

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...denoiser import Denoiser
    from ...evaluation.sample_convergence import SampleConvergence

_HDN, _DIRECT = "#d55e00", "#56b4e9"  # told apart by the colour-blind
_PERCENTILE_SHOWN = 99.9  # of a standard deviation: upper contrast limit
_Layer = tuple[Any, dict[str, Any]]


class AgainstPanel(QWidget):
    """Numbers of samples, the plot, and the result in words."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = QComboBox()
        self.samples.setToolTip(
            f"{CompareSettings.model_fields['samples'].description} 1000 samples take ten times as long as 100."
        )
        counts = CompareSettings().samples
        for choice in (counts, (*counts, 1000)):
            self.samples.addItem(", ".join(map(str, choice)), choice)
        self.run_button = main_button("HDN against direct")
        self.run_button.setToolTip(
            "Figure 1 of the paper for the plane in view: means of more and more HDN samples beside the direct pass, "
            "with maps of the standard deviation and of where the two differ by more than "
            f"{STANDARD_ERRORS} standard errors."
        )
        self.plot = AgainstPlot()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        form = QFormLayout()
        form.addRow("Samples", self.samples)
        column = stacked(form, self.run_button, self.plot, self.words)
        column.setStretchFactor(self.plot, 1)
        self.setLayout(column)

    def show_result(self, result: SampleConvergence, rows: Sequence[Row]) -> None:
        """Draw the curve and describe the result."""
        self.plot.show_rows(rows)
        mean, direct = rows[-2:]
        took = [
            f"{seconds:.3g} s" + ("" if row.psnr is None else f" ({row.psnr:.2f} dB)")
            for row, seconds in ((direct, result.direct_seconds), (mean, result.seconds[-1]))
        ]
        times = result.seconds[-1] / result.direct_seconds
        words = f"Direct {took[0]}; {mean.name} {took[1]}, {times:.0f} times as long."
        words += f" RMS difference {mean.rms_from_direct:.3g}"
        if result.disagreement is not None:
            share = float(np.mean(result.disagreement))
            words += f"; more than {STANDARD_ERRORS} standard errors in {share:.1%} of the pixels"
        self.words.setText(f"{words}.")


class AgainstPlot(Panels):
    """Quality over seconds: means of HDN samples and the direct pass."""

    def __init__(self) -> None:
        super().__init__(
            "Quality over seconds, on a logarithmic axis. Orange: mean of the first N HDN samples. Blue: direct pass.",
            height=230,
        )
        self.item = self.panel(0, f"{in_colour('mean of N samples', _HDN)}, {in_colour('direct', _DIRECT)}")
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
        self.item.setLabel("left", "PSNR (dB)" if with_truth else f"RMS from mean of {rows[-2].samples}")


def against_direct(
    denoiser: Denoiser, noisy: PlaneStack, truth: PlaneStack | None, number: int, samples: Sequence[int]
) -> Generator[Update, None, tuple[SampleConvergence, list[Row]]]:
    """Denoise one plane directly and by means of samples; give both, and the table that compares them."""
    from ...evaluation.sample_convergence import sample_convergence_steps

    yield Update("Reading the plane in view …")
    plane = noisy[number][None]
    true_plane = None if truth is None else truth[number if len(truth) > 1 else 0][None]
    if true_plane is not None:
        ssim(true_plane[0], true_plane[0])  # raises now for a truth that could not be compared after the work
    result = yield from mapped(
        sample_convergence_steps(denoiser.model, plane, samples),
        lambda progress: Update("Drawing samples …", progress.fraction, progress.remaining_seconds),
    )
    rows = yield from mapped(
        table_steps(plane, result.judged(), truth=true_plane, final_mean=result.means[-1]),
        lambda progress: Update("Measuring …", progress.fraction),
    )
    return result, rows


def layers_of(result: SampleConvergence, source: Source, name: str, axes: str, model: str) -> list[_Layer]:
    """Make data and keywords of `viewer.add_image` for all images of a result, the lowest layer first.

    The direct pass lies over the mean of most samples; both are visible. The maps of the standard deviation and of the
    disagreement, and the means of fewer samples, are hidden.

    Parameters
    ----------
    result
        Of one plane.
    source
        The plane: the noisy layer's name, with geometry for layers that lie exactly over the plane.
    name
        Name of the plane, for the names of the layers.
    axes
        Letters of the axes of the noisy layer.
    model
        Name of the model.
    """
    place, most = replace(source, name=name), result.samples[-1]

    def layer(image: NDArray[Any], method: str, samples: int, limits: tuple[float, float] | None = None) -> _Layer:
        known = {"source": source.name, "model": model, "method": method, "samples": samples}
        return result_layer(place, as_plane_of(image, axes), method, known, samples or None, limits, axes)

    made: list[_Layer] = []
    if result.std is not None and result.disagreement is not None:
        data, keywords = layer(result.disagreement[0].astype(np.uint8), "disagreement", most)
        red = {"colormap": "red", "gamma": 1.0, "contrast_limits": (0, 1), "blending": "additive", "visible": False}
        made.append((data, {**keywords, **red, "name": f"{name} disagreement (N={most})"}))
        highest = float(np.percentile(result.std, _PERCENTILE_SHOWN)) or 1.0
        data, keywords = layer(result.std[0], "std", most, (0.0, highest))
        made.append((data, {**keywords, "visible": False}))
    for each in result.judged():
        data, keywords = layer(each.planes[0], each.method, each.samples or 0)
        keywords["metadata"][METADATA_KEY]["seconds"] = each.seconds
        made.append((data, {**keywords, "visible": each.samples in (0, most)}))
    return made
