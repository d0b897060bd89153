"""Noise that neighbours share, and lines: PSNR of the direct pass and of HDN's mean, beside the best Gaussian blur.

    python benchmarks/correlated.py widefield twophoton --csv correlated.csv
    python benchmarks/correlated.py all --csv correlated.csv

One row for each set of images, written as soon as it is measured: the best blur (one sigma, chosen with the truth), the
direct pass before training and at the end, its best on the way, and HDN's mean and the direct pass on the first planes.
The noise model is always `auto`; ``w2s-x-given`` is given the true coefficients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from quality import best_gaussian
from quality_data import SHARED, add_row
from scipy.signal import lfilter

from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.evaluation.metrics import psnr
from napari_direct_denoiser.progress import drain

COLUMNS = [
    "images",
    "budget",
    "steps",
    "blur",
    "before",
    "direct",
    "best",
    "planes",
    "mean",
    "direct_of_planes",
    "noise",
]

Images = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """Noisy planes (P, H, W), those to evaluate with their truth, the minutes to train, and the range of PSNR."""

    noisy: Images
    planes: Images
    truth: Images
    minutes: float
    value_range: float | None = None
    noise: str = "auto"

    def psnr(self, image: Images) -> float:
        """Mean over planes; with the range of each truth if none is given."""
        if self.value_range is None:
            return float(np.mean([psnr(*pair) for pair in zip(image, self.truth, strict=False)]))
        errors = [np.mean((a - b.astype(np.float64)) ** 2) for a, b in zip(image, self.truth, strict=False)]
        return float(np.mean([20 * np.log10(self.value_range) - 10 * np.log10(error) for error in errors]))


def fmd(name: str) -> Callable[[Path], Case]:
    """Four captures of one field; the truth is the mean of 50."""

    def load(folder: Path) -> Case:
        noisy = tifffile.imread(folder / f"fmd_{name}.tif")
        truth = np.broadcast_to(tifffile.imread(folder / f"fmd_{name}_truth.tif"), noisy.shape)
        return Case(noisy, noisy, truth, 1.0, 255.0)

    return load


def twophoton(folder: Path) -> Case:
    """20 frames of one scene; the truth of each is the mean of the others."""
    noisy = tifffile.imread(folder / "twophoton_row_correlated_20frames.tif").astype(np.float32)
    truth = (noisy.sum(0, dtype=np.float64) - noisy) / (len(noisy) - 1)
    return Case(noisy, noisy, truth, 5.0)


def w2s(x: float = 0.0, y: float = 0.0, rows: float = 0.0, noise: str = "auto") -> Callable[[Path], Case]:
    """Truth of W2S with autoregressive noise along x and y, and offsets of rows."""

    def load(folder: Path) -> Case:
        truth = tifffile.imread(folder / "w2s_ch1_truth.tif").astype(np.float64)
        random = np.random.default_rng(0)
        drawn = _process(random.normal(size=truth.shape), x, y)
        lines = rows * random.normal(size=(*truth.shape[:-1], 1)) if rows else 0.0
        noisy = (truth + drawn * np.sqrt(np.maximum(100 * (truth - 1000), 100)) + lines).astype(np.float32)
        return Case(noisy, noisy[::5], truth[::5], 5.0, noise=noise)

    return load


def dark(x: float = 0.0, low: float = -np.inf, step: float = 1.0) -> Callable[[Path], Case]:
    """Truth of W2S, recorded with gain 10 and read noise 40, AR(1) noise along x, in steps, and clipped at ``low``."""

    def load(folder: Path) -> Case:
        truth = tifffile.imread(folder / "w2s_ch1_truth.tif").astype(np.float64)
        truth = (truth - np.quantile(truth, 0.05)).clip(0) / 2
        drawn = _process(np.random.default_rng(0).normal(size=truth.shape), x)
        recorded = step * np.rint((truth + drawn * np.sqrt(10 * truth + 1600)) / step)
        noisy = recorded.clip(low).astype(np.float32)
        return Case(noisy, noisy[::5], truth[::5], 5.0)

    return load


def lysosome(folder: Path) -> Case:
    """Sharp spots: the truth with less light, with noise of gain 2.2, read noise 4 and AR(1) 0.6 along x."""
    clean = (
        tifffile.imread(folder / "lysosome_clean_8fov_50t.tif")[:, ::12].reshape(-1, 128, 128)[:24].astype(np.float64)
    )
    truth = 100 + 2.2 * (clean - 100).clip(0) / 25
    drawn = _process(np.random.default_rng(5).normal(size=truth.shape), 0.6)
    noisy = np.rint(truth + drawn * np.sqrt(2.2 * (truth - 100) + 16)).clip(0).astype(np.float32)
    return Case(noisy, noisy[::3], truth[::3], 1.0)


def _process(drawn: Images, x: float = 0.0, y: float = 0.0) -> Images:
    """Correlate white noise of variance 1 along x and y; its variance stays."""
    for axis, share in ((-1, x), (-2, y)):
        if share:
            first = np.take(drawn, [0], axis) * (1 - np.sqrt(1 - share**2))
            drawn = np.sqrt(1 - share**2) * drawn
            drawn = lfilter([1.0], [1.0, -share], drawn, axis) + _decay(first, share, drawn.shape[axis], axis)
    return drawn


def _decay(first: Images, share: float, length: int, axis: int) -> Images:
    """What makes the first pixel of a process as variable as the others, carried on."""
    shape = [1, 1, 1]
    shape[axis] = length
    return np.asarray(first * (share ** np.arange(length)).reshape(shape))


CASES: dict[str, Callable[[Path], Case]] = {
    "widefield": fmd("widefield_bpae_g"),
    "mice": fmd("twophoton_mice"),
    "fish": fmd("confocal_fish"),
    "w2s-x": w2s(x=0.5),
    "w2s-x-given": w2s(x=0.5, noise="poisson:100,1000,0.01+x:0.5"),
    "w2s-y": w2s(y=0.5),
    "w2s-xy": w2s(x=0.5, y=0.5),
    "w2s-rows": w2s(rows=60.0),
    "twophoton": twophoton,
    "lysosome-x": lysosome,
    "dark": dark(),
    "dark-clipped": dark(low=0.0),
    "dark-x": dark(x=0.5),
    "dark-x-clipped": dark(x=0.5, low=0.0),
    "dark-x-steps": dark(x=0.5, step=40.0),
}


def measure(name: str, case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Train, and evaluate at every fifth of the budget."""
    minutes = None if args.steps else args.minutes or case.minutes
    settings = train_settings(noise=case.noise, seed=args.seed, max_minutes=minutes, max_steps=args.steps)
    denoiser = Denoiser.for_images(case.noisy, settings, axes="TYX")
    before = best = case.psnr(denoiser.denoise(case.planes))
    fifths, steps = 0, 0
    for progress in denoiser.train_steps():
        steps = progress.step
        if int(5 * progress.fraction) > fifths:
            fifths = int(5 * progress.fraction)
            direct = case.psnr(denoiser.denoise(case.planes))
            best = max(best, direct)
            print(f"{name} {20 * fifths} %: {direct:.2f} dB after {steps} steps", file=sys.stderr, flush=True)
    few = case.planes[: args.planes]
    drawn = drain(denoiser.denoise_steps(few, ["mean", "direct"], samples=args.samples))
    return {
        "images": name,
        "budget": f"{args.steps} steps" if args.steps else f"{minutes:g} min",
        "steps": steps,
        "blur": case.psnr(best_gaussian(case.planes, case.psnr)[0]),
        "before": before,
        "direct": direct,
        "best": best,
        "planes": len(few),
        "mean": case.psnr(drawn["mean"]),
        "direct_of_planes": case.psnr(drawn["direct"]),
        "noise": denoiser.model.noise.describe(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", choices=[*CASES, "all"])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="instead of 1 for FMD and 5 for the others")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--samples", type=int, default=100, help="of HDN")
    parser.add_argument("--planes", type=int, default=2, help="on which HDN is sampled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, required=True, help="file to add rows to")
    args = parser.parse_args()
    for name in CASES if "all" in args.images else args.images:
        row = measure(name, CASES[name](args.data), args)
        row = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
        add_row(args.csv, COLUMNS, row)
        print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
