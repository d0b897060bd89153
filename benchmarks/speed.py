"""How fast training and prediction are, beside the published code and beside what the machine could do.

    python benchmarks/speed.py --reference ../DirectDenoiser --csv speed.csv > docs/speed.md

Everything runs in one process, one row after the other and then again, so that whatever else the machine does meets
all rows alike. Medians of the rounds; each round repeats what is short. Without --reference, a checkout of github
krulllab/DirectDenoiser, there are only our own rows.

The floor of a row is the longer of two times: its arithmetic at the rate of a matrix product or convolution in the same
precision, and moving weights, inputs and outputs once (in training the moments, too) at the speed of copying. Both are
measured here, with as many threads as the row may keep busy.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from speed_published import PATCHES, Image, Ours, Published, Subject, Work, check_checkout
from speed_scaling import COLUMNS, Row, Task, accuracy, memory, name_of, scaling, synchronise
from torch.utils.flop_counter import FlopCounterMode

from napari_direct_denoiser.config import Device
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.system import resolve
from napari_direct_denoiser.training.threads import Immediate

SIDE, SAMPLES = 512, 100
ROUND_SECONDS = 0.3  # what is shorter is repeated within a round
LONG_SECONDS = 20.0  # means that would take longer are extrapolated from what fits into a quarter of this
STEP_BYTES = 6 * 4  # a parameter and its two moments, float32, each read and written
_DTYPES = torch.bfloat16, torch.float32
HEADS = (
    *("row", "code", "preset", "dtype", "threads", "median", "lowest", "rounds"),
    *("floor", "part of floor", "published/ours", "peak MiB", "note"),
)
_UNITS = ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "bf16")


@dataclass
class Entry:
    """A row that is timed in turn with the others."""

    row: Row
    kind: str
    """Of ours and published: those of a kind are put side by side."""
    work: Work
    flops: int | None
    bytes: int
    busy: int
    """Threads that the work may keep busy."""
    patches: int = 1
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """What surrounds all calls of a round."""
    seconds: Callable[[], float] | None = None
    """How to time one round, where that is not simply the time of the work."""
    times: list[float] = field(default_factory=list)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def timed(work: Work, device: torch.device, least: float = ROUND_SECONDS) -> float:
    """Seconds of one call, the mean of as many as fill the least time."""
    calls, began, elapsed = 0, time.perf_counter(), 0.0
    while not calls or elapsed < least:
        work()
        synchronise(device)
        calls, elapsed = calls + 1, time.perf_counter() - began
    return elapsed / calls


@cache
def arithmetic_rate(dtype: torch.dtype, threads: int, device: torch.device) -> float:
    """Floating-point operations a second: the fastest of many matrix products and convolutions."""
    side, channels, pixels = (1024, 64, 128) if device.type == "cpu" else (8192, 256, 512)  # enough to fill a GPU
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    # on some CPUs the library for matrices is slower than that for convolutions, and then it is no floor
    image = torch.randn(1, channels, pixels, pixels, device=device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    product = 2 * side**3 / _lowest(lambda: a @ b, 60, threads, device)
    flops = 2 * 9 * channels**2 * pixels**2
    return max(product, flops / _lowest(lambda: torch.conv2d(image, kernel, padding=1), 60, threads, device))


@cache
def copy_rate(threads: int, device: torch.device) -> float:
    """Bytes read and written a second by the fastest of some copies, too large for caches."""
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    return 2 * source.nbytes / _lowest(lambda: target.copy_(source), 5, threads, device)


def _lowest(work: Work, times: int, threads: int, device: torch.device) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return min(timed(work, device, 0) for _ in range(times + 1))
    finally:
        torch.set_num_threads(before)


def count_flops(work: Work) -> int:
    """Multiplications and additions of convolutions and matrix products, forwards and backwards."""

    with (
        # the counter sees its own thread only, while the Direct Denoiser learns in another
        patch.object(ThreadPoolExecutor, "submit", Immediate.submit),
        patch.object(torch, "inference_mode", torch.no_grad),  # and it stumbles over parameters in inference mode
        FlopCounterMode(display=False) as counter,
    ):
        work()
    return int(counter.get_total_flops())


def entries(subject: Subject, patches: Iterable[int], image: Image, folder: Path, label: str) -> list[Entry]:
    """The rows of one code and preset."""
    cpu = subject.device.type == "cpu"
    usual = torch.get_num_threads() if cpu else 0

    def entry(kind: str, work: Work, threads: str, moved: int, busy: int, count: int = 0, flops: bool = True) -> Entry:
        name = f"{kind}, {count} patches" if count else kind
        row = Row(name, subject.code, label, subject.device.type, name_of(subject.dtype), threads)
        tell(f"preparing {subject.code} {label}: {name}")
        return Entry(row, kind, work, count_flops(work) if flops else None, moved, busy, count or 1)

    hdn, unet = subject.sizes
    found = []
    for count in patches:
        pixels = 4 * count * 64**2
        each = subject.threads if cpu else 0
        both = f"{each}+{each}" if cpu and subject.side_by_side else str(each)
        busy = min(2 * each, cores()) if subject.side_by_side else each
        co_training = subject.step(count)
        found.append(entry("co-training step", co_training, both, STEP_BYTES * (hdn + unet) + 3 * pixels, busy, count))
        hdn_only = subject.step(count, hdn_only=True)
        found.append(entry("HDN-only step", hdn_only, str(each), STEP_BYTES * hdn + 2 * pixels, each, count))
        found[-2].around = found[-1].around = subject.training
    steps = len(found)
    size, plane = f"{SIDE}x{SIDE}", 2 * 4 * image.size
    found.append(entry(f"direct, {size}", subject.direct(image), str(usual), 4 * unet + plane, usual))
    one = entry(f"HDN sample, {size}", subject.mean(image, 1), str(usual), 4 * hdn + plane, usual)
    found += [one, _mean_entry(subject, image, one)]
    if isinstance(subject, Ours):
        moved = 2 * 4 * (hdn + unet)
        found.append(entry("loading a model file", subject.load(folder), str(usual), moved, usual, flops=False))
    for other in found[steps:]:
        other.around = subject.predicting
    return found


def _mean_entry(subject: Subject, image: Image, one: Entry) -> Entry:
    """The mean of many samples, from fewer of them where it takes long: only the bottom-up pass is not repeated."""
    per_sample = timed(one.work, subject.device, 0)
    samples = SAMPLES
    if SAMPLES * per_sample > LONG_SECONDS:
        samples = max(4, int(LONG_SECONDS / 4 / per_sample) // 4 * 4)  # four is a batch of ours
    work = subject.mean(image, samples)
    assert one.flops is not None
    further = count_flops(subject.mean(image, 2)) - one.flops
    row = replace(one.row, row=f"mean of {SAMPLES}, {SIDE}x{SIDE}")
    found = Entry(row, row.row, work, one.flops + (SAMPLES - 1) * further, one.bytes, one.busy)
    if samples < SAMPLES:
        row.note = f"extrapolated from {samples} samples"
        found.seconds = lambda: _extrapolated(subject, work, SAMPLES / samples)
    return found


def _extrapolated(subject: Subject, work: Work, factor: float) -> float:
    """Seconds of ``factor`` times as many samples after the same bottom-up pass."""
    owner, name = subject.encoder
    encode, spent = getattr(owner, name), 0.0

    def watched(*args: Any) -> Any:
        nonlocal spent
        began = time.perf_counter()
        features = encode(*args)
        synchronise(subject.device)
        spent += time.perf_counter() - began
        return features

    with patch.object(owner, name, watched):
        whole = timed(work, subject.device, 0)
    return spent + (whole - spent) * factor


def measure(all_entries: list[Entry], rounds: int, device: torch.device) -> list[Row]:
    """Time all in turn, and put each beside its floor and the published code."""
    for number in range(rounds):
        for entry in all_entries:
            with entry.around():
                entry.times.append(entry.seconds() if entry.seconds else timed(entry.work, device))
        tell(f"round {number + 1} of {rounds} done")
    theirs = {e.kind: median(e.times) / e.patches for e in all_entries if e.row.code == "published"}
    for entry in all_entries:
        row = entry.row
        row.median_s, row.lowest_s, row.rounds = median(entry.times), min(entry.times), rounds
        row.flops, row.floor_s = entry.flops, entry.bytes / copy_rate(max(entry.busy, 1), device)
        if row.flops:
            rate = arithmetic_rate(getattr(torch, row.dtype), max(entry.busy, 1), device)
            row.floor_s = max(row.floor_s, row.flops / rate)
        row.part_of_floor = row.floor_s / row.median_s
        if row.code == "ours" and entry.kind in theirs:
            row.ratio = theirs[entry.kind] / (row.median_s / entry.patches)
            if entry.patches not in (1, PATCHES):
                row.note = f"ratio by patch: {PATCHES} patches published"
    return [entry.row for entry in all_entries]


def rows(device: Device, checkout: Path | None, rounds: int) -> Iterator[Row]:
    """Part rows: everything of every preset, and peak memory."""
    image = simulate(1, SIDE).noisy[0]
    with tempfile.TemporaryDirectory() as folder:
        made: list[Entry] = []
        for preset, batches in (("quick", {PRESETS["quick"].schedule.batch, 16}), ("balanced", None), ("paper", {8})):
            name: Any = preset
            subject = Ours(name, device)
            patches = sorted(batches or {PRESETS[name].schedule.batch})
            made += entries(subject, patches, image, Path(folder), preset)
        made += entries(Ours("paper", device, float32=True), [PATCHES], image, Path(folder), "paper in float32")
        if checkout:
            made += entries(Published(checkout, device), [PATCHES], image, Path(folder), "published")
        yield from measure(made, rounds, resolve(device).device)
    yield from memory(memory_tasks(device, checkout))


def memory_tasks(device: Device, checkout: Path | None) -> list[tuple[str, Task]]:
    tasks = []
    subjects = [("ours", "quick"), ("ours", "balanced"), ("ours", "paper")]
    for code, preset in subjects + ([("published", "published")] if checkout else []):
        for what, samples in (("step", PATCHES), ("direct", 1), ("mean", 10)):
            name = {"step": f"co-training step, {PATCHES} patches", "direct": f"direct, {SIDE}x{SIDE}"}.get(
                what, f"mean of {samples}, {SIDE}x{SIDE}"
            )
            tasks.append(
                (name, Task(code, preset, what, SIDE, samples, 1, device, str(checkout) if checkout else None))
            )
    return tasks


def machine(device: torch.device) -> str:
    """What was measured on, as the head of the tables."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    units = ", ".join(unit for unit in _UNITS if known.get(unit)) or "not known"
    text = (
        f"{model or platform.processor() or platform.machine()}, {cores()} cores ({units}), torch {torch.__version__}"
    )
    if device.type == "cuda":
        text += f", {torch.cuda.get_device_name()}"
    rates = []
    for threads in range(1, cores() + 1) if device.type == "cpu" and cores() <= 2 else [cores()]:
        matrix = [f"{arithmetic_rate(t, threads, device) / 1e9:.0f} GFLOP/s {name_of(t)}" for t in _DTYPES]
        rates.append(f"{threads} threads: {', '.join(matrix)}, copying {copy_rate(threads, device) / 1e9:.1f} GB/s")
    return f"Machine: {text}.\n\nThe faster of matrix product and convolution, and copying: {'; '.join(rates)}.\n"


def seconds_text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def line(row: Row) -> str:
    """Of a table in Markdown, under `HEADS`."""
    note = row.note
    if row.psnr_difference_db is not None and row.largest_difference is not None:
        change = f"{row.psnr_difference_db:+.4f} dB, at most {row.largest_difference:.2%} of the range at a pixel"
        note = f"{change} ({note})"
    cells = (
        *(row.row, row.code, row.preset, row.dtype, row.threads),
        *(seconds_text(row.median_s), seconds_text(row.lowest_s), str(row.rounds or "")),
        seconds_text(row.floor_s),
        "" if row.part_of_floor is None else f"{row.part_of_floor:.0%}",
        "" if row.ratio is None else f"{row.ratio:.3g}",
        "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
        note,
    )
    return f"| {' | '.join(cells)} |"


def write(path: Path, found: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in found:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="of github krulllab/DirectDenoiser")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--csv", type=Path, metavar="OUT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", default="all", choices=("rows", "scaling", "accuracy", "all"))
    args = parser.parse_args()
    if args.reference:
        args.reference = args.reference.resolve()
        check_checkout(args.reference)
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "rows": lambda: rows(args.device, args.reference, args.rounds),
        "scaling": lambda: scaling(args.device, args.rounds),
        "accuracy": lambda: accuracy(args.device),
    }
    print(machine(resolve(args.device).device), flush=True)
    found: list[Row] = []
    for name, part in parts.items():
        if args.part not in (name, "all"):
            continue
        tell(f"part {name}")
        print(f"## {name.capitalize()}\n\n| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|")
        for row in part():
            print(line(row), flush=True)
            found.append(row)
            if args.csv:
                write(args.csv, found)  # every time, so that an interrupted run keeps what it has
        print()


if __name__ == "__main__":
    main()
