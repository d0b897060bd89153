"""How near the direct pass comes to the truth, beside HDN, the best Gaussian blur, a supervised twin and Noise2Void.

    python benchmarks/quality.py w2s --minutes 5 --csv quality.csv
    python benchmarks/quality_tables.py quality.csv --curves quality.png

Each row is written as soon as it is measured, so that an interrupted run keeps what it has. Only training counts
towards the budget. PSNR as in the paper (range of each plane's own truth, mean over planes), MAE in counts.

- noisy, gaussian: the images as they are, and under the best blur, one sigma for all planes chosen with the truth.
- direct: before training, at every tenth of the budget (note "0 %" and so on; of TIRF, five frames), and at the end.
- mean, median: of samples of HDN; each sample is drawn once, and the seconds are those of drawing.
- supervised: the same UNet from the same start with the same budget, trained on the truth of all training planes. For
  W2S, TIRF and synthetic these are evaluated, too: it is the ceiling, not a rival. It has all CPU cores for itself.
- n2v: Noise2Void of CAREamics, if asked for, for as many minutes.

At the end it prints which part of the way from the best Gaussian to the twin the direct pass has gone.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality_data import DATASETS, SHARED, Dataset, add_row, load_dataset
from scipy.ndimage import gaussian_filter
from torch.optim import Adam, Adamax

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import CompareSettings, train_settings
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.evaluation.metrics import psnr
from napari_direct_denoiser.prediction.predict import predict_steps
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.presets import PRESETS, ScheduleConfig
from napari_direct_denoiser.progress import drain

RUN = ["dataset", "preset", "loss", "seed", "budget", "minutes", "steps"]
COLUMNS = [*RUN, "method", "samples", "planes", "psnr", "mae", "seconds", "note"]
PEER = Path(__file__).with_name("peer_n2v.py")

Images = NDArray[Any]


@dataclass
class Results:
    """Rows of the CSV file, each written when it is measured."""

    path: Path
    common: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, method: str, image: Images, truth: Images, **columns: Any) -> None:
        figures = {"psnr": mean_psnr(image, truth), "mae": float(np.abs(image - truth.astype(np.float64)).mean())}
        row = {**self.common, "method": method, "planes": len(image), **figures, **columns}
        self.rows.append(row)
        written = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        add_row(self.path, COLUMNS, written)
        tell(self.line(row))

    def line(self, row: dict[str, Any]) -> str:
        what = " ".join(str(row.get(name, "")) for name in ("loss", "method", "samples"))
        return f"{what:20} {row['psnr']:6.2f} dB  MAE {row['mae']:8.3f}  {row['planes']} planes  {row.get('note', '')}"

    def summary(self) -> str:
        """The rows of the end, and the part of the gap that the direct pass closes."""
        final = [row for row in self.rows if not row.get("note", "").endswith("%")]
        lines = [self.line(row) for row in final]
        # later rows are of fewer planes (--hdn-planes), so the first one counts
        found = {(row["method"], row.get("loss")): row["psnr"] for row in reversed(final)}
        gaussian = found["gaussian", None]
        for loss in ("l2", "l1"):
            ceiling = found.get(("supervised", loss))
            if ceiling is not None and ceiling > gaussian:  # after a very short training it is not
                part = (found["direct", loss] - gaussian) / (ceiling - gaussian)
                lines.append(f"{loss}: (direct - gaussian) / (supervised - gaussian) = {part:.2f}")
        return "\n".join(lines)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def mean_psnr(image: Images, truth: Images) -> float:
    return float(np.mean([psnr(*pair) for pair in zip(image, truth, strict=True)]))


def best_gaussian(noisy: Images, score: Callable[[Images], float]) -> tuple[Images, float]:
    """The blur with the best score, such as PSNR, and its sigma."""
    best, noisy = noisy, noisy.astype(np.float32)
    for quarters in itertools.count(1):
        blurred = gaussian_filter(noisy, (0, quarters / 4, quarters / 4))
        if score(blurred) <= score(best):
            return best, (quarters - 1) / 4
        best = blurred
    raise AssertionError


def predict(
    model: CoModel, planes: Images, output: Output, samples: int = 1, seed: int = 0, first: int = 0
) -> tuple[Images, float]:
    """An output of planes (P, H, W), and the seconds that it took."""
    began = time.perf_counter()
    result = drain(predict_steps(model, planes, [output], samples=samples, seed=seed, first=first))[output]
    return result, time.perf_counter() - began


def train(denoiser: Denoiser, data: Dataset, results: Results, loss: str) -> dict[str, Any]:
    """Train, and evaluate the direct pass at every tenth of the budget. Returns how long training took."""
    planes, truth = data.planes[:: data.every], data.truth[:: data.every]
    done: dict[str, Any] = {}
    image, seconds = predict(denoiser.model, planes, "direct")
    results.add("direct", image, truth, loss=loss, minutes=0.0, steps=0, seconds=seconds, note="0 %")
    tenths = 0
    for progress in denoiser.train_steps():
        done = {"loss": loss, "minutes": progress.elapsed_seconds / 60, "steps": progress.step}
        if (now := math.floor(10 * progress.fraction + 1e-9)) > tenths:
            tenths = now
            image, seconds = predict(denoiser.model, planes, "direct")
            results.add("direct", image, truth, **done, seconds=seconds, note=f"{10 * tenths} %")
        if progress.stopped:
            tell(f"{loss}: {progress.stopped} after {progress.step} steps, {done['minutes']:.2f} minutes")
    return done


def consensus(model: CoModel, planes: Images, counts: Sequence[int]) -> Iterator[tuple[Output, int, Images, float]]:
    """Mean and median of the first N samples, for every N, and the seconds that drawing those N took."""
    outputs: tuple[Output, ...] = ("mean", "median")
    images = {key: np.empty(planes.shape, np.float32) for key in itertools.product(counts, outputs)}
    seconds = dict.fromkeys(counts, 0.0)
    for number, plane in enumerate(planes):
        drawn = np.empty((counts[-1], *plane.shape), np.float32)  # of one plane, as those of all may not fit
        elapsed = 0.0
        for seed, (before, count) in enumerate(zip((0, *counts), counts, strict=False)):
            more, took = predict(model, plane[None], "sample", count - before, seed, number)
            drawn[before:count] = more[:, 0]
            elapsed += took
            seconds[count] += elapsed
            images[count, "mean"][number] = drawn[:count].mean(0)
            images[count, "median"][number] = np.median(drawn[:count], axis=0)
        tell(f"samples of plane {number + 1} of {len(planes)}")
    for (count, output), image in images.items():
        yield output, count, image, seconds[count]


def train_twin(
    model: CoModel, data: Dataset, schedule: ScheduleConfig, minutes: float | None, steps: int | None, seed: int
) -> dict[str, Any]:
    """Train the UNet of ``model`` on pairs of noisy and true patches, as `training` trains it on samples."""
    side, device = data.planes.shape[-2:], model.device
    noisy, truth = (
        # the same seed, so the same patches
        PatchSampler([stack.reshape(-1, *side)], schedule.patch, seed)
        for stack in (data.noisy, data.noisy_truth)
    )
    model.train()
    average = copy.deepcopy(model.unet)
    parameters: list[torch.Tensor] = list(model.unet.parameters())
    rate = schedule.direct_rate
    adam = schedule.optimizer == "adam"
    optimizer = Adam(parameters, lr=rate, betas=(0.9, 0.99)) if adam else Adamax(parameters, lr=rate)
    began, step, fraction = time.perf_counter(), 0, 0.0
    while fraction < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * fraction))
        optimizer.zero_grad()
        inputs, clean = (patches.draw(schedule.batch).to(device) for patches in (noisy, truth))
        model.direct_loss(model.prepare(inputs), clean).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(schedule.ema_decay, step / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), parameters, 1 - decay)
            for kept, current in zip(average.buffers(), model.unet.buffers(), strict=True):
                kept.copy_(current)
        elapsed = (time.perf_counter() - began) / 60
        fraction = step / steps if steps else elapsed / minutes if minutes else 1.0
    model.unet.load_state_dict(average.state_dict())
    model.eval()
    return {"minutes": elapsed, "steps": step}


def measure(args: argparse.Namespace, data: Dataset, results: Results, loss: str) -> float:
    """Everything that is trained with one loss; returns the minutes that training took."""
    settings = train_settings(
        preset=args.preset,
        noise=args.noise,
        loss=loss,
        seed=args.seed,
        max_minutes=args.minutes,
        max_steps=args.steps,
        device="auto",
    )
    denoiser = Denoiser.for_images(data.noisy, settings, axes=data.axes)
    model = denoiser.model
    tell(f"{args.dataset} {loss} on {model.device}: {model.noise.describe()}")
    twin = copy.deepcopy(model)  # untrained as yet
    done = train(denoiser, data, results, loss)
    image, seconds = predict(model, data.planes, "direct")
    results.add("direct", image, data.truth, **done, seconds=seconds, note=model.noise.describe())
    if args.twin:
        budget = train_twin(twin, data, PRESETS[args.preset].schedule, args.minutes, args.steps, args.seed)
        image, seconds = predict(twin, data.planes, "direct")
        results.add("supervised", image, data.truth, loss=loss, **budget, seconds=seconds)
    planes, truth = data.planes[: args.hdn_planes], data.truth[: args.hdn_planes]
    if len(planes) < len(data.planes):
        image, seconds = predict(model, planes, "direct")
        results.add("direct", image, truth, **done, seconds=seconds, note="the planes of HDN")
    for output, count, image, seconds in consensus(model, planes, args.samples):
        results.add(output, image, truth, **done, samples=count, seconds=seconds)
    return float(done["minutes"])


def run_peer(args: argparse.Namespace, data: Dataset, results: Results, minutes: float) -> None:
    """Train Noise2Void on the same noisy images in a Python of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "noisy.npy", data.noisy.reshape(-1, *data.planes.shape[-2:]))
        np.save(folder / "planes.npy", data.planes)
        command = [args.peer_python, str(PEER), name, str(minutes), str(args.seed)]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            sys.exit(f"{PEER.name} failed: see above; {args.peer_python} needs careamics")
        about = json.loads((folder / "about.json").read_text())
        results.add("n2v", np.load(folder / "denoised.npy"), data.truth, **about)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the images")
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float)
    budget.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loss", choices=("l2", "l1", "both"), default="l2")
    parser.add_argument("--noise", default="auto", help="noise model, as direct-denoiser train takes it")
    parser.add_argument("--samples", type=_counts, default=(1, 10, 100), help="of HDN, such as 1,10,100")
    parser.add_argument("--hdn-planes", type=int, help="sample only so many of the evaluated planes")
    parser.add_argument("--no-twin", dest="twin", action="store_false", help="train no supervised twin")
    parser.add_argument("--peer", choices=["n2v"])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has careamics")
    parser.add_argument("--csv", type=Path, required=True, help="file to add rows to")
    return parser.parse_args()


def _counts(text: str) -> tuple[int, ...]:
    return CompareSettings.model_validate({"samples": text}).samples


def main() -> None:
    args = arguments()
    data = load_dataset(args.dataset, args.data)
    budget = f"{args.steps} steps" if args.steps else f"{args.minutes:g} min"
    results = Results(args.csv, {"dataset": args.dataset, "preset": args.preset, "seed": args.seed, "budget": budget})
    results.add("noisy", data.planes, data.truth)
    blurred, sigma = best_gaussian(data.planes, lambda image: mean_psnr(image, data.truth))
    results.add("gaussian", blurred, data.truth, note=f"sigma {sigma:g}")
    try:
        losses = ("l2", "l1") if args.loss == "both" else (args.loss,)
        minutes = max([measure(args, data, results, loss) for loss in losses])
    except DenoiserError as error:
        sys.exit(str(error))
    if args.peer:
        run_peer(args, data, results, args.minutes or minutes)
    print(results.summary())


if __name__ == "__main__":
    main()
