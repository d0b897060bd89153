"""Is the kind of correlated noise found? Truths of real images with simulated noise of either kind.

    python benchmarks/noise_kinds.py --csv kinds.csv

Each truth, as it is and with a fifth of the light, gets noise of two correlations along x: shot noise that passed a
slow detector (`CorrelatedNoise`), or noise that the signal scales after it was correlated (`ScaledCorrelatedNoise`).
The columns are by how many nats per pixel the second is likelier, given the truth, and given the direct pass before
training; and the kind that is chosen.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from quality_data import SHARED, add_row
from scipy.signal import lfilter

from napari_direct_denoiser import CorrelatedNoise, Denoiser, ScaledCorrelatedNoise
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.noise.wrapped import without_whole_planes

COLUMNS = ["images", "light", "correlation", "true", "given the truth", "given the direct pass", "chosen"]
KINDS = (CorrelatedNoise, ScaledCorrelatedNoise)
COUNTS = 100  # per photon
EDGE = slice(8, -8)

Images = NDArray[np.float64]


def photons(folder: Path) -> dict[str, Images]:
    """Mean photons of pixels of a few planes of each set."""
    w2s = tifffile.imread(folder / "w2s_ch1_truth.tif")[::6].astype(float) - 1000
    lysosome = tifffile.imread(folder / "lysosome_clean_8fov_50t.tif")[:, ::12].reshape(-1, 128, 128)[:24] - 100.0
    fmd = {name: tifffile.imread(folder / f"fmd_{name}_truth.tif") for name in ("twophoton_mice", "confocal_fish")}
    sets = {"w2s": w2s / 100, "lysosome": lysosome / 12}
    sets |= {name: np.repeat(truth[None] / 10.0, 3, axis=0) for name, truth in fmd.items()}
    return {name: truth.clip(0) for name, truth in sets.items()}


def simulate(light: Images, correlation: float, kind: type[CorrelatedNoise]) -> tuple[NDArray[np.float32], Images]:
    """Noisy images and their truth, counts."""
    rng = np.random.default_rng(3)
    if kind is CorrelatedNoise:
        truth = lfilter([1 - correlation], [1, -correlation], COUNTS * light, -1) + 100
        shot = lfilter([1 - correlation], [1, -correlation], COUNTS * rng.poisson(light).astype(float), -1) + 100
        noisy = shot + 3 * rng.normal(size=light.shape)
    else:
        truth = COUNTS * light + 100
        process = lfilter([(1 - correlation**2) ** 0.5], [1, -correlation], rng.normal(size=light.shape), -1)
        noisy = truth + process * np.sqrt(COUNTS**2 / 2 * light + 9)
    return np.rint(noisy).astype(np.float32), truth


def measure(noisy: NDArray[np.float32], truth: Images) -> dict[str, Any]:
    denoiser = Denoiser.for_images(noisy, train_settings(seed=0, max_steps=1), axes="TYX")
    chosen = without_whole_planes(denoiser.model.noise)
    if not isinstance(chosen, CorrelatedNoise):
        return {"given the truth": "", "given the direct pass": "", "chosen": chosen.kind}
    usual, scaled = (kind(chosen.innovation, chosen.coefficients) for kind in KINDS)
    images = torch.from_numpy(noisy[:2])
    row: dict[str, Any] = {"chosen": chosen.kind}
    for name, signal in (("truth", truth[:2].astype(np.float32)), ("direct pass", denoiser.denoise(noisy[:2]))):
        known = torch.from_numpy(signal)
        more = scaled.log_prob(images, known) - usual.log_prob(images, known)
        row[f"given the {name}"] = f"{float(more[:, EDGE, EDGE].mean()):.4f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--csv", type=Path, required=True, help="file to add rows to")
    args = parser.parse_args()
    for name, light in photons(args.data).items():
        for share, correlation, kind in itertools.product((1.0, 0.2), (0.3, 0.6), KINDS):
            row = {"images": name, "light": share, "correlation": correlation, "true": kind.kind}
            row |= measure(*simulate(share * light, correlation, kind))
            add_row(args.csv, COLUMNS, row)
            print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
