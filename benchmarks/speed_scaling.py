"""Parts of `speed.py`: memory in fresh processes, how time and memory grow, and what bfloat16 changes.

Only a fresh process can tell how much memory something takes, for the peak of a process never falls. It runs `child`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from quality import mean_psnr
from speed_published import Image, Ours, Published, Subject, Work, compute_in

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.config import Device
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.prediction.predict import predict_steps
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.progress import drain

SIDES = (256, 512, 1024, 2048, 4096, 8192)
SAMPLES = (1, 10, 100, 1000)
SAMPLES_SIDE = 256  # of the image on which samples are counted
LONG_SECONDS = 20.0  # no further round in a fresh process once these are used up
TRAIN_STEPS = 200
_LARGEST_CERTAIN = 4096  # larger images only where there is enough memory


@dataclass
class Row:
    """A line of the results; what does not apply is None."""

    row: str
    code: str
    preset: str
    device: str
    dtype: str
    threads: str
    median_s: float | None = None
    lowest_s: float | None = None
    rounds: int | None = None
    flops: int | None = None
    floor_s: float | None = None
    """Seconds that the arithmetic, or moving weights, inputs and outputs once, would take at the measured rates."""
    part_of_floor: float | None = None
    ratio: float | None = None
    """Seconds (or memory) of the published code over those of this row."""
    peak_mib: float | None = None
    psnr_difference_db: float | None = None
    largest_difference: float | None = None
    """Part of the range of the truth."""
    note: str = ""


COLUMNS = [field.name for field in fields(Row)]


@dataclass(frozen=True)
class Task:
    """What a fresh process is to do."""

    code: str
    preset: str
    what: str
    """step, direct, mean or median."""
    side: int
    samples: int
    rounds: int
    device: Device
    checkout: str | None = None
    float32: bool = False


@dataclass(frozen=True)
class Outcome:
    dtype: str
    seconds: list[float]
    peak_mib: float
    """Above that of importing everything."""


def fresh(task: Task) -> Outcome | str:
    """Do a task in a fresh process; the reason where that failed."""
    command = [sys.executable, "-c", "import speed_scaling; speed_scaling.child()", json.dumps(vars(task))]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return f"failed: {reason}"
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def child() -> None:
    """Do the task of the command line and print its outcome."""
    task = Task(**json.loads(sys.argv[1]))
    imported = _peak_mib(torch.device("cpu"))
    subject: Subject
    if task.code == "published":
        assert task.checkout is not None
        subject = Published(Path(task.checkout), task.device)
    else:
        preset: Any = task.preset
        subject = Ours(preset, task.device, float32=task.float32)
    work = _work(subject, task, task.side)
    if task.what != "step":
        _work(subject, task, 64)()  # a first call is slower, and a small image shows no more memory
    seconds: list[float] = []
    with subject.training() if task.what == "step" else nullcontext():
        while len(seconds) < task.rounds and sum(seconds) < LONG_SECONDS:
            began = time.perf_counter()
            work()
            synchronise(subject.device)
            seconds.append(time.perf_counter() - began)
    peak = _peak_mib(subject.device) - (imported if subject.device.type == "cpu" else 0)
    print(json.dumps({"dtype": name_of(subject.dtype), "seconds": seconds, "peak_mib": peak}))


def _work(subject: Subject, task: Task, side: int) -> Work:
    if task.what == "step":
        return subject.step(task.samples)
    # drawn as 16 bits at once: arrays on the way to the image would be the peak
    image = np.random.default_rng(0).integers(100, 300, (side, side), dtype=np.uint16)
    if task.what == "direct":
        return subject.direct(image)
    if task.what == "median":
        assert isinstance(subject, Ours)
        return subject.median(image, task.samples)
    return subject.mean(image, task.samples)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told: otherwise clocks measure the telling."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _peak_mib(device: torch.device) -> float:
    """Peak memory of this process, on a GPU that of the tensors there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of Linux begins at the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def memory(tasks: list[tuple[str, Task]]) -> Iterator[Row]:
    """Peak memory of named tasks, and how much more the published code takes where it was given the same name."""
    rows: list[Row] = []
    for name, task in tasks:
        rows.append(_row(f"peak memory: {name}", task))
        rows[-1].median_s = rows[-1].lowest_s = rows[-1].rounds = None  # a first call tells nothing of speed
    theirs = {row.row: row.peak_mib for row in rows if row.code == "published"}
    for row in rows:
        other = theirs.get(row.row)
        if row.code == "ours" and other is not None and row.peak_mib:
            row.ratio = other / row.peak_mib
        yield row


def scaling(device: Device, rounds: int) -> Iterator[Row]:
    """Seconds and memory of the quick preset against the side of the image and the number of samples."""
    for what, samples in (("direct", 1), ("mean", 10)):
        before: Row | None = None
        for side in SIDES:
            name = f"{what}{' of 10' if what == 'mean' else ''}, {side}x{side}"
            task = Task("ours", "quick", what, side, samples, rounds, device)
            if side > _LARGEST_CERTAIN and (reason := _too_large(before, side)):
                yield Row(name, task.code, task.preset, device, "", "", note=reason)
                continue
            row = _row(name, task)
            yield _compared(row, before)
            before = row
    for what in ("mean", "median"):
        before = None
        for samples in SAMPLES:
            task = Task("ours", "quick", what, SAMPLES_SIDE, samples, rounds, device)
            row = _row(f"{what} of {samples}, {SAMPLES_SIDE}x{SAMPLES_SIDE}", task)
            yield _compared(row, before)
            before = row


def _row(name: str, task: Task) -> Row:
    outcome = fresh(task)
    threads = "" if task.what == "step" else str(torch.get_num_threads())
    row = Row(name, task.code, task.preset, task.device, "", threads)
    if isinstance(outcome, str):
        row.note = outcome
        return row
    row.dtype, row.peak_mib, row.rounds = outcome.dtype, outcome.peak_mib, len(outcome.seconds)
    row.median_s, row.lowest_s = median(outcome.seconds), min(outcome.seconds)
    return row


def _compared(row: Row, before: Row | None) -> Row:
    if before and before.median_s and row.median_s and before.peak_mib and row.peak_mib:
        time_ratio, memory_ratio = row.median_s / before.median_s, row.peak_mib / before.peak_mib
        row.note = f"{time_ratio:.1f} x the time and {memory_ratio:.1f} x the memory of the row before"
    return row


def _too_large(smaller: Row | None, side: int) -> str | None:
    """Say why an image of this side is left out, if it is: memory grows at most as the number of pixels."""
    if smaller is None or smaller.peak_mib is None:
        return "left out, as the smaller image failed"
    needed, meminfo = 4 * smaller.peak_mib, Path("/proc/meminfo")
    if not meminfo.exists():
        return "left out, as free memory is not known here"
    free = next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    if needed > 0.7 * free / 1024:
        return f"left out: up to {needed:.0f} MiB needed, {free / 1024:.0f} MiB free"
    return None


def accuracy(device: Device) -> Iterator[Row]:
    """What bfloat16 changes in the images of a quick model, direct and mean of 10 from the same seed."""
    stack = simulate(8, 256)
    denoiser = Denoiser.for_images(stack.noisy, TrainSettings(preset="quick", max_steps=TRAIN_STEPS, device=device))
    for _ in denoiser.train_steps():
        pass
    model = denoiser.model
    outputs: tuple[Output, ...] = ("direct", "mean")
    found: dict[torch.dtype, dict[str, Image]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        compute_in(model, dtype)
        found[dtype] = dict(drain(predict_steps(model, stack.noisy, outputs, samples=10, seed=0)))
    span = np.ptp(stack.truth, axis=(1, 2))[:, None, None]
    for output in outputs:
        exact, rounded = found[torch.float32][output], found[torch.bfloat16][output]
        exact_psnr, rounded_psnr = (mean_psnr(image, stack.truth) for image in (exact, rounded))
        yield Row(
            f"accuracy: {output}{' of 10' if output == 'mean' else ''}, 8 planes of 256x256",
            "ours",
            "quick",
            model.device.type,
            "bfloat16",
            str(torch.get_num_threads()),
            psnr_difference_db=rounded_psnr - exact_psnr,
            largest_difference=float((np.abs(rounded - exact) / span).max()),
            note=f"{rounded_psnr:.4f} dB, {exact_psnr:.4f} dB in float32, after {TRAIN_STEPS} steps",
        )
