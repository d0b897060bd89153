"""Simulated colour cameras: PSNR of the direct pass before training, interpolated by a cubic and as the camera does.

    python benchmarks/simulated_cameras.py

Noise is added to truths. The camera keeps a checkerboard of pixels, or one of four, and puts the mean of their nearest
neighbours into the others. The PSNR is that against what it would give without noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from correlated import Case
from numpy.typing import NDArray
from quality import best_gaussian
from quality_data import SHARED
from scipy.ndimage import convolve

from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.noise import InterpolatedNoise
from napari_direct_denoiser.noise.interpolated import CUBIC_OF_FOUR, CUBIC_OF_TWO

KERNELS = {
    "checkerboard": np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4,
    "quarter": np.outer([1, 2, 1], [1, 2, 1]) / 4,
}

Images = NDArray[Any]


def scenes(folder: Path) -> Iterator[tuple[str, Images, Images, float | None]]:
    """Names, truths (P, H, W), variances of the noise, and ranges of PSNR, if not that of each truth."""
    truth = tifffile.imread(folder / "w2s_ch1_truth.tif")[::5].astype(np.float64)
    yield "W2S", truth, np.maximum(100 * (truth - 1000), 100), None
    for name, file in (("FMD mice", "twophoton_mice"), ("FMD fish", "confocal_fish")):
        truth = np.repeat(tifffile.imread(folder / f"fmd_{file}_truth.tif")[None].astype(np.float64), 4, 0)
        yield name, truth, 100 + 3 * np.maximum(truth - 5, 1), 255.0


def camera(images: Images, pattern: str) -> Images:
    y, x = np.indices(images.shape[-2:])
    measured = (y + x) % 2 == 0 if pattern == "checkerboard" else (y % 2 == 0) & (x % 2 == 1)
    return np.stack([convolve(plane * measured, KERNELS[pattern], mode="mirror") for plane in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    for name, clean, variance, full in scenes(parser.parse_args().data):
        counts = clean + np.random.default_rng(0).normal(size=clean.shape) * np.sqrt(variance)
        for pattern in KERNELS:
            noisy = camera(counts, pattern).astype(np.float32)
            psnr = Case(noisy, noisy, camera(clean, pattern), 0.0, full).psnr
            denoiser = Denoiser.for_images(noisy, train_settings(max_steps=1, seed=0), "TYX")
            noise = denoiser.model.noise
            if not isinstance(noise, InterpolatedNoise):
                print(f"{name} {pattern}: not found")
                continue
            figures = {"best blur": psnr(best_gaussian(noisy, psnr)[0]), "as the camera": psnr(denoiser.denoise(noisy))}
            noise.of_four, noise.of_two = CUBIC_OF_FOUR, CUBIC_OF_TWO
            figures["cubic"] = psnr(denoiser.denoise(noisy))
            print(name, pattern, *(f"{label} {value:.2f}" for label, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
