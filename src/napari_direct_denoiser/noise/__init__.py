"""Noise models p(noisy | signal): given by numbers, read from a file, estimated from the images, or calibrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..data.images import Frames
from ..errors import ImageError, ModelFileError, SettingError
from .calibration import calibrate, fit_calibration, fit_mixture, mixture_of
from .diagnosis import Finding, diagnose
from .estimation import estimate_noise, fit_images
from .files import NPZ, is_noise_file, read_noise, write_npz
from .fit import NoiseFit
from .histogram import HistogramNoise
from .mixture import MixtureNoise
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise

__all__ = [
    "NPZ",
    "Finding",
    "GaussianNoise",
    "HistogramNoise",
    "MixtureNoise",
    "NoiseFit",
    "NoiseModel",
    "PoissonGaussianNoise",
    "calibrate",
    "diagnose",
    "estimate_noise",
    "fit_calibration",
    "fit_images",
    "fit_mixture",
    "fit_noise",
    "from_document",
    "mixture_of",
    "read_noise",
    "write_npz",
]

_FORMS: dict[str, tuple[Callable[..., NoiseModel], str]] = {
    "gaussian": (GaussianNoise, "SIGMA"),
    "poisson": (PoissonGaussianNoise, "GAIN,OFFSET,READ"),
}
_KINDS: dict[str, type[NoiseModel]] = {
    kind.kind: kind for kind in (GaussianNoise, PoissonGaussianNoise, MixtureNoise, HistogramNoise)
}


def fit_noise(noise: str | NoiseModel, stacks: Sequence[Frames]) -> NoiseFit:
    """Make the noise model that a setting names, with what the images themselves tell of their noise.

    Parameters
    ----------
    noise
        ``auto`` (estimate it from the images), a file, or ``gaussian:`` or ``poisson:`` with numbers; or a model.
    stacks
        The noisy images.

    Raises
    ------
    SettingError
        If the text has none of the forms, or the model does not cover the brightness of the images.
    ModelFileError
        If the file holds no noise model.
    ImageError
        If the noise is to be estimated and there is nothing to estimate it from.
    """
    given = noise if isinstance(noise, NoiseModel) else None if noise.strip() == "auto" else _given(noise.strip())
    try:
        fit = fit_images(stacks)
    except ImageError:
        if given is None:
            raise
        return NoiseFit.without_evidence(given)
    if given is None:
        return fit
    fit = replace(fit, model=given)
    fit.check_range()
    return fit


def _given(text: str) -> NoiseModel:
    if is_noise_file(text):
        return read_noise(text)
    name, _, numbers = text.partition(":")
    if name in _FORMS:
        model, form = _FORMS[name]
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if len(values) == form.count(",") + 1:
            return model(*values)
    raise SettingError(
        "Expected a noise model as auto, FILE.npz, FILE.npy, gaussian:SIGMA or poisson:GAIN,OFFSET,READ, "
        f"found {text!r}: change it"
    )


def from_document(document: dict[str, Any]) -> NoiseModel:
    """Rebuild a noise model from `NoiseModel.document`; `ModelFileError` if it is none."""
    parameters = dict(document)
    kind = parameters.pop("kind", None)
    if kind not in _KINDS:
        raise ModelFileError(f"Expected a noise model of kind {', '.join(_KINDS)}, found {kind!r}")
    try:
        return _KINDS[kind](**parameters)
    except TypeError as error:
        raise ModelFileError(f"The {kind} noise model has other parameters than expected: {error}") from error
