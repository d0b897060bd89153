"""What a training will take, in words; PyTorch is asked about the device only if it is loaded already."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...config import Device, TrainSettings
from ...errors import DenoiserError
from ...training.estimate import Estimate, estimate
from ..shared.session import SECONDS_PER_STEP


def estimate_words(shapes: Sequence[tuple[int, int, int]], settings: TrainSettings) -> str:
    """Say how many minutes and how much memory a training on (planes, Y, X) images will take."""
    on_gpu = _on_gpu(settings.device)
    found = _estimate(shapes, settings, on_gpu=bool(on_gpu))
    words = f"{_time(found)}, {found.memory_bytes / 1e9:.1f} GB of memory"
    if on_gpu is None:
        other = _estimate(shapes, settings, on_gpu=True)
        words += f" on a CPU; with a GPU {_time(other).lower()}" if other != found else ""
    return f"{words}."


def _estimate(shapes: Sequence[tuple[int, int, int]], settings: TrainSettings, *, on_gpu: bool) -> Estimate:
    preset = estimate(shapes, settings, on_gpu=on_gpu).preset
    return estimate(shapes, settings, on_gpu=on_gpu, seconds_per_step=SECONDS_PER_STEP.get(preset))


def _time(found: Estimate) -> str:
    if found.minutes is None:
        return "Some time: nobody has measured it here"
    for unit, minutes in (("days", 1440), ("h", 60), ("min", 1)):
        if found.minutes >= 1.95 * minutes:
            return f"About {found.minutes / minutes:.0f} {unit}"
    return f"About {60 * found.minutes:.0f} s"


def _on_gpu(device: Device) -> bool | None:
    """Whether training will run on a GPU; None where nobody knows yet."""
    if device != "auto":
        return device != "cpu"
    if "torch" not in sys.modules:
        return None
    from ...system import resolve

    try:
        return resolve(device).device.type != "cpu"
    except DenoiserError:
        return False
