"""Noise models p(noisy | signal): given by numbers, read from a file, or estimated from the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .estimation import estimate_noise
from .files import read_npz
from .models import GaussianNoise, MixtureNoise, NoiseModel, PoissonGaussianNoise, from_document

__all__ = [
    "GaussianNoise",
    "MixtureNoise",
    "NoiseModel",
    "PoissonGaussianNoise",
    "estimate_noise",
    "from_document",
    "noise_from_text",
    "read_npz",
]

_FORMS: dict[str, tuple[Callable[..., NoiseModel], str]] = {
    "gaussian": (GaussianNoise, "SIGMA"),
    "poisson": (PoissonGaussianNoise, "GAIN,OFFSET,READ"),
}


def noise_from_text(text: str, stacks: Sequence[NDArray[np.generic]]) -> NoiseModel:
    """Make the noise model that a setting names; ``auto`` estimates it from ``stacks`` (planes, Y, X).

    Raises `SettingError` if the text has none of the forms, `ModelFileError` if the file is none.
    """
    text = text.strip()
    if text == "auto":
        return estimate_noise(stacks)
    if text.lower().endswith(".npz"):
        return read_npz(text)
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
        f"Expected a noise model as auto, FILE.npz, gaussian:SIGMA or poisson:GAIN,OFFSET,READ, found {text!r}"
    )
