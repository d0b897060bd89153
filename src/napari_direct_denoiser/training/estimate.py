"""How long training will take and how much memory it needs, told before it starts. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import PRESETS, PresetName, TrainSettings

_NETWORKS_BYTES: dict[PresetName, float] = {"quick": 0.4e9, "balanced": 0.6e9, "paper": 1.9e9}  # with PyTorch itself
_BYTES_PER_PIXEL = 8  # float32, and again while planes are set aside for validation
_SCALED_PIXELS = 8_000_000  # these many are looked at together to scale the images ...
_BYTES_PER_SCALED_PIXEL = 16  # ... and copied to be stabilised
_SECONDS_PER_STEP: dict[PresetName, float] = {"quick": 0.04, "balanced": 0.12, "paper": 8.0}  # two cores of 2024


@dataclass(frozen=True)
class Estimate:
    """What a training will take."""

    preset: PresetName
    minutes: float | None
    """Of training, at most; None where only a trial can tell."""
    memory_bytes: int
    """Of the computer; of the GPU, if there is one, about as much."""


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
        What is to be trained.
    on_gpu
        Whether it will run on a GPU: this decides the preset ``auto``.
    seconds_per_step
        As measured in an earlier training with this preset, if there was one.
    """
    preset: PresetName = settings.preset if settings.preset != "auto" else "balanced" if on_gpu else "quick"
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
    data, scaling = _BYTES_PER_PIXEL * pixels, _BYTES_PER_SCALED_PIXEL * min(pixels, _SCALED_PIXELS)
    return Estimate(preset, min(limits, default=None), round(_NETWORKS_BYTES[preset] + max(data, scaling)))
