"""Estimates of the time and memory of a training, before it starts. They need no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import PresetName, TrainSettings
from ..presets import PRESETS

_NETWORKS_BYTES: dict[PresetName, float] = {"quick": 0.4e9, "balanced": 0.6e9, "paper": 1.9e9}  # with PyTorch itself
_BYTES_PER_PIXEL = 4  # of the images as they were read; patches are cut from them
_SAMPLED_PIXELS = 8_000_000  # at most, for the normalization
_BYTES_PER_SAMPLED_PIXEL = 16  # float32, and copies for the Anscombe transform
_SECONDS_PER_STEP: dict[PresetName, float] = {"quick": 0.035, "balanced": 0.12, "paper": 8.0}  # two cores with bfloat16


@dataclass(frozen=True)
class Estimate:
    """Time and memory of a training."""

    preset: PresetName
    minutes: float | None
    """At most; None where it cannot be known before a trial."""
    memory_bytes: int
    """Main memory; on a GPU, about as much of its own."""


def estimate(
    shapes: Sequence[tuple[int, int, int]],
    settings: TrainSettings,
    *,
    on_gpu: bool,
    seconds_per_step: float | None = None,
) -> Estimate:
    """Estimate the time and memory of a training.

    Parameters
    ----------
    shapes
        (planes, Y, X) of every image that is trained on.
    settings
        Preset and limits.
    on_gpu
        Whether it will run on a GPU, whose speed is not known before a training.
    seconds_per_step
        Measured in an earlier training with this preset, if there was one.
    """
    preset: PresetName = settings.preset if settings.preset != "auto" else "quick"
    schedule = PRESETS[preset].schedule
    minutes, steps = settings.max_minutes, settings.max_steps
    if minutes is None and steps is None:
        minutes, steps = schedule.max_minutes, schedule.max_steps
    if seconds_per_step is None and not on_gpu:
        seconds_per_step = _SECONDS_PER_STEP[preset]
    limits = [] if minutes is None else [minutes]
    if steps is not None and seconds_per_step is not None:
        limits.append(steps * seconds_per_step / 60)
    pixels = sum(map(math.prod, shapes))
    images, sampled = _BYTES_PER_PIXEL * pixels, _BYTES_PER_SAMPLED_PIXEL * min(pixels, _SAMPLED_PIXELS)
    return Estimate(preset, min(limits, default=None), round(_NETWORKS_BYTES[preset] + max(images, sampled)))
