"""What a denoiser loses and invents: known structures in simulated images, and empty images of one brightness.

    python benchmarks/trust.py --steps 1500 --csv docs/quality/trust.csv --plot docs/images/trust.png
    python benchmarks/trust.py --table docs/quality/trust.csv

Spots, rings and checkerboards of 2 x 2 pixels are added to test images of the simulator. The training images of one
model have none of them beyond the spots (vesicles) of the simulator; those of the other have rings and checkerboards
everywhere. A third model has the weights that come with the package: it was trained for one step. All structures have
the same detectability d: the signal-to-noise ratio of an observer who knows shape and place,
amplitude * sqrt(sum of pattern^2) / standard deviation of the noise. With d = 3, the observer barely sees one.

- kept: amplitude in the result over the true one, by regression of (result with - result without the structure) on the
  pattern. Both images have the same noise, but for that of the added light. 1 is unbiased.
- error / std: root mean squared error of the direct pass where the pattern is, over the standard deviation that the
  model predicts there. 1 is honest.
- invented: in an image of one brightness, what looks like a spot of d = 3 or more, for each 100 000 pixels.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_tables import canvas, save
from scipy.ndimage import gaussian_filter, maximum_filter

from napari_direct_denoiser import Denoiser
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.progress import drain

Image = NDArray[Any]

GAIN, OFFSET, READ = 2.0, 100.0, 3.0  # of `simulate`
SIDE, BOX, PLANES = 256, 17, 2
DETECTABILITY = (3, 6, 12, 24)
OFTEN = 24.0  # detectability of the structures in training images
SAMPLES = 20
METHODS = {"direct": "direct pass", "mean": f"mean of {SAMPLES} samples", "sample": "one sample"}
COLUMNS = ["trained on", "shape", "d", "noisy", *METHODS.values(), "error / std"]


def patterns() -> dict[str, Image]:
    """What is added, (BOX, BOX), at least 0 and at most 1."""
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    radius = np.hypot(y, x)
    checks = ((y // 2 + x // 2) % 2 == 0) & (np.maximum(abs(y), abs(x)) <= 6)
    return {
        "spot": np.exp(-0.5 * (radius / 1.3) ** 2),
        "ring": np.exp(-0.5 * ((radius - 5) / 1.0) ** 2),
        "checkerboard": checks.astype(float),
    }


def template(pattern: Image) -> Image:
    """The pattern without its mean: what tells it from a brighter background."""
    return np.asarray(pattern - pattern.mean())


def places(rng: np.random.Generator) -> Image:
    """Corners of boxes that do not touch, (n, 2)."""
    grid = np.arange(8, SIDE - BOX - 8, 2 * BOX - 4)
    corners = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    return np.asarray(corners + rng.integers(-4, 5, corners.shape))


def structures(truth: Image, pattern: Image, d: float, corners: Image) -> Image:
    """Counts to add to a plane; the amplitude at each place follows from the noise there."""
    added = np.zeros(truth.shape)
    for y, x in corners:
        box = np.s_[y : y + BOX, x : x + BOX]
        variance = GAIN * (truth[box].mean() - OFFSET) + READ**2
        added[box] += d * np.sqrt(variance / np.square(template(pattern)).sum()) * pattern
    return added


def photons(added: Image, rng: np.random.Generator) -> Image:
    """The noisy counts of added light: Poisson noise of a sum is the sum of Poisson noise."""
    return np.asarray(GAIN * rng.poisson(added / GAIN))


def trained(often: bool, steps: int) -> Denoiser:
    stack, rng = simulate(8, SIDE, seed=0), np.random.default_rng(1)
    noisy = stack.noisy.astype(np.float32)
    if often:
        shapes = [patterns()[name] for name in ("ring", "checkerboard")]
        for number, plane in enumerate(noisy):
            corners = rng.permutation(places(rng))
            for half, shape in zip(np.array_split(corners, 2), shapes, strict=True):
                plane += photons(structures(stack.truth[number], shape, OFTEN, half), rng)
    denoiser = Denoiser.for_images(noisy, train_settings(max_steps=steps, seed=0), axes="TYX")
    for _ in denoiser.train_steps():
        pass
    return denoiser


def denoised(denoiser: Denoiser, planes: Image) -> dict[str, Image]:
    """All methods, and the standard deviation of the direct pass."""
    found = drain(denoiser.denoise_steps(planes, ["direct", "std", "mean"], samples=SAMPLES, axes="TYX"))
    return {**found, "sample": denoiser.sample(planes, 1, axes="TYX")[0], "noisy": planes}


def kept(denoiser: Denoiser, name: str) -> tuple[list[dict[str, Any]], list[Image]]:
    """A row for each detectability, and crops of the largest one to look at."""
    truth, rng = simulate(PLANES, SIDE, seed=99).truth.astype(float), np.random.default_rng(2)
    plain = OFFSET + photons(truth - OFFSET, rng) + rng.normal(0, READ, truth.shape)
    without = denoised(denoiser, plain.astype(np.float32))
    rows, crops = [], []
    for shape, pattern in patterns().items():
        for d in DETECTABILITY:
            corners = [places(rng) for _ in truth]
            added = np.stack([structures(t, pattern, d, c) for t, c in zip(truth, corners, strict=True)])
            noisy = (plain + photons(added, rng)).astype(np.float32)
            found = denoised(denoiser, noisy)
            boxes = [np.s_[p, y : y + BOX, x : x + BOX] for p, plane in enumerate(corners) for y, x in plane]
            share = {key: _share(found[key] - without[key], added, pattern, boxes) for key in ("noisy", *METHODS)}
            on = added > 0.3 * added.max()
            error = found["direct"] - truth - added
            ratio = np.sqrt(np.mean(error[on] ** 2) / np.mean(found["std"][on] ** 2))
            rows.append(
                dict(zip(COLUMNS, [name, shape, d, *(share[k] for k in ("noisy", *METHODS)), ratio], strict=True))
            )
            if d == DETECTABILITY[2]:
                crops += [image[0, :96, :96] for image in (noisy, truth + added, found["direct"], found["std"])]
    return rows, crops


def _share(difference: Image, added: Image, pattern: Image, boxes: list[Any]) -> float:
    parts = [(np.sum(difference[b] * template(pattern)), np.sum(added[b] * template(pattern))) for b in boxes]
    return float(np.mean([found / true for found, true in parts]))


def invented(denoiser: Denoiser, name: str) -> list[dict[str, Any]]:
    """Spots that are seen in images without any, at a dark and at a bright level."""
    rows, rng = [], np.random.default_rng(3)
    for level in (3.0, 12.0):  # electrons
        truth = np.full((4, SIDE, SIDE), OFFSET + GAIN * level)
        noisy = OFFSET + GAIN * rng.poisson(level, truth.shape) + rng.normal(0, READ, truth.shape)
        found = denoised(denoiser, noisy.astype(np.float32))
        sigma = np.sqrt(GAIN**2 * level + READ**2)
        counts = [_spots(found[key] - truth, sigma) / truth.size * 1e5 for key in ("noisy", *METHODS)]
        rows.append(dict(zip(COLUMNS, [name, f"none, {level:.0f} electrons", "", *counts, ""], strict=True)))
    return rows


def _spots(error: Image, sigma: float) -> int:
    """Local maxima of the matched filter that look like a spot of d = 3 or more."""
    kernel = template(patterns()["spot"])
    blurred = np.stack([gaussian_filter(plane, 1.3) - gaussian_filter(plane, 4) for plane in error])
    unit = np.zeros((2 * BOX, 2 * BOX))
    unit[BOX // 2 : BOX // 2 + BOX, BOX // 2 : BOX // 2 + BOX] = patterns()["spot"]
    response = (gaussian_filter(unit, 1.3) - gaussian_filter(unit, 4)).max()
    least = 3 * sigma / np.sqrt(np.square(kernel).sum()) * response
    peaks = (blurred == maximum_filter(blurred, (1, 5, 5))) & (blurred > least)
    return int(peaks.sum())


def table(rows: list[dict[str, str]]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = [row[c] if c in COLUMNS[:3] or not row[c] else f"{float(row[c]):.2f}" for c in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: dict[str, list[Image]], path: Path) -> None:
    """A row for each shape and model: noisy, truth, direct pass, predicted standard deviation."""
    import pyqtgraph as pg  # only for pictures

    window = canvas((1120, 300 * len(rows)))
    for column in range(4):
        window.ci.layout.setColumnFixedWidth(column, 265)  # or columns with longer titles come out larger
    for number, (name, images) in enumerate(rows.items()):
        levels = np.percentile(images[1], (0.5, 99.9))
        for column, (title, image) in enumerate(zip(("noisy", "truth", "direct pass", "std"), images, strict=True)):
            view = window.addPlot(number, column, title=title if column else name)
            view.hideAxis("left")
            view.hideAxis("bottom")
            view.setAspectLocked()
            view.invertY()
            shown = (0, float(image.max())) if title == "std" else levels
            view.addItem(pg.ImageItem(image.astype(np.float32), levels=shown, axisOrder="row-major"))
    save(window, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a CSV file, and measure nothing")
    args = parser.parse_args()
    if args.table:
        with args.table.open(newline="") as file:
            print(table(list(csv.DictReader(file))))
        return
    rows, pictures = [], {}
    for name, often, steps in (
        ("nothing: one step", False, 1),
        ("images without", False, args.steps),
        ("images with", True, args.steps),
    ):
        denoiser = trained(often, steps)
        found, crops = kept(denoiser, name)
        rows += found + invented(denoiser, name)
        for number, shape in enumerate(patterns()):
            if shape != "spot" and steps > 1:
                pictures[f"{shape}, {'seen often' if often else 'never seen'}"] = crops[4 * number : 4 * number + 4]
    print(table([{key: str(value) for key, value in row.items()} for row in rows]))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if args.plot:
        draw(pictures, args.plot)


if __name__ == "__main__":
    main()
