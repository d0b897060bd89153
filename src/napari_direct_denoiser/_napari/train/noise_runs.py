"""Runs of the Noise model section: fit a noise model, look at it, save it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..shared.workers import Update
from .parts import Part, together

if TYPE_CHECKING:
    from ...noise import Finding, NoiseFit


@dataclass(frozen=True, eq=False)
class NoiseChoice:
    """Which noise model a person wants."""

    text: str
    """As `TrainSettings.noise` takes it."""
    calibration: Part | None = None
    """What to fit it to, instead."""
    signal: Part | None = None
    """The calibration without noise, if it is known."""


@dataclass(frozen=True, eq=False)
class Look:
    """A noise model beside the noise of the images."""

    fit: NoiseFit
    findings: tuple[Finding, ...]
    calibration: NoiseFit | None = None


def calibrated(choice: NoiseChoice) -> NoiseFit | None:
    """Fit a noise model to the calibration, if that is what a person wants."""
    if choice.calibration is None:
        return None
    from ...noise import fit_calibration  # late: it brings torch

    signal = choice.signal.read() if choice.signal else None
    return fit_calibration(choice.calibration.read(), signal, choice.calibration.axes)


def looking(parts: Sequence[Part], choice: NoiseChoice) -> Generator[Update, None, Look]:
    """Fit the noise model, and measure the noise of the images beside it."""
    yield Update("Measuring the noise …")
    from ...data.images import as_planes
    from ...noise import diagnose, fit_noise

    calibration = calibrated(choice)
    images, axes = together(parts)
    frames = [as_planes(image, axes).frames for image in images]
    fit = fit_noise(choice.text if calibration is None else calibration.model, frames)
    return Look(fit, diagnose(frames, fit), calibration)


def saving_noise(look: Look, path: Path) -> Generator[Update, None, Path]:
    """Write a noise model as a file that the published code reads too."""
    yield Update(f"Saving {path.name} …")
    from ...noise import mixture_of, write_npz

    write_npz(path, mixture_of(look.calibration or look.fit))
    return path
