"""The images of `quality.py`, each with its truth, read from the folder of shared data, which is not in the project."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_direct_denoiser.data.synthetic import simulate

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

Images = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Noisy images to train on and noisy planes to evaluate, both with their truth, in counts.

    Attributes
    ----------
    noisy, noisy_truth
        To train on; only the supervised twin sees the truth. Axes as in `axes`.
    planes, truth
        To evaluate, ``(P, H, W)``.
    every
        Of those planes, every how many-th is evaluated while training goes on.
    """

    axes: str
    noisy: Images
    noisy_truth: Images
    planes: Images
    truth: Images
    every: int = 1


def add_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row to a CSV file; a new or empty file begins with the names of the columns."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def load_dataset(name: str, folder: Path) -> Dataset:
    return DATASETS[name](folder)


def _w2s(folder: Path) -> Dataset:
    """39 fields of view, of which every fifth is evaluated; the truth is the mean of 400 exposures."""
    noisy, truth = _read(folder, "w2s_ch1_noisy.tif"), _read(folder, "w2s_ch1_truth.tif")
    return Dataset("TYX", noisy, truth, noisy[::5], truth[::5])


def _tirf(folder: Path) -> Dataset:
    """20 exposures of one static scene; the truth is their mean."""
    noisy = _read(folder, "tirf_scmos_20frames.tif")
    truth = np.broadcast_to(noisy.mean(0, dtype=np.float64).astype(np.float32), noisy.shape)
    return Dataset("TYX", noisy, truth, noisy, truth, every=4)


def _lysosome(folder: Path) -> Dataset:
    """Clean time-lapses of 8 fields of view with simulated noise; the last two are not trained on."""
    clean = _read(folder, "lysosome_clean_8fov_50t.tif")
    electrons = (clean.astype(np.float64) - 100).clip(0) / 100  # a few pixels lie below the offset
    rng = np.random.default_rng(0)  # the same noise for every seed of the training
    noisy = (100 + 2.2 * rng.poisson(electrons) + rng.normal(0, 2, clean.shape)).astype(np.float32)
    truth = (100 + 2.2 * electrons).astype(np.float32)
    unseen_noisy, unseen_truth = (stack[6:, ::5].reshape(-1, *clean.shape[-2:]) for stack in (noisy, truth))
    return Dataset("STYX", noisy[:6], truth[:6], unseen_noisy, unseen_truth)


def _synthetic(folder: Path) -> Dataset:
    stack = simulate(8, 256, seed=0)
    return Dataset("TYX", stack.noisy, stack.truth, stack.noisy, stack.truth)


DATASETS = {"w2s": _w2s, "tirf": _tirf, "lysosome": _lysosome, "synthetic": _synthetic}


def _read(folder: Path, name: str) -> Images:
    path = folder / name
    if not path.is_file():
        sys.exit(f"Expected the images in {path}, found no such file: give their folder with --data")
    return np.asarray(tifffile.imread(path))
