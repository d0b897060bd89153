"""Is the direct pass ever below the best blur? Small stacks of random cameras.

    python benchmarks/random_cameras.py 0 60 --csv docs/quality/random-cameras.csv
    python benchmarks/random_cameras.py --table docs/quality/random-cameras.csv

A case is drawn by its number: four places of a set of images, how many photons they send, and a camera. Its gain, read
noise, offset and rounding are random, and so is what it does to its noise:

- white: nothing; em: electrons are multiplied at random
- rows: an offset for each row
- x, y, xy: noise correlated along these axes, which then depends on the signal
- detector: a detector that is slow along x, with some read noise behind it
- smoothed, resampled: of the finished image

PSNR is that of all pixels. The truths of all sets but W2S have noise of their own, so their light is at most 60
photons. The best blur is chosen with the truth.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from quality import best_gaussian
from quality_data import SHARED, add_row
from scipy.ndimage import gaussian_filter, zoom
from scipy.signal import lfilter

from napari_direct_denoiser import Denoiser
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.evaluation.metrics import psnr

KINDS = ("white", "em", "rows", "x", "y", "xy", "detector", "smoothed", "resampled")
AXES = {"x": (2,), "y": (1,), "xy": (1, 2)}
COLUMNS = [
    *("case", "images", "photons", "camera", "steps", "noisy", "blur", "before", "direct"),
    *("estimated gain", "its error", "noise"),
]

Images = NDArray[np.float64]


class Case(NamedTuple):
    noisy: NDArray[Any]
    truth: Images
    images: str
    photons: float
    camera: str


def scenes(folder: Path) -> dict[str, Images]:
    """Noiseless images (P, H, W), as far as they can be had."""

    def read(name: str) -> Images:
        return tifffile.imread(folder / name).astype(np.float64)

    found = {
        "w2s": read("w2s_ch1_truth.tif"),
        "lysosome": read("lysosome_clean_8fov_50t.tif"),
        "fish": read("fmd_confocal_fish_truth.tif"),
        "mice": read("fmd_twophoton_mice_truth.tif"),
        "widefield": read("fmd_widefield_bpae_g_truth.tif"),
        "tirf": gaussian_filter(read("tirf_scmos_20frames.tif").mean(0), 0.7),
        "twophoton": gaussian_filter(read("twophoton_row_correlated_20frames.tif").mean(0), 1.0),
    }
    planes = {name: image.reshape(-1, *image.shape[-2:]) for name, image in found.items()}
    return {name: image - np.quantile(image, 0.001) for name, image in planes.items()}


def places(scene: Images, rng: np.random.Generator) -> Images:
    """Four squares of up to 256 x 256 pixels, (4, side, side)."""
    height, width = scene.shape[1:]
    side = 256 if min(height, width) > 256 else min(height, width, 160)
    found = []
    for _ in range(4):
        plane, y, x = (rng.integers(size) for size in (len(scene), height - side + 1, width - side + 1))
        found.append(scene[plane, y : y + side, x : x + side])
    return np.stack(found)


def draw(number: int, images: dict[str, Images]) -> Case:
    rng = np.random.default_rng(number)
    name = list(images)[rng.integers(len(images))]
    kind, share = KINDS[rng.integers(len(KINDS))], rng.uniform(0.25, 0.7)
    photons = float(np.exp(rng.uniform(np.log(3), np.log(400 if name == "w2s" else 60))))
    read, offset = rng.choice([0.0, 0.3, 1.0, 3.0]), rng.choice([0, 5, 100])
    gain = np.exp(rng.uniform(np.log(0.5), np.log(50)))
    signal = places(images[name], rng).clip(0)
    signal = signal / np.quantile(signal, 0.99) * photons + rng.choice([0.0, 0.2, 2.0])
    electrons, signal = expose(kind, signal, share, read, rng)
    noisy, truth = gain * electrons + offset, gain * signal + offset
    rounding = ("none", "16 bit", "8 bit")[rng.integers(3)]
    if rounding == "8 bit":
        scale = 255 / np.quantile(noisy, 0.9995)
        noisy, truth = scale * noisy, scale * truth
    if rounding != "none":
        dtype = np.uint8 if rounding == "8 bit" else np.uint16
        noisy = np.round(noisy).clip(0, np.iinfo(dtype).max).astype(dtype)
    camera = f"{kind} {share:.2f}" if kind in (*AXES, "detector") else kind
    return Case(
        noisy, truth, name, photons, f"{camera}, read noise {read:g}, gain {gain:.2g}, offset {offset}, {rounding}"
    )


def expose(kind: str, signal: Images, share: float, read: float, rng: np.random.Generator) -> tuple[Images, Images]:
    """What a camera makes of a signal, and the mean of that; both electrons."""
    electrons = rng.poisson(signal).astype(np.float64)
    if kind == "em":
        electrons = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1)), 0)
    read_noise = read * rng.normal(size=signal.shape)
    if kind == "detector":
        slow, mean = (
            lfilter([1 - share], [1, -share], each - each.mean(), 2) + each.mean() for each in (electrons, signal)
        )
        return slow + 0.3 * read_noise, mean
    electrons += read_noise
    if kind in AXES:
        noise = electrons - signal
        for axis in AXES[kind]:
            noise = lfilter([np.sqrt(1 - share**2)], [1, -share], noise, axis)
        return signal + noise, signal
    if kind == "rows":
        strength = share * 2 * np.sqrt(read**2 + signal.mean())
        return electrons + strength * rng.normal(size=(*signal.shape[:2], 1)), signal
    if kind == "smoothed":
        return gaussian_filter(electrons, (0, share, share)), gaussian_filter(signal, (0, share, share))
    if kind == "resampled":
        larger = 1, 1 + share, 1 + share
        return zoom(electrons, larger, order=1), zoom(signal, larger, order=1)
    return electrons, signal


def measure(number: int, case: Case, steps: int) -> dict[str, Any]:
    def score(image: NDArray[Any]) -> float:
        return psnr(image, case.truth)

    denoiser = Denoiser.for_images(case.noisy, train_settings(max_steps=steps, seed=0), axes="TYX")
    before = score(denoiser.denoise(case.noisy))
    *_, last = denoiser.train_steps()
    return {
        "case": number,
        "images": case.images,
        "photons": f"{case.photons:.0f}",
        "camera": case.camera,
        "steps": steps,
        "noisy": score(case.noisy),
        "blur": score(best_gaussian(case.noisy, score)[0]),
        "before": before,
        "direct": score(denoiser.denoise(case.noisy)),
        "estimated gain": last.estimated_gain_db,
        "its error": last.estimated_gain_error_db,
        "noise": denoiser.model.noise.describe(),
    }


def summary(rows: Sequence[dict[str, str]]) -> str:
    gains = np.array([float(row["direct"]) - float(row["blur"]) for row in rows])
    judged = [row for row in rows if row["estimated gain"]]
    wrong = [float(row["estimated gain"]) - float(row["direct"]) + float(row["blur"]) for row in judged]
    lines = [
        f"{len(rows)} cases, {np.count_nonzero(gains < 0)} below the best blur.",
        f"Gain over it: mean {gains.mean():.2f} dB, lowest {gains.min():.2f} dB.",
        f"Estimated gain less gain, {len(judged)} cases: mean {np.mean(wrong):+.2f} dB, std {np.std(wrong):.2f} dB.",
        "",
        "| case | images, photons | camera | noisy | best blur | before training | direct pass | noise found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if float(row["direct"]) < float(row["blur"]):
            numbers = " | ".join(f"{float(row[name]):.2f}" for name in ("noisy", "blur", "before", "direct"))
            lines.append(
                f"| {row['case']} | {row['images']}, {row['photons']} | {row['camera']} | {numbers} | {row['noise']} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=int, nargs="?", help="number of the first case")
    parser.add_argument("last", type=int, nargs="?", help="one more than that of the last")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--csv", type=Path, help="file to add rows to")
    parser.add_argument("--table", type=Path, help="print a summary of this file, and the cases below the best blur")
    args = parser.parse_args()
    if args.table:
        with args.table.open(newline="") as file:
            print(summary(list(csv.DictReader(file))))
        return
    if args.last is None or args.csv is None:
        parser.error("give the numbers of the first case and of the end, and --csv")
    images = scenes(args.data)
    for number in range(args.first, args.last):
        row = measure(number, draw(number, images), args.steps)
        add_row(args.csv, COLUMNS, row)
        print(*(f"{name} {row[name]}" for name in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
