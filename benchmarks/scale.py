"""Large images: the speed and memory of streaming, interruptions, workers, and what a terabyte costs.

    python benchmarks/scale.py --gigabytes 2 --json docs/performance/scale.json
    python benchmarks/scale.py --table docs/performance/scale.json      # the tables of docs/scale.md

Makes a zarr array of uint16 in a temporary folder, and denoises it with the command line by a `quick` model that was
trained for one step: how good the result is does not matter here. What is compared runs in turn, several times, so that
whatever else the machine does meets both. Memory is that of all processes of a command, sampled; seconds are those that
the command reports, without loading torch and the model. The JSON file is written after each part.

- memory: streaming of all planes; how much all processes hold at most.
- streaming: the same planes from zarr to zarr, and from array to array in memory.
- kills: SIGKILL at three random moments, each time started again; the hash of the result.
- workers: two worker processes against one process, both with as many threads in all.
- planes: 1 000 and 100 planes of 256x256, and one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import tifffile
import torch
import zarr
from speed import cores

from napari_direct_denoiser import load
from napari_direct_denoiser.data.synthetic import simulate

SAMPLE_SECONDS = 0.05
PARTS = ("memory", "streaming", "kills", "workers", "planes")
TERABYTE = 10**12
WORKERS = (1, 10, 100, 1000)
TASK_SECONDS = 0.001  # that a dask scheduler takes for a task, about
GPU_FLOPS_PER_PIXEL = 50_000  # of the direct pass of quick: docs/performance/speed.csv
GPU_FLOPS_PER_SECOND = 2e13  # of bfloat16 convolutions this small: an assumption, until a GPU was measured
STORAGE = 1e9  # bytes a second that a shared file system gives to all workers together: an assumption


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    seconds: float
    """That it reports; 0 if it was killed."""
    wall: float
    peak: int
    """Bytes of all its processes together."""
    cpu: float
    """Seconds that its processes computed, with loading: what else the machine does matters little to them."""


def run(command: list[str], kill_after: float | None = None) -> Ran:
    """Run a command and watch its memory; end it and its children without warning after so many seconds."""
    began, peak, cpu = time.perf_counter(), 0, dict[int, float]()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _look(watched, cpu))
            if kill_after is not None and time.perf_counter() - began > kill_after:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Ran(0.0, time.perf_counter() - began, peak, sum(cpu.values()))
            time.sleep(SAMPLE_SECONDS)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}: {err.read()[-2000:]}")
        printed = json.loads(out.read().splitlines()[-1])
    return Ran(printed["seconds"], time.perf_counter() - began, peak, sum(cpu.values()))


def _look(process: psutil.Process, cpu: dict[int, float]) -> int:
    """Bytes that a process and its children hold now; their seconds so far go to `cpu`."""
    found = 0
    try:
        for each in (process, *process.children(recursive=True)):
            found += each.memory_info().rss
            times = each.cpu_times()
            cpu[each.pid] = times.user + times.system
    except psutil.Error:  # it has ended meanwhile
        pass
    return found


def make_image(path: Path, planes: int, side: int) -> None:
    """Write planes of simulated images, each moved by another amount."""
    scenes = simulate(4, min(side, 512), seed=0).noisy
    image = zarr.create_array(path, shape=(planes, side, side), chunks=(1, side, side), dtype="uint16")
    rng = np.random.default_rng(0)
    repeats = -(-side // scenes.shape[-1])
    for number in range(planes):
        moved = np.roll(scenes[number % len(scenes)], tuple(rng.integers(side, size=2)), (0, 1))
        image[number] = np.tile(moved, (repeats, repeats))[:side, :side]


def digest(folder: Path) -> str:
    """Hash of the names and contents of all files."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode())
            found.update(path.read_bytes())
    return found.hexdigest()


class Bench:
    """A folder with a model and images, and commands that work there."""

    def __init__(self, folder: Path, side: int) -> None:
        self.folder, self.side = folder, side
        self.model = folder / "model.safetensors"
        tifffile.imwrite(folder / "noisy.tif", simulate(4, 128, seed=1).noisy, photometric="minisblack")
        self._command("train", str(folder / "noisy.tif"), "--model", str(self.model), "--max-steps", "1")

    def _command(self, *arguments: str, kill_after: float | None = None) -> Ran:
        return run([sys.executable, "-m", "napari_direct_denoiser", *arguments, "--json"], kill_after)

    def image(self, planes: int, side: int | None = None) -> Path:
        side = side or self.side
        path = self.folder / f"{planes}-{side}.zarr"
        if not path.exists():
            make_image(path, planes, side)
        return path

    def stream(self, image: Path, output: str = "out.zarr", *more: str, kill_after: float | None = None) -> Ran:
        """Denoise from zarr to zarr."""
        target = self.folder / output
        if kill_after is None and target.exists():
            shutil.rmtree(target)
        return self._command(
            *("denoise", str(image), "--model", str(self.model), "--output", str(target), *more), kill_after=kill_after
        )

    def in_memory(self, image: Path) -> Ran:
        """Denoise the same planes from array to array, in a process that does nothing else."""
        return run([sys.executable, __file__, "--child", str(image), str(self.model)])


def child(image: str, model: str) -> None:
    """Denoise an array in memory, and print how long it took."""
    noisy = np.asarray(zarr.open_array(image, mode="r")[:])
    denoiser = load(model)
    began = time.perf_counter()
    denoiser.denoise(noisy, axes="TYX")
    print(json.dumps({"seconds": time.perf_counter() - began}))


def memory(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    ran = bench.stream(bench.image(args.planes))
    shutil.rmtree(bench.folder / "out.zarr")
    size = args.planes * 2 * args.side**2
    return {
        "planes": args.planes,
        "side": args.side,
        "gigabytes": size / 1e9,
        "seconds": ran.seconds,
        "wall_seconds": ran.wall,
        "seconds_per_plane": ran.seconds / args.planes,
        "peak_gigabytes": ran.peak / 1e9,
        "megapixels_per_second": args.planes * args.side**2 / ran.seconds / 1e6,
    }


def alternating(rounds: int, **ways: Callable[[], Ran]) -> dict[str, list[Ran]]:
    """Run each way in turn, so many times."""
    found: dict[str, list[Ran]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
            say(f"  round {number + 1}, {name}: {found[name][-1].seconds:.1f} s")
    return found


def ratio(found: dict[str, list[Ran]], over: str, under: str) -> float:
    """Median over rounds of the seconds of one way over those of the other in the same round."""
    return median(a.seconds / b.seconds for a, b in zip(found[over], found[under], strict=True))


def report(found: dict[str, list[Ran]]) -> dict[str, Any]:
    """All runs of each way."""
    return {
        "seconds": {name: [each.seconds for each in runs] for name, runs in found.items()},
        "wall_seconds": {name: [each.wall for each in runs] for name, runs in found.items()},
        "cpu_seconds": {name: [each.cpu for each in runs] for name, runs in found.items()},
        "peak_gigabytes": {name: max(each.peak for each in runs) / 1e9 for name, runs in found.items()},
    }


def streaming(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    image = bench.image(args.compared)
    found = alternating(args.rounds, in_memory=lambda: bench.in_memory(image), streaming=lambda: bench.stream(image))
    return {
        "planes": args.compared,
        "side": args.side,
        "threads": torch.get_num_threads(),
        **report(found),
        "throughput_ratio": ratio(found, "in_memory", "streaming"),
    }


def kills(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    image = bench.image(args.compared)
    whole = bench.stream(image, "whole.zarr")
    expected = digest(bench.folder / "whole.zarr")
    start = whole.wall - whole.seconds
    moments, rng = [], random.Random(args.seed)
    for _ in range(3):
        moments.append(start + rng.uniform(0.1, 0.3) * whole.seconds)
        bench.stream(image, "killed.zarr", kill_after=moments[-1])
    rest = bench.stream(image, "killed.zarr")
    same = digest(bench.folder / "killed.zarr") == expected
    return {
        "planes": args.compared,
        "killed_after_seconds": moments,
        "seconds_whole": whole.seconds,
        "seconds_last_run": rest.seconds,
        "identical": same,
        "sha256": expected,
    }


def workers(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    image = bench.image(args.compared)
    found = alternating(
        args.rounds,
        one=lambda: bench.stream(image),
        two=lambda: bench.stream(image, "two.zarr", "--workers", "2"),
    )
    return {
        "planes": args.compared,
        **report(found),
        "ratio": ratio(found, "one", "two"),
    }


def planes(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    counts = {"one": 1, "few": args.many // 10, "many": args.many}
    images = {name: bench.image(count, 256) for name, count in counts.items()}
    found = alternating(args.rounds, **{name: partial(bench.stream, image) for name, image in images.items()})
    one, few, many = (median(each.cpu for each in found[name]) for name in counts)
    return {
        "planes": list(counts.values()),
        **report(found),
        "time_over_linear": ratio(found, "many", "few") / (args.many / counts["few"]),
        "cpu_over_linear": (many - one) / (few - one) * (counts["few"] - 1) / (args.many - 1),
    }


def cost(measured: dict[str, Any]) -> dict[str, Any]:
    """Hours of a terabyte of uint16.

    On W workers of one core each T = start + N max(c / W, b / B, t): N planes; c, core-seconds of a plane; b, bytes
    read and written for it; B, what the storage gives to all workers together; t, what the scheduler takes for a task.
    It scales up to W = c / max(b / B, t). With a GPU, c is what reading and writing takes, and the GPU computes
    meanwhile if there are several workers.
    """
    found, counts = measured["streaming"], measured["planes"]
    pixels = found["side"] ** 2
    loading = median(counts["cpu_seconds"]["one"])  # core-seconds before the first plane
    plane = (median(found["cpu_seconds"]["streaming"]) - loading) / found["planes"]
    in_memory = (median(found["cpu_seconds"]["in_memory"]) - loading) / found["planes"]
    number = TERABYTE / (2 * pixels)
    moved = pixels * (2 + 4 * 4 / 3)  # read as uint16, written as float32 with its pyramid, before compression
    least = max(moved / STORAGE, TASK_SECONDS)
    start = median(found["wall_seconds"]["streaming"]) - median(found["seconds"]["streaming"])

    def hours(workers: int) -> float:
        return (start + number * max(plane / workers, least)) / 3600

    return {
        "planes": number,
        "side": found["side"],
        "core_seconds_per_plane": plane,
        "core_seconds_to_read_and_write": max(plane - in_memory, 0.0),
        "core_seconds_ratio": in_memory / plane,
        "bytes_per_plane": moved,
        "storage_bytes_per_second": STORAGE,
        "scheduler_seconds_per_task": TASK_SECONDS,
        "start_seconds": start,
        "scales_to_workers": plane / least,
        "hours_on_8_cores": hours(8),
        "gpu_seconds_per_plane": GPU_FLOPS_PER_PIXEL * pixels / GPU_FLOPS_PER_SECOND,
        "gpu_hours": number * GPU_FLOPS_PER_PIXEL * pixels / GPU_FLOPS_PER_SECOND / 3600,
        "gpu_hours_of_one_core_beside_it": number * max(plane - in_memory, 0.0) / 3600,
        "storage_hours": number * moved / STORAGE / 3600,
        "rows": [{"workers": count, "hours": hours(count), "core_hours": count * hours(count)} for count in WORKERS],
    }


def tables(measured: dict[str, Any]) -> str:
    """The tables of the documentation."""
    lines = [f"Machine: {measured['cores']} cores. {measured['note']}\n", "| | asked | found |", "|---|---|---|"]
    if "memory" in measured:
        found = measured["memory"]
        what = f"streaming {found['gigabytes']:.2g} GB ({found['planes']} planes of {found['side']}x{found['side']})"
        lines.append(f"| peak resident memory, {what} | < 2.5 GB | {found['peak_gigabytes']:.2f} GB |")
        lines.append(f"| speed of that | | {found['megapixels_per_second']:.2f} megapixels/s |")
    if "streaming" in measured:
        found = measured["streaming"]
        what = f"{found['planes']} planes, {len(found['seconds']['streaming'])} rounds"
        lines.append(f"| throughput over that in memory ({what}) | >= 0.85 | {found['throughput_ratio']:.2f} |")
    if "cost" in measured:
        ratio_of_work = measured["cost"]["core_seconds_ratio"]
        lines.append(f"| the same in core-seconds, without loading | | {ratio_of_work:.2f} |")
    if "kills" in measured:
        same = "identical" if measured["kills"]["identical"] else "**different**"
        lines.append(f"| SIGKILL three times and started again | identical | {same} |")
    if "workers" in measured:
        lines.append(f"| two workers against one process | >= 1.0 | {measured['workers']['ratio']:.2f} |")
    if "planes" in measured:
        found = measured["planes"]
        few, many = found["peak_gigabytes"]["few"], found["peak_gigabytes"]["many"]
        counts = f"{found['planes'][2]} against {found['planes'][1]} planes of 256x256"
        lines.append(f"| {counts}: time over linear | 0.9 to 1.1 | {found['time_over_linear']:.2f} |")
        lines.append(f"| the same in core-seconds, without loading | | {found['cpu_over_linear']:.2f} |")
        lines.append(f"| memory of both | flat | {few:.2f} and {many:.2f} GB |")
    if "cost" in measured:
        found = measured["cost"]
        lines += ["", "| workers of one core | hours | core hours |", "|---|---|---|"]
        lines += [f"| {row['workers']} | {row['hours']:.3g} | {row['core_hours']:.3g} |" for row in found["rows"]]
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the image whose memory is measured")
    parser.add_argument("--side", type=int, default=1024, help="of a plane, pixels")
    parser.add_argument("--compared", type=int, help="planes of what is compared; all of them if not given")
    parser.add_argument("--many", type=int, default=1000, help="planes of 256x256, beside a tenth of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--note", default="", help="about the machine")
    parser.add_argument("--json", type=Path, help="file to write; parts that are in it already are kept")
    parser.add_argument("--table", type=Path, help="only print the tables of such a file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    if args.table:
        print(tables(json.loads(args.table.read_text())))
        return
    args.planes = max(round(args.gigabytes * 1e9 / (2 * args.side**2)), 1)
    args.compared = args.compared or args.planes
    kept = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    measured = {**kept, "cores": cores(), "note": args.note or kept.get("note", "")}
    work = {"memory": memory, "streaming": streaming, "kills": kills, "workers": workers, "planes": planes}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.side)
        for part in args.parts:
            say(part)
            measured[part] = work[part](bench, args)
            if {"streaming", "planes"} <= measured.keys():
                measured["cost"] = cost(measured)
            if args.json:
                args.json.write_text(json.dumps(measured, indent=1) + "\n")
    print(tables(measured))


if __name__ == "__main__":
    main()
