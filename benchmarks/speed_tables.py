"""What the rows of `speed.py` say beside each other, and the paper's Figure 1 with the times of this machine.

    python benchmarks/speed_tables.py speed.csv [--quality docs/quality/w2s.csv --figure speed-figure.png]

The figure shows the PSNR of ever more samples of HDN and of the direct pass against the seconds that a plane takes, as
`quality.py` measured both, and how long the published networks take for as much, as `speed.py --reference` did.
"""

from __future__ import annotations

import argparse
import csv
from math import log10
from pathlib import Path
from typing import Any

from quality_tables import COLOURS, canvas, means, read, runs, save, while_training

SIZE = "512x512"
PRESETS = ("quick", "balanced", "paper", "paper in float32", "published")


def seconds(path: Path) -> dict[tuple[str, str], float]:
    """Median seconds by preset and row."""
    with path.open(newline="") as file:
        return {(row["preset"], row["row"]): float(row["median_s"]) for row in csv.DictReader(file) if row["median_s"]}


def ratios(times: dict[tuple[str, str], float]) -> str:
    """What co-training costs beside training HDN alone, and 1000 samples beside the direct pass."""
    lines = [
        "| preset | co-training / HDN | 1000 samples / direct | published / ours: direct | sample | mean of 100 |",
        "|---|---|---|---|---|---|",
    ]
    for preset in PRESETS:
        if (preset, f"direct, {SIZE}") not in times:
            continue
        steps = [name for key, name in times if key == preset and name.startswith("co-training")]
        together = ", ".join(
            f"{times[preset, name] / times[preset, name.replace('co-training', 'HDN-only')]:.2f}"
            f" ({name.rpartition(', ')[2]})"
            for name in steps
        )
        many = 10 * times[preset, f"mean of 100, {SIZE}"] / times[preset, f"direct, {SIZE}"]
        against = [
            f"{times['published', row] / times[preset, row]:.1f}" if ("published", row) in times else ""
            for row in (f"direct, {SIZE}", f"HDN sample, {SIZE}", f"mean of 100, {SIZE}")
        ]
        lines.append(f"| {' | '.join((preset, together, f'{many:.0f}', *against))} |")
    return "\n".join(lines)


def draw(times: dict[tuple[str, str], float], quality: Path, path: Path) -> None:
    """PSNR against seconds a plane, and the times of the published networks as lines."""
    widget = canvas((900, 480))
    import pyqtgraph as pg

    plot = widget.addPlot()
    plot.setLogMode(x=True)
    plot.setLabel("bottom", "seconds a plane")
    plot.setLabel("left", "PSNR, dB")
    plot.showGrid(x=True, y=True, alpha=0.2)
    plot.addLegend(offset=(-45, -110))
    chosen = [(run, rows) for run, rows in runs(read([quality])).items() if run[3] == "l2"]
    for (run, rows), colour in zip(chosen, COLOURS, strict=False):
        _draw_run(plot, f"{run[1]}, {run[2]}", rows, colour)
    names = {
        f"direct, {SIZE}": ("direct", 1),
        f"HDN sample, {SIZE}": ("1 sample", 1),
        f"mean of 100, {SIZE}": ("1000 samples", 10),
    }
    for row, (text, factor) in names.items():
        if ("published", row) in times:
            line = pg.InfiniteLine(
                log10(factor * times["published", row]),
                pen=pg.mkPen("#777777", style=pg.QtCore.Qt.PenStyle.DashLine),
                label=f"published networks: {text}",
                labelOpts={"rotateAxis": (1, 0), "color": "#555555", "position": 0.35, "anchors": [(0.5, 0)] * 2},
            )
            plot.addItem(line)
    save(widget, path)


def _draw_run(plot: Any, name: str, rows: list[dict[str, str]], colour: str) -> None:
    """The planes that HDN was sampled on: the direct pass as a star, means of 1, 10 ... samples as a line."""
    import pyqtgraph as pg

    final = means((row for row in rows if not while_training(row)), ("method", "samples", "planes"))
    sampled = [key for key in final if key[0] == "mean"]
    if len(sampled) < 2:
        return
    planes = sampled[0][2]
    numbers = ", ".join(sorted((samples for _, samples, _ in sampled), key=int))
    points = sorted((final[key]["seconds"] / int(planes), final[key]["psnr"]) for key in sampled)
    x, y = map(list, zip(*points, strict=True))
    dots = {"symbol": "o", "symbolSize": 8, "symbolBrush": colour, "symbolPen": None}
    plot.plot(x, y, pen=pg.mkPen(colour, width=2), name=f"{name}: means of {numbers}", **dots)
    direct = final["direct", "", planes]
    star = {"symbol": "star", "symbolSize": 20, "symbolBrush": colour, "symbolPen": None}
    plot.plot([direct["seconds"] / int(planes)], [direct["psnr"]], pen=None, name=f"{name}: direct", **star)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--quality", type=Path, help="CSV of quality.py")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    args = parser.parse_args()
    if args.figure and not args.quality:
        parser.error("--figure needs --quality")
    times = seconds(args.csv)
    print(ratios(times))
    if args.figure:
        draw(times, args.quality, args.figure)


if __name__ == "__main__":
    main()
