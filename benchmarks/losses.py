"""What each loss of the Direct Denoiser is worth: students of one teacher, against the truth.

    python benchmarks/losses.py w2s tirf lysosome --steps 600 --student-steps 300 --csv docs/quality/losses.csv
    python benchmarks/losses.py w2s --model w2s.safetensors --student-steps 300 --csv losses.csv
    python benchmarks/losses.py synthetic --csv losses.csv --crops docs/images
    python benchmarks/losses.py --table docs/quality/losses.csv

The teacher is trained together with a student of the loss l2 for some steps, or read from a model file. Then students
of the other losses learn from the finished teacher, each from the weights of the first. One row for each. With --fresh
they learn from HDN alone: the first is put back to the weights that training starts from, and has no part in them.

- PSNR, SSIM: means over planes, each with the range of its truth. MAE: in counts, over all pixels.
- bias: mean of prediction minus truth, counts. below: part of the pixels whose truth is below the prediction: 0.5 for a
  median, q for the quantile q.
- power N: power of the prediction over that of the truth in a ring of spatial frequencies, from 0 to 1/2 of a pixel in
  eighths of it. 1 is as sharp as the truth; noise adds power as well.
- distance N: power of their difference over that of the truth in the same ring.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_crops import draw
from quality_data import DATASETS, SHARED, add_row, load_dataset

from napari_direct_denoiser import load
from napari_direct_denoiser.config import LOSSES, train_settings
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.evaluation.metrics import evaluate, psnr
from napari_direct_denoiser.progress import drain

RINGS = range(4)
COLUMNS = [
    *("images", "teacher", "loss", "steps", "seconds", "planes", "psnr", "ssim", "mae", "bias", "below"),
    *(f"power {n}" for n in RINGS),
    *(f"distance {n}" for n in RINGS),
]

Images = NDArray[Any]


def ring_power(planes: Images) -> NDArray[np.float64]:
    """Power of planes (P, H, W) in each ring of spatial frequencies, without the mean."""
    power = np.square(np.abs(np.fft.fft2(planes.astype(np.float64)))).mean(0)
    y, x = (np.fft.fftfreq(side) for side in planes.shape[1:])
    ring = np.minimum(np.hypot(y[:, None], x) * 2 * len(RINGS), len(RINGS) - 1).astype(int)
    power[0, 0] = 0
    return np.bincount(ring.ravel(), power.ravel(), len(RINGS))


def row_of(prediction: Images, truth: Images) -> dict[str, float]:
    found, error = evaluate(prediction, truth), prediction.astype(np.float64) - truth
    of_truth = ring_power(truth)
    power, distance = ring_power(prediction) / of_truth, ring_power(error) / of_truth
    return {
        "planes": len(truth),
        "psnr": round(found.psnr, 3),
        "ssim": round(found.ssim, 4),
        "mae": round(float(np.abs(error).mean()), 3),
        "bias": round(float(error.mean()), 3),
        "below": round(float((error > 0).mean()), 4),
        **{f"power {n}": round(float(power[n]), 4) for n in RINGS},
        **{f"distance {n}": round(float(distance[n]), 4) for n in RINGS},
    }


def trained(denoiser: Denoiser) -> Denoiser:
    for _ in denoiser.train_steps():
        pass
    return denoiser


def measure(name: str, args: argparse.Namespace) -> None:
    data = load_dataset(name, args.data)
    settings = train_settings(preset=args.preset, teacher=args.teacher, max_steps=args.steps)
    began = time.perf_counter()
    first = load(args.model) if args.model else trained(Denoiser.for_images(data.noisy, settings, data.axes))
    seconds = time.perf_counter() - began
    crops = {"noisy": data.planes[0]}

    def add(loss: str, steps: int, taken: float, prediction: Images) -> None:
        row = {"images": name, "teacher": args.teacher, "loss": loss, "steps": steps, "seconds": round(taken)}
        row |= row_of(prediction, data.truth)
        add_row(args.csv, COLUMNS, row)
        print(*(f"{key} {value}" for key, value in row.items()), flush=True)
        crops[loss] = prediction[0]

    add("l2", first.provenance.steps, seconds, direct(first, data.planes))
    for output in ("mean", "median", "mode") if args.hdn_planes else ():
        drawn = data.planes[: args.hdn_planes]
        result = drain(first.denoise_steps(drawn, [output], samples=args.samples, axes="TYX"))[output]
        row = {"images": name, "teacher": args.teacher, "loss": f"{output} of {args.samples} samples"}
        add_row(args.csv, COLUMNS, {**row, **row_of(result, data.truth[: args.hdn_planes])})
        crops[output] = result[0]
    if args.fresh:
        untrained = Denoiser.for_images(data.noisy, settings, data.axes)
        first.model.unet.load_state_dict(untrained.model.unet.state_dict())
    options = {"max_steps": args.student_steps, "student_only": True, "student_size": args.student_size}
    words = " fresh" * args.fresh + f" {args.student_size}" * (args.student_size != "standard")
    for loss in args.losses:
        began = time.perf_counter()
        student = trained(first.continued(data.noisy, data.axes, loss=loss, **options))
        add(loss + words, args.student_steps, time.perf_counter() - began, direct(student, data.planes))
    if args.crops:
        panels = {f"{loss}, {psnr(image, data.truth[0]):.1f} dB": image for loss, image in crops.items()}
        draw({**panels, "truth": data.truth[0]}, args.crops / f"losses-{name}-{args.teacher}.png")


def direct(denoiser: Denoiser, planes: Images) -> Images:
    return drain(denoiser.denoise_steps(planes, ["direct"], axes="TYX"))["direct"]


def table(path: Path) -> None:
    """Print the rows of a CSV as Markdown."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in dict.fromkeys(row["images"] for row in rows):
        shown = [row for row in rows if row["images"] == name]
        print(f"\n### {name}\n")
        head = ("teacher", "loss", "PSNR (dB)", "SSIM", "MAE", "bias", "below", *(f"power {n}" for n in RINGS), "s")
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        keys = ("teacher", "loss", "psnr", "ssim", "mae", "bias", "below", *(f"power {n}" for n in RINGS), "seconds")
        for row in shown:
            print("| " + " | ".join(row[key] for key in keys) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", choices=[[], *DATASETS])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--teacher", choices=("hdn", "divnoising"), default="hdn")
    parser.add_argument("--model", type=Path, help="model file to take as teacher")
    parser.add_argument("--steps", type=int, default=600, help="of the teacher")
    parser.add_argument("--student-steps", type=int, default=300)
    parser.add_argument("--student-size", choices=("small", "standard", "large"), default="standard")
    parser.add_argument("--fresh", action="store_true", help="students know nothing of the first")
    parser.add_argument("--losses", nargs="*", default=[loss for loss in LOSSES if loss != "l2"])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--hdn-planes", type=int, default=2, help="planes of which samples are drawn; 0: no samples")
    parser.add_argument("--csv", type=Path, help="file to add rows to")
    parser.add_argument("--crops", type=Path, help="folder to write a picture of crops to")
    parser.add_argument("--table", type=Path, help="only print the rows of this file")
    args = parser.parse_args()
    if args.table:
        table(args.table)
        return
    if not (args.datasets and args.csv):
        sys.exit("Expected names of images and --csv, found none: see --help")
    for name in args.datasets:
        measure(name, args)


if __name__ == "__main__":
    main()
