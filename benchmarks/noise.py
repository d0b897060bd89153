"""How well the automatic noise estimate finds simulated cameras, and how long it takes: a table in Markdown.

    python benchmarks/noise.py > docs/noise-cameras.md

Filament images (8 planes of 256 x 256, each another field) of cameras on a grid of gain, offset, read noise and mean
signal. The variance is compared at the 5th, 50th and 95th percentile of the clean image: that is what training uses.
Gain and offset are those of the line of the variance; where the brightness hardly varies beside the noise no line can
be told, and the gain is far off while the variance is right.
"""

from __future__ import annotations

import argparse
import itertools
import time
from statistics import median

import numpy as np
import torch

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import PoissonGaussianNoise, fit_images

GAINS, OFFSETS = (0.5, 2.0, 10.0, 100.0), (0.0, 100.0, 1000.0)
READ_NOISES, ELECTRONS = (0.0, 2.0, 20.0), (0.5, 2.0, 10.0, 50.0, 200.0, 1000.0)


def measure(gain: float, offset: float, read_noise: float, electrons: float) -> tuple[float | None, float]:
    """Relative error of the gain (None if the noise was found not to rise), and the largest of the variance."""
    photons = electrons / float(simulate(8, 256, photons=1.0, gain=1.0, offset=0.0).truth.mean())
    stack = simulate(8, 256, seed=0, photons=photons, gain=gain, offset=offset, read_noise=read_noise)
    model = fit_images([Frames(stack.noisy)]).model
    signal = torch.from_numpy(np.percentile(stack.truth, (5, 50, 95)))
    variance = gain * (signal - offset).clamp_min(0) + read_noise**2 + 1 / 12
    error = (model.variance(signal) / variance - 1).abs().max()
    return (model.gain / gain - 1 if isinstance(model, PoissonGaussianNoise) else None), float(error)


def _worst(errors: tuple[float | None, ...]) -> str:
    known = [abs(error) for error in errors if error is not None]
    return f"{max(known):.1%}" if known else "G"


def main() -> None:
    print("# Automatic noise estimate of simulated cameras\n")
    print("Made by `python benchmarks/noise.py`: relative errors of gain and variance (the largest of three signals).")
    print("Offsets: 100 and 1000 counts (the worse of the two), and 0, which clips the read noise for good.")
    print("G: the variance was found not to rise with the signal, so the estimate is a Gaussian.\n")
    print("| gain | read noise | mean electrons | gain | variance | gain at offset 0 | variance at offset 0 |")
    print("|---|---|---|---|---|---|---|")
    everything = []
    for gain, read_noise, electrons in itertools.product(GAINS, READ_NOISES, ELECTRONS):
        if gain * electrons > 10_000:  # more than 16 bits hold, where it is bright
            continue
        zero, *others = [measure(gain, offset, read_noise, electrons) for offset in OFFSETS]
        everything += [error for _, error in others]
        cells = [
            cell
            for found in (others, [zero])
            for cell in (_worst([g for g, _ in found]), _worst([v for _, v in found]))
        ]
        print(f"| {gain:g} | {read_noise:g} | {electrons:g} | " + " | ".join(cells) + " |")
    print(f"\nVariance at offsets 100 and 1000: median error {median(everything):.1%}, ", end="")
    print(f"90 % of the cameras below {np.quantile(everything, 0.9):.1%}.")
    stack = simulate(39, 512, seed=0).noisy
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        fit_images([Frames(stack)])
        seconds.append(time.perf_counter() - began)
    print(f"\nA stack of 39 x 512 x 512 takes {median(seconds):.2f} s (median of 3).")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
