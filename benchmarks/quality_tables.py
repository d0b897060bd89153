"""Tables in Markdown of what `quality.py` measured, and the direct pass over the minutes of training as a picture.

    python benchmarks/quality_tables.py quality.csv [MORE.csv ...] [--curves quality.png]

One table for each dataset, preset, budget and loss; figures are means over the seeds, but the seconds that prediction
took are the lowest. Where a run was repeated, its latest rows count. "Gap closed" is the part of the way from the best
Gaussian to the supervised twin.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterable, Sequence
from itertools import cycle, product
from pathlib import Path
from statistics import fmean
from typing import Any

METHODS = {
    "noisy": "noisy",
    "gaussian": "best Gaussian blur",
    "n2v": "Noise2Void",
    "direct": "direct pass",
    "mean": "HDN mean of",
    "median": "HDN median of",
    "supervised": "supervised twin",
}
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]  # told apart by the colour-blind, too

Row = dict[str, str]
Run = tuple[str, str, str, str]
"""Dataset, preset, budget, loss."""


def read(paths: Iterable[Path]) -> list[Row]:
    rows = []
    for path in paths:
        with path.open(newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def runs(rows: Sequence[Row]) -> dict[Run, list[Row]]:
    """The rows of each run; those that belong to no loss (noisy, gaussian, n2v) are in the runs of every loss."""
    found: dict[Run, list[Row]] = {_run(row): [] for row in rows if row["loss"]}
    for row, loss in product(rows, ("l2", "l1")):
        run = _run({**row, "loss": row["loss"] or loss})
        if run in found and row["loss"] in ("", loss):
            found[run].append(row)
    return found


def _run(row: Row) -> Run:
    return row["dataset"], row["preset"], row["budget"], row["loss"]


def while_training(row: Row) -> bool:
    return row["note"].endswith("%")


def means(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Means over the seeds of rows that agree in the columns ``by``, and the number of seeds."""
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), {})[row["seed"]] = row  # the latest
    return {key: {"seeds": len(group), **_mean(list(group.values()))} for key, group in groups.items()}


def _mean(rows: Sequence[Row]) -> dict[str, Any]:
    figures: dict[str, Any] = {"note": rows[0]["note"]}
    for name in ("minutes", "steps", "psnr", "mae", "seconds"):
        values = [float(row[name]) for row in rows if row[name]]
        figures[name] = (min if name == "seconds" else fmean)(values) if values else None
    return figures


def table(rows: Sequence[Row]) -> str:
    """The end of one run, or of runs with several seeds."""
    final = means((row for row in rows if not while_training(row)), ("method", "samples", "planes"))
    order = list(METHODS)
    keys = sorted(final, key=lambda key: (-int(key[2]), order.index(key[0]), int(key[1] or 0)))
    lines = [
        "| method | planes | seeds | PSNR, dB | MAE, counts | gap closed | minutes | steps | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in keys:
        method, samples, planes = key
        figures = final[key]
        low, high = (final.get((name, "", planes)) for name in ("gaussian", "supervised"))
        gap = high["psnr"] - low["psnr"] if low and high else 0.0
        part = (figures["psnr"] - low["psnr"]) / gap if low and gap > 0 else None
        name = f"{METHODS[method]} {samples}".strip()
        cells = [
            f"{name} ({figures['note']})" if method == "gaussian" else name,
            planes,
            str(figures["seeds"]),
            f"{figures['psnr']:.2f}",
            f"{figures['mae']:.4g}",
            _text(part if method != "noisy" else None, ".2f"),
            _text(figures["minutes"], ".1f"),
            _text(figures["steps"], ".0f"),
            _text(figures["seconds"], ".1f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def draw_curves(found: dict[Run, list[Row]], path: Path) -> None:
    """One plot for each dataset, one colour for each preset, budget and loss."""
    widget = canvas((900, 500))
    colours = dict(zip(dict.fromkeys(run[1:] for run in found), cycle(COLOURS), strict=False))
    datasets = list(dict.fromkeys(run[0] for run in found))
    columns = 1 if len(datasets) == 1 else 2
    for number, dataset in enumerate(datasets):
        plot = widget.addPlot(*divmod(number, columns), title=dataset)
        plot.setLabel("bottom", "minutes of training")
        plot.setLabel("left", "PSNR, dB")
        plot.showGrid(x=True, y=True, alpha=0.2)
        own = {run: rows for run, rows in found.items() if run[0] == dataset}
        longest = max((float(row["minutes"]) for rows in own.values() for row in rows if row["minutes"]), default=1.0)
        for run, rows in own.items():
            _draw_run(plot, rows, colours[run[1:]], longest)
    # one legend below all plots: in each there is no room for it
    settings = [f"<span style='color:{colour}'>&#9679;</span> {' '.join(key)}" for key, colour in colours.items()]
    lines = "solid: direct pass &nbsp; dashed: supervised twin &nbsp; dotted: best Gaussian blur"
    for line, text in enumerate((" &nbsp; ".join(settings), lines)):
        widget.addLabel(text, len(datasets) + line, 0, colspan=columns, color="k")
    save(widget, path)


def canvas(size: tuple[int, int]) -> Any:
    """An empty picture, white, to add plots to."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import pyqtgraph as pg  # only for pictures

    pg.setConfigOptions(background="w", foreground="k", antialias=True)
    pg.mkQApp()
    return pg.GraphicsLayoutWidget(size=size)


def save(widget: Any, path: Path) -> None:
    import pyqtgraph as pg

    widget.show()
    pg.QtWidgets.QApplication.processEvents()
    widget.grab().save(str(path))


def _draw_run(plot: Any, rows: Sequence[Row], colour: str, longest: float) -> None:
    import pyqtgraph as pg

    curve = sorted((at["minutes"], at["psnr"]) for at in means(filter(while_training, rows), ["note"]).values())
    if curve:
        minutes, psnrs = map(list, zip(*curve, strict=True))
        dots = {"symbol": "o", "symbolSize": 6, "symbolBrush": colour, "symbolPen": None}
        plot.plot(minutes, psnrs, pen=pg.mkPen(colour, width=2), **dots)
    final = means((row for row in rows if not while_training(row)), ["method"])
    dash, dot = pg.QtCore.Qt.PenStyle.DashLine, pg.QtCore.Qt.PenStyle.DotLine
    for method, pen in (
        ("gaussian", pg.mkPen("#555555", width=2, style=dot)),
        ("supervised", pg.mkPen(colour, width=2, style=dash)),
    ):
        if found := final.get((method,)):
            plot.plot([0, longest], [found["psnr"], found["psnr"]], pen=pen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="+")
    parser.add_argument("--curves", type=Path, help="draw PSNR over minutes to this PNG")
    args = parser.parse_args()
    found = runs(read(args.csv))
    for (dataset, preset, budget, loss), rows in found.items():
        print(f"### {dataset}, {preset}, {budget}, {loss}\n\n{table(rows)}\n")
    if args.curves:
        draw_curves(found, args.curves)


if __name__ == "__main__":
    main()
