"""A crop of the synthetic sample: noisy, blurred, by the direct pass, by HDN, its std, and the truth, as a PNG.

python benchmarks/quality_crops.py docs/images/quality-crops.png --minutes 5
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from quality import best_gaussian, mean_psnr
from quality_tables import canvas, save

from napari_direct_denoiser import train
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.evaluation.metrics import psnr

SAMPLES = 100
CROP = np.s_[60:188, 60:188]
COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    args = parser.parse_args()
    stack = simulate(8, 256, seed=0)
    denoiser = train(stack.noisy, preset="quick", max_minutes=args.minutes)
    noisy, truth = stack.noisy[0], stack.truth[0]
    drawn = denoiser.sample(noisy, SAMPLES)
    images = {
        "noisy": noisy,
        "best Gaussian blur": best_gaussian(noisy[None], lambda image: mean_psnr(image, truth[None]))[0][0],
        "direct pass": denoiser.denoise(noisy),
        "one sample of HDN": drawn[0],
        f"mean of {SAMPLES} samples": drawn.mean(0),
        "truth": truth,
    }
    panels = {f"{name}, {psnr(image, truth):.1f} dB": image for name, image in images.items() if name != "truth"}
    draw({**panels, f"std of {SAMPLES} samples": drawn.std(0), "truth": truth}, args.output)


def draw(panels: dict[str, np.ndarray], path: Path) -> None:
    """Crops side by side; all but the standard deviation in the brightness of the truth."""
    window = canvas((1200, 330 * math.ceil(len(panels) / COLUMNS)))
    import pyqtgraph as pg

    for column in range(COLUMNS):
        window.ci.layout.setColumnFixedWidth(column, 280)  # or crops under longer titles come out larger
    levels = np.percentile(panels["truth"][CROP], (0.5, 99.8))
    for number, (name, image) in enumerate(panels.items()):
        view = window.addPlot(*divmod(number, COLUMNS), title=name)
        view.hideAxis("left")
        view.hideAxis("bottom")
        view.setAspectLocked()
        view.invertY()
        crop = image[CROP].astype(np.float32)
        own = name.startswith("std")
        view.addItem(pg.ImageItem(crop, levels=(0, crop.max()) if own else levels, axisOrder="row-major"))
    save(window, path)


if __name__ == "__main__":
    main()
