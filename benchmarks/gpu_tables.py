"""The tables of the documentation, from the JSON file of `gpu.py`.

python benchmarks/gpu_tables.py gpu.json > docs/performance-gpu.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Speed on a GPU

Made by `benchmarks/gpu.sh`, which says what each figure is. Times are of one run.
"""
_COMPARED = ("direct_s", "plane_of_stack_s", "sample_s", "mean_of_10_s", "direct_peak_mib")
TITLES = {
    "tests": "Tests on the device",
    "agreement": "Agreement with the CPU",
    "memory": "When memory is short",
    "speed": "Speed and memory of the presets",
    "quick": "Training `quick` to the quality of 5 minutes on a CPU",
    "balanced": "Training `balanced` to the same quality",
    "paper": "Training `paper` at its true size",
}


def tables(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    parts = results["parts"]
    text = [HEAD, _machine(results, parts["machine"])]
    for name, title in TITLES.items():
        if name not in parts:
            continue
        part = parts[name]
        text.append(f"## {title}\n")
        if reason := part["error"] or part["skipped"]:
            text.append(f"Not measured: {reason.splitlines()[-1]}.\n")
            continue
        body = _BODIES.get(name)
        if body:
            text.append(body(part["figures"]))
        if part["checks"]:
            text.append(_checks(part["checks"]))
    return "\n".join(text)


def _machine(results: dict[str, Any], part: dict[str, Any]) -> str:
    found = part["figures"]
    where = f"{found['gpu']}, {found['memory_gib']:.0f} GiB, " if "gpu" in found else ""
    versions = f"torch {found.get('torch', '?')}, Python {found.get('python', '?')}"
    cuda = f", CUDA {found['cuda']}, cuDNN {found['cudnn']}" if "cuda" in found else ""
    small = " Everything was made small (`--fast`): the figures say nothing of speed.\n" if results["fast"] else "\n"
    cores = found.get("cores", "?")
    return f"Machine: {where}{cores} CPU cores, {versions}{cuda}. {results['date']}, device {results['device']}.{small}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _checks(checks: list[dict[str, Any]]) -> str:
    def limits(check: dict[str, Any]) -> str:
        low, high = check["low"], check["high"]
        return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"

    rows = [(c["name"], limits(c), f"{c['value']:.3g}", "yes" if c["passed"] else "**no**") for c in checks]
    return _table(("figure", "expected", "found", "within"), rows)


def _tests(figures: dict[str, Any]) -> str:
    return "\n".join([f"{figures['summary'].strip('= ')}.", *(f"- {name}" for name in figures["failures"])]) + "\n"


def _agreement(figures: dict[str, Any]) -> str:
    return (
        "The same weights, computed in float32 on both. `direct`: largest difference, in standard deviations of the "
        "noise. `std`: largest relative difference. Random numbers differ between devices, so the statistics of "
        "samples are compared: `mean` and `median` in units of their statistical error, the others as ratios.\n"
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _speed(figures: dict[str, Any]) -> str:
    theirs = figures.get("published")
    heads = (
        "code",
        "precision",
        "step",
        "steps/s",
        "direct",
        "of a stack",
        "sample",
        "mean of 10",
        "MiB: step",
        "direct",
        "mean",
    )
    rows = []
    for name, row in figures.items():
        last = row.get("mean_of_10_peak_mib", row["sample_peak_mib"])
        rows.append(
            (
                *(name, row["dtype"], f"{_seconds(row['step_s'])}, {row['patches']} patches"),
                *(f"{row['steps_per_second']:.3g}", _seconds(row["direct_s"])),
                *(_seconds(row["plane_of_stack_s"]), _seconds(row["sample_s"])),
                _seconds(row.get("mean_of_10_s")),
                *(f"{mib:.0f}" for mib in (row["step_peak_mib"], row["direct_peak_mib"], last)),
            )
        )
    side = next(iter(figures.values()))["side"]
    text = f"Patches of 64x64 pixels; images of {side}x{side}, from array to array.\n\n" + _table(heads, rows)
    if theirs:
        ratios = [
            (name, *(_ratio(theirs.get(key), row.get(key)) for key in _COMPARED))
            for name, row in figures.items()
            if name != "published"
        ]
        text += "\nPublished code over ours:\n\n" + _table(
            ("preset", "direct", "of a stack", "sample", "mean of 10", "memory, direct"), ratios
        )
    return text


def _ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.3g}" if theirs and ours else ""


def _quality(figures: dict[str, Any]) -> str:
    reached, goal = figures["reached"], figures["goal_db"]
    if reached:
        first = f"{goal:.2f} dB were reached after {reached['seconds']:.0f} s and {reached['steps']} steps."
    else:
        first = f"{goal:.2f} dB were not reached; the best was {figures['best_db']:.2f} dB."
    curve = figures["curve"]
    shown = [*curve[: -1 : max(len(curve) // 12, 1)], curve[-1]]
    rows = [(f"{p['seconds']:.1f}", f"{p['steps']:.0f}", f"{p['psnr']:.2f}") for p in shown]
    return f"{first} Seconds are those of training.\n\n" + _table(("seconds", "steps", "PSNR, dB"), rows)


def _paper(figures: dict[str, Any]) -> str:
    return (
        f"{figures['steps']} steps of {figures['batch']} patches of {figures['patch']}x{figures['patch']} pixels "
        f"took {figures['seconds']:.0f} s: {figures['steps_per_second']:.3g} steps a second, with "
        f"validations. 200 000 steps would take **{figures['hours']:.1f} hours** (extrapolated).\n"
    )


_BODIES = {
    "tests": _tests,
    "agreement": _agreement,
    "speed": _speed,
    "quick": _quality,
    "balanced": _quality,
    "paper": _paper,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    print(tables(json.loads(parser.parse_args().json.read_text())), end="")


if __name__ == "__main__":
    main()
