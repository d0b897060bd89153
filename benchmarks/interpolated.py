"""Noise of pixels that were interpolated from a checkerboard: what the truth of FMD widefield says of it.

    python benchmarks/interpolated.py

Prints the variance of each pixel of blocks of 2 x 2, the largest coherence of the noise at two frequencies half a cycle
per pixel apart, and the PSNR of the best linear filter, one for all pixels and one for each pixel of a block.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from quality_data import SHARED

_SIDE = 32  # of a window, pixels
_REACH = 6  # of a filter, pixels
_EDGE = 12

Images = NDArray[np.float64]


def coherence(noise: Images, shift: tuple[int, int]) -> float:
    """Largest coherence of noise (P, H, W) at two frequencies so many half cycles per pixel apart along y and x."""
    taper = np.outer(np.hanning(_SIDE + 2)[1:-1], np.hanning(_SIDE + 2)[1:-1])
    windows = np.lib.stride_tricks.sliding_window_view(noise, (_SIDE, _SIDE), axis=(1, 2))
    windows = windows[:, :: _SIDE // 2, :: _SIDE // 2].reshape(-1, _SIDE, _SIDE)
    spectra = np.fft.fft2((windows - windows.mean((1, 2), keepdims=True)) * taper)
    others = np.roll(spectra, [half * _SIDE // 2 for half in shift], (1, 2))
    power = (np.abs(spectra) ** 2).mean(0) * (np.abs(others) ** 2).mean(0)
    return float((np.abs((spectra * others.conj()).mean(0)) / np.sqrt(power)).max())


def filtered_error(noisy: Images, truth: Images, start: tuple[int, int], step: int) -> Images:
    """Error, in the last plane, of the linear filter that is best in the others, at every so many pixels."""
    rows, columns = (slice(_EDGE + first, -_EDGE, step) for first in start)
    reach = range(-_REACH, _REACH + 1)

    def table(plane: Images) -> Images:
        around = [np.roll(plane, (dy, dx), (0, 1))[rows, columns].ravel() for dy in reach for dx in reach]
        return np.stack([*around, np.ones_like(around[0])])

    wanted = truth[rows, columns].ravel()
    tables = [table(plane) for plane in noisy[:-1]]
    normal = sum((each @ each.T for each in tables), np.zeros((len(tables[0]),) * 2))
    weights = np.linalg.solve(normal, sum((each @ wanted for each in tables), np.zeros(len(normal))))
    return np.asarray(weights @ table(noisy[-1]) - wanted)


def main() -> None:
    parser: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    folder = parser.parse_args().data
    noisy = tifffile.imread(folder / "fmd_widefield_bpae_g.tif").astype(np.float64)
    truth = tifffile.imread(folder / "fmd_widefield_bpae_g_truth.tif").astype(np.float64)
    noise = noisy - truth
    blocks = [(y, x) for y in (0, 1) for x in (0, 1)]
    print("variance of each pixel:", [round(float(noise[:, y::2, x::2].var())) for y, x in blocks])
    for shift in ((1, 1), (1, 0), (0, 1)):
        print(f"largest coherence, {shift} half cycles per pixel apart: {coherence(noise, shift):.2f}")
    for name, starts, step in (("one filter", [(0, 0)], 1), ("a filter for each pixel", blocks, 2)):
        error = np.concatenate([filtered_error(noisy, truth, start, step) for start in starts])
        print(f"{name}: {20 * np.log10(255) - 10 * np.log10(np.mean(error**2)):.2f} dB")


if __name__ == "__main__":
    main()
