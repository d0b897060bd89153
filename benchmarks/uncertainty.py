"""Whether predicted standard deviations are as large as the errors: coverage and reliability, against a truth.

    python benchmarks/uncertainty.py w2s lysosome --steps 600 --csv docs/quality/uncertainty.csv
    python benchmarks/uncertainty.py w2s --model w2s.safetensors --csv uncertainty.csv
    python benchmarks/uncertainty.py --table docs/quality/uncertainty.csv --plot docs/images/uncertainty.png

Two rows for each set of images: the direct pass with its one-pass standard deviation, and HDN's mean with the standard
deviation of its samples. Neither sees the truth. The truth of each plane is brought to the brightness of the plane
(`intensities.matched`), and it has noise of its own where it is a mean of captures: its variance counts as expected
error, beside that which the model predicts. Without both corrections, the ratio is ``raw``.

- within 1, within 2: part of the pixels whose error is less than so many standard deviations (normal: 0.683, 0.954).
- ratio: root mean squared error over root mean squared standard deviation; quarter N: the same in a quarter of the
  pixels, from the darkest to the brightest by the prediction.
- std N, error N: both in a tenth of the pixels by the standard deviation, in counts.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from intensities import SETS, images_of, matched
from numpy.typing import NDArray
from quality_data import SHARED
from quality_tables import COLOURS, canvas, save

from napari_direct_denoiser import load
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.evaluation.compare import noise_variance
from napari_direct_denoiser.progress import drain

CAPTURES = {"w2s": 400, "tirf": 19, "widefield": 50, "mice": 50, "fish": 50}
"""Captures of which the truth is the mean; that of FMD is rounded to whole counts, too."""
ROUNDED = ("widefield", "mice", "fish")
PARTS = range(10)
COLUMNS = [
    *("images", "steps", "method", "planes", "rmse", "raw", "ratio", "within 1", "within 2"),
    *(f"quarter {n}" for n in range(4)),
    *(f"std {n}" for n in PARTS),
    *(f"error {n}" for n in PARTS),
]

Images = NDArray[Any]


def rms(values: Images) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def split(key: Images, parts: int) -> list[Images]:
    return np.array_split(np.argsort(key, axis=None), parts)


def measure(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    noisy, axes, planes, truth = images_of(name, args.data)
    if args.model:
        denoiser = load(args.model)
    else:
        denoiser = Denoiser.for_images(noisy, train_settings(max_steps=args.steps, seed=args.seed), axes=axes)
        for _ in denoiser.train_steps():
            pass
    planes, truth = planes[: args.planes].astype(np.float32), np.asarray(truth[: args.planes], np.float64)
    steps = denoiser.denoise_steps(planes, ["direct", "std", "mean", "sample_std"], samples=args.samples)
    found = drain(steps)
    level = matched(truth, planes) if name in CAPTURES else truth
    own = noise_variance(denoiser.model)(found["direct"]) / CAPTURES[name] if name in CAPTURES else 0.0
    own = own + (1 / 12 if name in ROUNDED else 0.0)
    rows = []
    for method, image, std in (
        ("direct", "direct", "std"),
        (f"HDN mean of {args.samples}", "mean", "sample_std"),
    ):
        error, expected = found[image] - level, np.sqrt(found[std] ** 2 + own)
        away, quarters = np.abs(error) / expected, split(found[image], 4)
        tenths = split(found[std], len(PARTS))
        rows.append(
            {
                "images": name,
                "steps": denoiser.provenance.steps,
                "method": method,
                "planes": len(planes),
                "rmse": rms(error),
                "raw": rms(found[image] - truth) / rms(found[std]),
                "ratio": rms(error) / rms(expected),
                "within 1": float(np.mean(away < 1)),
                "within 2": float(np.mean(away < 2)),
                **{f"quarter {n}": rms(error.flat[q]) / rms(expected.flat[q]) for n, q in enumerate(quarters)},
                **{f"std {n}": rms(expected.flat[q]) for n, q in enumerate(tenths)},
                **{f"error {n}": rms(error.flat[q]) for n, q in enumerate(tenths)},
            }
        )
    return rows


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| images | method | RMSE, counts | within 1 std | within 2 std | RMSE / std | in quarters by brightness "
        "| raw |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quarters = " ".join(f"{float(row[f'quarter {n}']):.2f}" for n in range(4))
        cells = [
            row["images"],
            row["method"],
            f"{float(row['rmse']):.3g}",
            *(f"{100 * float(row[f'within {n}']):.1f} %" for n in (1, 2)),
            f"{float(row['ratio']):.2f}",
            quarters,
            f"{float(row['raw']):.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Reliability: error over standard deviation, both in units of the RMSE of the set; a line for each set."""
    import pyqtgraph as pg  # only for pictures

    widget = canvas((900, 450))
    direct = [row for row in rows if row["method"] == "direct"]
    others = [row for row in rows if row["method"] != "direct"]
    for column, (title, group) in enumerate((("direct pass", direct), ("HDN mean", others))):
        plot = widget.addPlot(0, column, title=title)
        plot.addLegend(offset=(10, 10), labelTextColor="k")
        plot.setLabel("bottom", "predicted std / RMSE")
        plot.setLabel("left", "RMS error / RMSE")
        plot.setAspectLocked(True)
        plot.showGrid(x=True, y=True, alpha=0.2)
        plot.plot([0, 2.5], [0, 2.5], pen=pg.mkPen("k", style=pg.QtCore.Qt.PenStyle.DashLine))
        for colour, row in zip(COLOURS * 2, group, strict=False):
            unit = float(row["rmse"])
            std, error = ([float(row[f"{name} {n}"]) / unit for n in PARTS] for name in ("std", "error"))
            plot.plot(std, error, pen=pg.mkPen(colour, width=2), symbol="o", symbolBrush=colour, name=row["images"])
    save(widget, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="NAME", help=f"all, or {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--model", type=Path, help="a trained model, for one set of images")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--planes", type=int, default=8)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--table", type=Path, metavar="CSV")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.table:
        with args.table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        print(table(rows))
        if args.plot:
            draw(rows, args.plot)
        return
    names = SETS if args.images == ["all"] else args.images
    with args.csv.open("w", newline="") if args.csv else sys.stdout as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name in names:
            writer.writerows(measure(name, args))
            file.flush()


if __name__ == "__main__":
    main()
