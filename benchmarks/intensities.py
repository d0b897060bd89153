"""Whether denoised intensities can be measured: their bias at every brightness, and that of means over regions.

    python benchmarks/intensities.py all --steps 600 --csv docs/intensities/quick-600-steps.csv
    python benchmarks/intensities.py w2s --model w2s.safetensors --csv intensities.csv
    python benchmarks/intensities.py --table intensities.csv --plot docs/images/intensities.png

One row for each set of images. Biases and errors are in percent of the range of the truth over all planes. A capture
may be brighter or darker as a whole than the mean of many captures that is its truth, as lamps and dyes change. So the
truth of each plane is brought to the brightness of that plane first, by a line through the means over regions. Without
this, the slope is ``unmatched``. The truth of a TIRF frame is the mean of the others.

- slope: of the line of the true on the denoised intensity, over all pixels.
- decile N: bias in a tenth of the pixels, from the darkest to the brightest by their denoised intensity; level N is the
  mean of the truth there, above the darkest truth.
- mean: bias of all pixels together.
- region, noisy_region: error (RMSE) of the means over regions of 32 x 32 pixels, denoised and noisy.
- region_slope: of the line of the true on the denoised means over regions.
- contrast: standard deviation of the truth over that of the noise.
- files: largest difference of a field denoised with the others, and alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from correlated import CASES
from numpy.typing import NDArray
from quality_data import DATASETS, SHARED, add_row, load_dataset
from quality_tables import COLOURS, canvas, save

from napari_direct_denoiser import load
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.denoiser import Denoiser

SETS = [*DATASETS, *CASES]
REGION = 32  # pixels
DECILES = range(10)
COLUMNS = [
    *("images", "steps", "seed", "planes", "range", "contrast", "slope", "unmatched", "mean", "region"),
    *("noisy_region", "region_slope", "files", *(f"decile {n}" for n in DECILES), *(f"level {n}" for n in DECILES)),
]

Images = NDArray[Any]


def images_of(name: str, folder: Path) -> tuple[Images, str, Images, Images]:
    """Images to train on, their axes, and planes (P, H, W) to measure with their truth."""
    if name in DATASETS:
        data = load_dataset(name, folder)
        truth = data.truth
        if name == "tirf":
            truth = (data.planes.sum(0, dtype=np.float64) - data.planes) / (len(data.planes) - 1)
        return data.noisy, data.axes, data.planes, truth
    case = CASES[name](folder)
    return case.noisy, "TYX", case.planes, case.truth


def regions(planes: Images) -> Images:
    """Means over regions (P, H // 32, W // 32)."""
    count, height, width = planes.shape[0], planes.shape[1] // REGION, planes.shape[2] // REGION
    cut = planes[:, : height * REGION, : width * REGION]
    return cut.reshape(count, height, REGION, width, REGION).mean((2, 4))


def matched(truth: Images, noisy: Images) -> Images:
    """Planes of the truth (P, H, W) at the brightness of the noisy ones."""
    lines = [np.polyfit(*(regions(each[None]).ravel() for each in pair), 1) for pair in zip(truth, noisy, strict=True)]
    return np.stack([scale * plane + shift for plane, (scale, shift) in zip(truth, lines, strict=True)])


def slope_of(truth: Images, denoised: Images) -> float:
    return float(np.cov(truth.ravel(), denoised.ravel())[0, 1] / denoised.var(ddof=1))


def measure(denoised: Images, noisy: Images, unmatched: Images) -> dict[str, float]:
    """The figures of one set: planes (P, H, W), in counts."""
    denoised, noisy, unmatched = (image.astype(np.float64) for image in (denoised, noisy, unmatched))
    truth = matched(unmatched, noisy)
    full = float(np.ptp(truth))
    order = np.array_split(np.argsort(denoised, axis=None), len(DECILES))
    error, level = (denoised - truth).ravel(), truth.ravel() - truth.min()
    within = regions(truth)
    percent = {
        "mean": error.mean(),
        "region": np.sqrt(((regions(denoised) - within) ** 2).mean()),
        "noisy_region": np.sqrt(((regions(noisy) - within) ** 2).mean()),
        **{f"decile {n}": error[part].mean() for n, part in enumerate(order)},
        **{f"level {n}": level[part].mean() for n, part in enumerate(order)},
    }
    return {
        "planes": len(truth),
        "range": full,
        "contrast": float(truth.std() / (noisy - truth).std()),
        "slope": slope_of(truth, denoised),
        "unmatched": slope_of(unmatched, denoised),
        "region_slope": slope_of(within, regions(denoised)),
        **{key: 100 * float(value) / full for key, value in percent.items()},
    }


def row_of(name: str, args: argparse.Namespace) -> dict[str, Any]:
    noisy, axes, planes, truth = images_of(name, args.data)
    if args.model:
        denoiser = load(args.model)
    else:
        settings = train_settings(seed=args.seed, max_minutes=args.minutes, max_steps=args.steps)
        denoiser = Denoiser.for_images(noisy, settings, axes=axes)
        for _ in denoiser.train_steps():
            pass
    together = denoiser.denoise(planes.astype(np.float32), axes="TYX")
    found = measure(together, planes, truth)
    alone = np.stack([denoiser.denoise(plane.astype(np.float32)) for plane in planes[:5]])
    files = 100 * float(np.abs(alone - together[:5]).max()) / found["range"]
    provenance = denoiser.provenance
    return {"images": name, "steps": provenance.steps, "seed": provenance.settings.seed, "files": files, **found}


def table(rows: Sequence[dict[str, str]]) -> str:
    lines = [
        "| images | steps | planes | range, counts | contrast | slope | without matching | largest bias of a decile, % "
        "| bias of all pixels, % | slope of regions | error of regions, % (noisy) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        worst = max((float(row[f"decile {n}"]) for n in DECILES), key=abs)
        cells = [
            row["images"],
            row["steps"],
            row["planes"],
            f"{float(row['range']):.0f}",
            f"{float(row['contrast']):.2f}",
            f"{float(row['slope']):.4f}",
            f"{float(row['unmatched']):.4f}",
            f"{worst:+.3f}",
            f"{float(row['mean']):+.3f}",
            f"{float(row['region_slope']):.4f}",
            f"{float(row['region']):.3f} ({float(row['noisy_region']):.3f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Bias of the deciles, all sets in one plot."""
    import pyqtgraph as pg

    widget = canvas((900, 500))
    plot = widget.addPlot()
    plot.setLabel("bottom", "tenths of the pixels, from the darkest to the brightest")
    plot.setLabel("left", "bias, % of the range")
    plot.addLegend(offset=(10, -10))
    plot.getAxis("left").enableAutoSIPrefix(False)
    plot.showGrid(y=True, alpha=0.3)
    for limit in (-0.1, 0.1):
        plot.addLine(y=limit, pen=pg.mkPen("#555555", style=pg.QtCore.Qt.PenStyle.DashLine))
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        symbol = "ostd+x"[number // len(COLOURS)]
        y = [float(row[f"decile {n}"]) for n in DECILES]
        dots = {"symbol": symbol, "symbolSize": 7, "symbolBrush": colour, "symbolPen": None}
        plot.plot([n + 1 for n in DECILES], y, pen=pg.mkPen(colour, width=2), name=row["images"], **dots)
    save(widget, path)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file; of several of the same images, the latest."""
    with path.open(newline="") as file:
        return list({row["images"]: row for row in csv.DictReader(file)}.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", choices=[*SETS, "all", []])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--model", type=Path, help="measure this model, and train none")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float)
    budget.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="file to add rows to")
    parser.add_argument("--table", type=Path, help="print the rows of this file as a table")
    parser.add_argument("--plot", type=Path, help="draw those rows to this PNG")
    args = parser.parse_args()
    for name in SETS if "all" in args.images else args.images:
        row = {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row_of(name, args).items()}
        print(" ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)
        if args.csv:
            add_row(args.csv, COLUMNS, row)
    if args.table:
        print(table(read(args.table)))
        if args.plot:
            draw(read(args.table), args.plot)


if __name__ == "__main__":
    main()
