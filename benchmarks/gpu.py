"""All that needs a GPU, in one command of under ten minutes: correctness, speed, quality, and short memory.

    benchmarks/gpu.sh --output results                       # on a machine with a GPU
    benchmarks/gpu.sh --device cpu --fast --output results   # the same in small, to see that it runs

It writes gpu.json, and performance-gpu.md with the tables of it. Each part runs in a process of its own and has a time
limit: one that fails or hangs leaves the others. The JSON file is written after each. Exit status 1: a part failed, or
a figure is outside its limits.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gpu_parts import PARTS, Settings, shrink
from gpu_tables import tables

ALL_SECONDS = 585.0  # of everything
SPARE_SECONDS = 15.0  # of a part's limit: to start, and to end by itself
LIMITS = {
    "machine": 60.0,
    "tests": 120.0,
    "agreement": 90.0,
    "memory": 60.0,
    "speed": 90.0,
    "quick": 195.0,
    "paper": 135.0,
    "balanced": 195.0,
}
"""The parts in their order, and after how many seconds each is stopped."""


def processes(device: str) -> Any:
    """How processes are started: a fork has all that is imported, but must not know a GPU from before."""
    can_fork = "fork" in mp.get_all_start_methods()
    return mp.get_context("fork" if can_fork and device == "cpu" else "spawn")


def run(part: str, limit: float, settings: Settings) -> dict[str, Any]:
    """What a part found, or its error, and its seconds."""
    context = processes(settings.device)
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(part, settings, theirs))
    began = time.perf_counter()
    process.start()
    theirs.close()
    found: dict[str, Any] = {"figures": {}, "checks": [], "skipped": None, "error": None}
    try:
        found |= ours.recv() if ours.poll(limit) else {"error": f"stopped after {limit:.0f} seconds"}
    except EOFError:
        process.join()
        found["error"] = f"ended with {process.exitcode}"
    end(process)
    return {**found, "seconds": time.perf_counter() - began}


def child(part: str, settings: Settings, results: Connection) -> None:
    """Do one part, and send what it found."""
    if hasattr(os, "setsid"):
        os.setsid()  # so that it can be ended with all that it starts
    if settings.fast and part != "tests":
        shrink()
    try:
        results.send(asdict(PARTS[part](settings)))
    except Exception as error:  # whatever it is, the other parts go on
        traceback.print_exc()
        results.send({"error": f"{type(error).__name__}: {error}"})


def end(process: Any) -> None:
    """End a process, and those that it has started."""
    process.join(2)
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.join()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def everything(settings: Settings, output: Path) -> int:
    """Do all parts; returns how many failed, and how many figures are outside their limits."""
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "device": settings.device, "fast": settings.fast}
    results["parts"] = {}
    began, bad = time.perf_counter(), 0
    for part, most in LIMITS.items():
        limit = min(most, ALL_SECONDS - (time.perf_counter() - began))
        if limit < 2 * SPARE_SECONDS:
            found = {"figures": {}, "checks": [], "skipped": "no time was left", "error": None, "seconds": 0.0}
        else:
            found = run(part, limit, Settings(**{**vars(settings), "seconds": limit - SPARE_SECONDS}))
        results["parts"][part] = found
        failed = [check for check in found["checks"] if not check["passed"]]
        bad += bool(found["error"]) + len(failed)
        say(f"{part}: {found['error'] or found['skipped'] or 'done'} ({found['seconds']:.1f} s)")
        for check in failed:
            say(f"  {check['name']}: expected {check['low']:g} to {check['high']:g}, found {check['value']:g}")
        results["seconds"] = time.perf_counter() - began
        (output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "performance-gpu.md").write_text(tables(results))
    return bad


def main() -> None:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "mps"))
    parser.add_argument("--fast", action="store_true", help="everything in small, in under a minute on two cores")
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="folder of the results")
    parser.add_argument("--data", type=Path, default=shared, help="folder of the W2S images")
    parser.add_argument("--published", type=Path, metavar="CHECKOUT", help="of github krulllab/DirectDenoiser")
    args = parser.parse_args()
    published = args.published.resolve() if args.published else None
    settings = Settings(args.device, args.fast, SPARE_SECONDS, args.data.resolve(), published)
    sys.exit(1 if everything(settings, args.output) else 0)


if __name__ == "__main__":
    main()
