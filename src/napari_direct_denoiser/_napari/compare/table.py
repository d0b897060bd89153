"""The table of the Compare dock: as much of a `Row` as fits, what it means as tooltips, all of it as text or CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QHeaderView, QTableWidget, QTableWidgetItem

from ...data.files import check_target, replacing
from ...evaluation.compare import table_text

if TYPE_CHECKING:
    from ...evaluation.compare import Row


@dataclass(frozen=True)
class _Column:
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


_COMMON = (
    _Column(
        "Method",
        "How it was made: in one direct pass, or as the mean or median of N samples of HDN; if not known, its name.",
        lambda row: row.method,
    ),
    _Column("N", "Samples of HDN in it.", lambda row: str(row.samples) if row.samples else ""),
    _Column("s", "Seconds that it took, measured in this session.", _number("seconds", ".3g")),
    _Column("MP/s", "Megapixels a second.", _number("megapixels_per_second", ".2g")),
)
_WITH_TRUTH = (
    _Column(
        "PSNR",
        "Peak signal-to-noise ratio against the truth, dB, as in the paper: mean over planes.",
        _number("psnr", ".2f"),
    ),
    _Column("SSIM", "Structural similarity to the truth, mean over planes: 1 is equal.", _number("ssim", ".3f")),
)
_WITHOUT_TRUTH = (
    _Column(
        "corr.",
        "Whiteness of the residual (noisy − result): its correlation between neighbours, along x or y, whichever is "
        "farther from 0. Near 0: white. Far from 0: structure was removed with the noise, unless the noise itself is "
        "correlated.",
        _correlation,
    ),
    _Column(
        "χ²",
        "Residual against the noise model: chi-square per pixel. Near 1: as large as the noise. Well below 1: noise "
        "kept (a little below is usual). Well above 1: structure removed.",
        _number("chi_square", ".2f"),
    ),
    _Column(
        "Δ", "Root mean square of the difference from the direct pass, image units.", _number("rms_from_direct", ".3g")
    ),
)


class CompareTable(QTableWidget):
    """Rows of results. With a truth, PSNR and SSIM; without, what the residual says."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.setToolTip("One line for each result. Hold the mouse over the head of a column to see what it means.")
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.verticalHeader().setVisible(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setMinimumHeight(120)
        self.show_rows([])

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Fill the table anew."""
        self.rows = list(rows)
        columns = (*_COMMON, *(_WITH_TRUTH if any(row.psnr is not None for row in rows) else _WITHOUT_TRUTH))
        self.setRowCount(len(rows))
        self.setColumnCount(len(columns))
        for number, column in enumerate(columns):
            head = QTableWidgetItem(column.head)
            head.setToolTip(column.tooltip)
            self.setHorizontalHeaderItem(number, head)
            for line, row in enumerate(rows):
                self.setItem(line, number, _item(column.text(row), row.name, is_number=number > 0))
        header = self.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    def copy(self) -> None:
        """Put all figures on the clipboard, with tabs between them, as spreadsheets take them."""
        QApplication.clipboard().setText(table_text(self.rows, "\t"))

    def save(self, path: str | Path) -> None:
        """Write all figures to a CSV file; `DenoiserError` if that is not possible."""
        check_target(path, [".csv"], what="table")
        with replacing(path) as draft:
            draft.write_text(table_text(self.rows), encoding="utf-8")


def _item(text: str, tooltip: str, *, is_number: bool) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setToolTip(tooltip)
    if is_number:
        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item
