"""The Measure tab of the Compare dock: a table of results. It shows some figures of each `Row`; Copy and Save, all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QHBoxLayout, QHeaderView, QPushButton, QTableWidget, QTableWidgetItem, QWidget

from ...data.files import check_target, replacing
from ...data.images import LazyPlanes, PlaneStack
from ...evaluation.compare import Judged, Row, noise_variance, table_steps, table_text
from ...progress import mapped
from ..shared.dock import main_button, stacked
from ..shared.layers import facts, read_layer
from ..shared.workers import Update

if TYPE_CHECKING:
    from napari.layers import Image

    from ...denoiser import Denoiser


class _Column(NamedTuple):
    head: str
    tooltip: str
    text: Callable[[Row], str]


def _number(name: str, form: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = getattr(row, name)
        return "" if value is None else format(value, form)

    return text


def _correlation(row: Row) -> str:
    both = [each for each in (row.residual_correlation_x, row.residual_correlation_y) if each is not None]
    return f"{max(both, key=abs):.2f}" if both else ""


def _gain(row: Row) -> str:
    if row.estimated_gain_db is None:
        return ""
    return f"{row.estimated_gain_db:.1f} ± {row.estimated_gain_error_db:.1f}"


def _method(row: Row) -> str:
    return f"{row.method} of {row.samples}" if row.samples else row.method


_COMMON = (
    _Column("Method", "Direct pass, or mean or median of N samples of HDN; for other layers their name.", _method),
    _Column("seconds", "Measured when it was denoised in this session.", _number("seconds", ".3g")),
    _Column(
        "gain (dB)",
        "Estimated gain over the best Gaussian blur, and its standard error; no truth is used. Hover over an empty "
        "cell to see why it is empty.",
        _gain,
    ),
)
_WITH_TRUTH = (
    _Column("PSNR", "Peak signal-to-noise ratio against the truth, in dB, mean over planes.", _number("psnr", ".2f")),
    _Column("SSIM", "Structural similarity to the truth, mean over planes. 1 is equal.", _number("ssim", ".3f")),
)
_WITHOUT_TRUTH = (
    _Column(
        "corr.",
        "Correlation of the residual (noisy − result) between neighbours, along x or y, whichever is farther from 0. "
        "Near 0: the residual is white. Far from 0: structure was removed with the noise, unless the noise itself is "
        "correlated.",
        _correlation,
    ),
    _Column(
        "χ²",
        "Chi-square per pixel of the residual under the noise model. Near 1: as large as the noise. Well below 1: "
        "noise kept (a little below is usual). Well above 1: structure removed.",
        _number("chi_square", ".2f"),
    ),
)


class CompareTable(QTableWidget):
    """One row for each result. With a truth it shows PSNR and SSIM, without one the statistics of the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.setToolTip("One row for each result. Hover over the head of a column for its meaning.")
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.verticalHeader().setVisible(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setMinimumHeight(120)
        self.show_rows([])

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Replace the content of the table."""
        self.rows = list(rows)
        columns = (*_COMMON, *(_WITH_TRUTH if any(row.psnr is not None for row in rows) else _WITHOUT_TRUTH))
        self.setRowCount(len(rows))
        self.setColumnCount(len(columns))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for number, column in enumerate(columns):
            head = QTableWidgetItem(column.head)
            head.setToolTip(column.tooltip)
            self.setHorizontalHeaderItem(number, head)
            for line, row in enumerate(rows):
                item = QTableWidgetItem(column.text(row))
                empty = column.text is _gain and row.estimated_gain_why
                item.setToolTip(row.estimated_gain_why if empty else row.name)
                if number > 0:
                    item.setTextAlignment(right)
                self.setItem(line, number, item)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    def copy(self) -> None:
        """Copy all figures to the clipboard, separated by tabs."""
        QApplication.clipboard().setText(table_text(self.rows, "\t"))

    def save(self, path: str | Path) -> None:
        """Write all figures to a CSV file; `DenoiserError` if that is not possible."""
        check_target(path, [".csv"], what="table")
        with replacing(path) as draft:
            draft.write_text(table_text(self.rows), encoding="utf-8")


class MeasurePanel(QWidget):
    """The table and its buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.measure_button = main_button("Measure")
        self.measure_button.setToolTip(
            "Measure the checked results over all planes: against the truth if there is one, otherwise by their "
            "residuals."
        )
        self.table = CompareTable()
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the table, with all figures, as text for a spreadsheet.")
        self.save_button = QPushButton("Save CSV …")
        self.save_button.setToolTip("Write the table, with all figures, to a CSV file.")
        self.copy_button.clicked.connect(self.table.copy)
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.save_button)
        column = stacked(self.measure_button, self.table, buttons)
        column.setStretchFactor(self.table, 1)
        self.setLayout(column)


def judged(layer: Image, axes: str) -> Judged:
    """See a result layer as a row of the table."""
    known = facts(layer)
    samples = 0 if known.get("method") == "direct" else known.get("samples")
    planes = LazyPlanes(read_layer(layer).data, axes)
    return Judged(planes, known.get("method", layer.name), samples, known.get("seconds"), layer.name)


def measuring(
    noisy: PlaneStack,
    results: Sequence[Judged],
    truth: PlaneStack | None,
    denoiser: Denoiser | None,
    own: Sequence[bool],
) -> Generator[Update, None, list[Row]]:
    """Measure results over all planes, plane by plane; `own` says which ones the model made."""
    yield Update("Measuring all planes …")
    variance = None if denoiser is None else noise_variance(denoiser.model)
    steps = table_steps(noisy, results, truth=truth, variance=variance)
    rows = yield from mapped(steps, lambda progress: Update("Measuring all planes …", progress.fraction))
    if denoiser is None:
        return [replace(row, estimated_gain_why="The gain needs a model of this session.") for row in rows]
    from ...evaluation.estimated_errors import with_estimated_gains

    return (
        yield from mapped(
            with_estimated_gains(denoiser.model, noisy, results, rows, own),
            lambda progress: Update("Estimating the gain …", progress.fraction),
        )
    )
