"""Noise models p(noisy | signal): given by numbers, read from a file, estimated from the images, or calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..data.images import Frames
from ..errors import ImageError
from .calibration import calibrate, fit_calibration, fit_mixture, mixture_of
from .checked import checked
from .clipped import ClippedNoise as ClippedNoise
from .clipped import fit_clipped
from .colour_camera import fit_interpolated
from .correlated import CorrelatedNoise as CorrelatedNoise
from .correlation import Measure, fit_correlated
from .diagnosis import Finding, diagnose
from .estimation import estimate_noise, fit_images
from .files import JSON, NPZ, read_noise, write_noise, write_npz
from .fit import NoiseFit
from .interpolated import InterpolatedNoise as InterpolatedNoise
from .line_noise import LineNoise as LineNoise
from .line_noise import fit_lines
from .models import GaussianNoise as GaussianNoise  # the import of a noise model registers it
from .models import NoiseModel, from_document
from .models import PoissonGaussianNoise as PoissonGaussianNoise
from .pulses import PulseNoise as PulseNoise
from .pulses import fit_pulses
from .recorded import RecordedNoise as RecordedNoise
from .recorded import fit_recorded
from .scaled import ScaledCorrelatedNoise as ScaledCorrelatedNoise
from .scaled import likelier_kind
from .student import StudentNoise as StudentNoise
from .tabulated import HistogramNoise as HistogramNoise
from .tabulated import MixtureNoise as MixtureNoise
from .text import parse_noise

__all__ = [
    "JSON",
    "NPZ",
    "Finding",
    "NoiseFit",
    "NoiseModel",
    "calibrate",
    "checked",
    "diagnose",
    "estimate_noise",
    "fit_calibration",
    "fit_images",
    "fit_mixture",
    "fit_noise",
    "from_document",
    "likelier_kind",
    "mixture_of",
    "read_noise",
    "write_noise",
    "write_npz",
]


def fit_noise(noise: str | NoiseModel, stacks: Sequence[Frames]) -> NoiseFit:
    """Make the noise model that a setting names, and measure the noise of the images for comparison.

    Parameters
    ----------
    noise
        ``auto`` (estimate it from the images), a file, a kind and its numbers such as ``gaussian:SIGMA``
        or, for correlated noise, ``gaussian:SIGMA+x:C1,C2`` (see `text.parse_noise`), or a model.
    stacks
        The noisy images.

    Raises
    ------
    SettingError
        If the text has none of the forms, or the model does not cover the brightness of the images.
    ModelFileError
        If the file holds no noise model.
    ImageError
        If the noise is to be estimated and too few pixels can be used.
    """
    given = noise if isinstance(noise, NoiseModel) else None if noise.strip() == "auto" else parse_noise(noise.strip())
    return fit_lines(given, stacks, _fit_pixels)


def _fit_pixels(given: NoiseModel | None, stacks: Sequence[Frames]) -> NoiseFit:
    return fit_interpolated(given, stacks, _fit_measured)


def _fit_measured(given: NoiseModel | None, stacks: Sequence[Frames], measure: Measure | None) -> NoiseFit:
    return fit_clipped(given, stacks, partial(_fit_unclipped, measure=measure))


def _fit_unclipped(given: NoiseModel | None, stacks: Sequence[Frames], measure: Measure | None) -> NoiseFit:
    """Fit the noise of pixels, or measure it for comparison with a given model."""
    try:
        fit = fit_correlated(stacks, fit_images(stacks), measure)
    except ImageError:
        if given is None:
            raise
        return NoiseFit.without_evidence(given)
    if given is None:
        return fit_pulses(fit_recorded(stacks, fit))
    fit = replace(fit, model=given)
    fit.check_range()
    return fit
