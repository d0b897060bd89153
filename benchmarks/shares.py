"""Why training takes minutes: what each part contributes, at the same number of steps or in the same time.

    python benchmarks/shares.py w2s synthetic --steps 600 --csv docs/quality/shares.csv
    python benchmarks/shares.py --table docs/quality/shares.csv

Each row takes one more part away from `quick`: the weights that training starts from, then the units of the noise, then
the networks (those of the paper, in the units of the paper, in the same seconds as the first row). All use the schedule
of `quick`, the noise model `auto` and seed 0. No clean image is trained on; the PSNR is that of the direct pass.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from quality import best_gaussian, mean_psnr, tell
from quality_data import SHARED, load_dataset

from napari_direct_denoiser import Denoiser
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.presets import PRESETS, Preset

QUICK, PAPER = PRESETS["quick"], PRESETS["paper"]
FROM_CHANCE = QUICK.model_copy(update={"pretrained": False})
VARIANTS = {
    "quick": QUICK,
    "from random weights": FROM_CHANCE,
    "and in units of the image": FROM_CHANCE.model_copy(
        update={"model": QUICK.model.model_copy(update={"units": "image"})}
    ),
    "and with the networks of the paper": FROM_CHANCE.model_copy(update={"model": PAPER.model}),
}
COLUMNS = ["images", "variant", "steps", "seconds", "psnr"]


def trained(preset: Preset, noisy: Any, axes: str, **limits: Any) -> Denoiser:
    PRESETS["quick"] = preset
    try:
        denoiser = Denoiser.for_images(noisy, train_settings(preset="quick", seed=0, **limits), axes=axes)
        for _ in denoiser.train_steps():
            pass
    finally:
        PRESETS["quick"] = QUICK
    return denoiser


def measure(name: str, steps: int, folder: Path) -> list[dict[str, Any]]:
    data = load_dataset(name, folder)
    blurred, _ = best_gaussian(data.planes, lambda image: mean_psnr(image, data.truth))
    rows = [
        {"images": name, "variant": "noisy", "psnr": mean_psnr(data.planes, data.truth)},
        {"images": name, "variant": "best Gaussian blur", "psnr": mean_psnr(blurred, data.truth)},
    ]
    start = Denoiser.for_images(data.noisy, train_settings(preset="quick"), axes=data.axes)
    plane_axes = "TYX"
    before = start.denoise(data.planes, axes=plane_axes)
    rows.append(
        {"images": name, "variant": "quick, before training", "steps": 0, "psnr": mean_psnr(before, data.truth)}
    )
    seconds = 0.0
    for variant, preset in VARIANTS.items():
        own_time = preset.model is PAPER.model  # its steps take many times as long
        limits = {"max_minutes": seconds / 60} if own_time else {"max_steps": steps}
        denoiser = trained(preset, data.noisy, data.axes, **limits)
        done = denoiser.provenance
        seconds = seconds or done.seconds
        psnr = mean_psnr(denoiser.denoise(data.planes, axes=plane_axes), data.truth)
        rows.append({"images": name, "variant": variant, "steps": done.steps, "seconds": done.seconds, "psnr": psnr})
        tell(f"{rows[-1]}")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| images | variant | steps | seconds | PSNR, dB |", "|---|---|---|---|---|"]
    for row in rows:
        seconds = f"{float(row['seconds']):.0f}" if row.get("seconds") else ""
        cells = [row["images"], row["variant"], row.get("steps", ""), seconds, f"{float(row['psnr']):.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a CSV file, and measure nothing")
    args = parser.parse_args()
    if args.table:
        with args.table.open(newline="") as file:
            print(table(list(csv.DictReader(file))))
        return
    rows = [row for name in args.images for row in measure(name, args.steps, args.data)]
    print(table(rows))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
