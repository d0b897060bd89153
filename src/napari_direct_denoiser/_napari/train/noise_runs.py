"""Runs of the noise section: fit, measure and save a noise model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..shared.workers import Update
from .parts import MIN_SIDE, Part

if TYPE_CHECKING:
    from ...noise import Finding, NoiseFit


@dataclass(frozen=True, eq=False)
class NoiseChoice:
    """The noise model that a person chose."""

    text: str
    """Value of `TrainSettings.noise`."""
    calibration: Part | None = None
    """A calibration to fit the noise model to; overrides `text`."""
    signal: Part | None = None
    """The calibration without noise, if there is one."""


@dataclass(frozen=True, eq=False)
class Look:
    """A noise model, and what was measured in the images."""

    fit: NoiseFit
    findings: tuple[Finding, ...]
    calibration: NoiseFit | None = None


def calibrated(choice: NoiseChoice) -> NoiseFit | None:
    """Fit a noise model to the calibration, if one was chosen."""
    if choice.calibration is None:
        return None
    from ...noise import fit_calibration  # late: it brings torch

    signal = np.asarray(choice.signal.pixels()) if choice.signal else None
    return fit_calibration(np.asarray(choice.calibration.pixels()), signal, choice.calibration.axes)


def looking(parts: Sequence[Part], choice: NoiseChoice) -> Generator[Update, None, Look]:
    """Fit the noise model, and compare it with the noise of the images."""
    yield Update("Measuring the noise …")
    from ...data.stacks import open_stacks
    from ...noise import diagnose, fit_noise

    calibration = calibrated(choice)
    frames, _ = open_stacks([part.pixels() for part in parts], [part.axes for part in parts], min_side=MIN_SIDE)
    fit = fit_noise(choice.text if calibration is None else calibration.model, frames)
    return Look(fit, diagnose(frames, fit), calibration)


def saving_noise(look: Look, path: Path) -> Generator[Update, None, Path]:
    """Write a noise model to a file; the published code can read ``.npz``."""
    yield Update(f"Saving {path.name} …")
    from ...noise import write_noise

    write_noise(path, look.calibration or look.fit)
    return path
