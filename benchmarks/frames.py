"""What learning from frames of a static scene brings: PSNR of the direct pass with it and without it.

    python benchmarks/frames.py fish mice widefield twophoton tirf --steps 600 --csv frames.csv

Both trainings take the same steps, and hold out the same. Of FMD, PSNR is also that of the region that was trained on,
and of the one that was held out: what is gained there was not learned by heart. Of the two-photon and the TIRF images
only the first ten frames are denoised; the truth is the mean of the last ten, brought to the brightness of each frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from correlated import CASES
from numpy.typing import NDArray
from quality_data import SHARED, add_row

from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.patches import split
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.presets import PRESETS

COLUMNS = ["images", "steps", "frames", "all", "trained", "held_out"]
HALVES = {"twophoton": "twophoton_row_correlated_20frames.tif", "tirf": "tirf_scmos_20frames.tif"}
QUICK = PRESETS["quick"]

Images = NDArray[Any]


def load(name: str, folder: Path) -> tuple[Images, Images, float]:
    """Noisy frames (P, H, W), the truth of each, and the range of PSNR."""
    if name not in HALVES:
        case = CASES[name](folder)
        assert case.value_range is not None
        return case.noisy, case.truth.astype(np.float64), case.value_range
    first, last = np.split(tifffile.imread(folder / HALVES[name]).astype(np.float32), 2)
    mean = last.mean(0, dtype=np.float64)
    truth = np.stack([np.polyval(np.polyfit(mean.ravel(), frame.ravel(), 1), mean) for frame in first])
    return first, truth, float(np.ptp(mean))


def measure(name: str, frames: bool, args: argparse.Namespace) -> dict[str, Any]:
    """Train, and evaluate at the end."""
    noisy, truth, value_range = load(name, args.data)
    schedule = QUICK.schedule.model_copy(update={"learn_frames": frames})
    PRESETS["quick"] = QUICK.model_copy(update={"schedule": schedule})
    settings = train_settings(seed=args.seed, max_minutes=None, max_steps=args.steps)
    denoiser = Denoiser.for_images(noisy, settings, axes="TYX")
    for _ in denoiser.train_steps():
        pass
    error = np.square(denoiser.denoise(noisy) - truth)

    def psnr(errors: Images) -> float:
        return float(np.mean(20 * np.log10(value_range) - 10 * np.log10(errors.mean((1, 2)))))

    regions = {"all": error}
    if name not in HALVES:
        (trained,), (held_out,) = split([error], schedule.patch, by_region=True)
        regions |= {"trained": trained.pixels(), "held_out": held_out.pixels()}
    found = {region: psnr(errors) for region, errors in regions.items()}
    return {"images": name, "steps": args.steps, "frames": "with" if frames else "without", **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", choices=["fish", "mice", "widefield", *HALVES])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, required=True, help="file to add rows to")
    args = parser.parse_args()
    for name in args.images:
        for frames in (False, True):
            row = measure(name, frames, args)
            row = {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()}
            add_row(args.csv, COLUMNS, row)
            print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
