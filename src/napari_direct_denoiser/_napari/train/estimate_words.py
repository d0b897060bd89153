"""What a training will take, in words. PyTorch is asked about the device only if it is loaded already."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...config import Device, TrainSettings
from ...errors import DenoiserError
from ...training.estimate import Estimate, estimate
from ..shared.session import SECONDS_PER_STEP


def estimate_words(shapes: Sequence[tuple[int, int, int]], settings: TrainSettings) -> str:
    """Say how long a training on (planes, Y, X) images will take, and how much memory.

    A time that was not measured on this device is an upper limit. A faster device reaches the last step sooner.
    """
    on_gpu = _on_gpu(settings.device)
    preset = estimate(shapes, settings, on_gpu=bool(on_gpu)).preset
    measured = SECONDS_PER_STEP.get(preset)
    found = estimate(shapes, settings, on_gpu=bool(on_gpu), seconds_per_step=measured)
    memory = f"{found.memory_bytes / 1e9:.1f} GB of memory"
    if found.minutes is None:
        return f"The time is known after the first training on this device, {memory}."
    if on_gpu and measured is None:
        return f"At most {_time(found)}, {memory}."
    if on_gpu:
        return f"About {_time(found)} on this GPU, {memory}."
    return f"About {_time(found)}, {memory}{', sooner on a GPU' if on_gpu is None else ''}."


def _time(found: Estimate) -> str:
    assert found.minutes is not None
    for unit, minutes in (("days", 1440), ("h", 60), ("min", 1)):
        if found.minutes >= 1.95 * minutes:
            return f"{found.minutes / minutes:.0f} {unit}"
    return f"{60 * found.minutes:.0f} s"


def _on_gpu(device: Device) -> bool | None:
    """Whether training will run on a GPU; None if that is not known yet."""
    if device != "auto":
        return device != "cpu"
    if "torch" not in sys.modules:
        return None
    from ...system import resolve

    try:
        return resolve(device).device.type != "cpu"
    except DenoiserError:
        return False
