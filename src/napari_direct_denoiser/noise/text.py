"""Noise models by their text forms, such as ``poisson:2,100,3+x:0.5``, for settings and the command line."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError, SettingError
from .checked import checked
from .files import is_noise_file, read_noise
from .models import NoiseModel
from .scaled import ScaledCorrelatedNoise

_MOST = 16  # coefficients along an axis


def parse_noise(text: str) -> NoiseModel:
    """Read the file, or make the model, that a text names.

    Parameters
    ----------
    text
        A noise model file, or a kind and its numbers. ``+x:C1,C2,...`` and ``+y:...`` after the numbers correlate the
        noise along an axis: Ck is the weight of the k-th pixel before in the linear prediction of a pixel's noise. With
        both axes, the two prediction filters are applied one after the other. The numbers stay those of single pixels.

    Raises
    ------
    SettingError
        If the text has none of the forms, or its numbers make no noise model.
    ModelFileError
        If the file holds no noise model.
    """
    if is_noise_file(text.strip()):
        return read_noise(text.strip())
    try:
        return checked(lambda: _parsed(text))
    except ModelFileError as error:
        raise SettingError(f"{error}, found {text!r}") from error


def _parsed(text: str) -> NoiseModel:
    base, *parts = re.split(r"\+(?=[xy]:)", text)
    noise = _independent(base.strip(), text)
    if not parts:
        return noise
    along: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        axis, _, numbers = part.strip().partition(":")
        if axis in along:
            raise SettingError(f"Expected +{axis}:... once, found it twice in {text!r}: put all coefficients in one")
        along[axis] = _filter(axis, numbers, text)
    one = np.ones(1)
    y, x = along.get("y", one), along.get("x", one)
    whitening = np.zeros((len(y), 2 * len(x) - 1))
    whitening[:, : len(x)] = np.outer(y[::-1], x[::-1])  # the last row is the pixel's own, its middle the pixel
    coefficients = -whitening
    coefficients[-1, len(x) - 1] = 0
    return ScaledCorrelatedNoise.of(noise, coefficients)


def _filter(axis: str, numbers: str, text: str) -> NDArray[np.float64]:
    """The filter 1, -C1, -C2, ... that subtracts the prediction along an axis."""
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= _MOST or not all(map(math.isfinite, values)):
        raise SettingError(
            f"Expected 1 to {_MOST} coefficients after +{axis}:, nearest pixel first, such as +{axis}:0.5,-0.1, "
            f"found {numbers!r} in {text!r}: change the setting"
        )
    return np.array([1.0, *(-value for value in values)])


def _independent(base: str, text: str) -> NoiseModel:
    """The model of single pixels; ``text`` is the whole setting, for the error."""
    if is_noise_file(base):
        return read_noise(base)
    with_form = {kind: model for kind, model in NoiseModel.kinds.items() if model.form}
    kind, _, numbers = base.partition(":")
    if kind in with_form:
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if len(values) == len(with_form[kind].form.split(",")):
            return with_form[kind](*values)
    files = ["FILE.json", "FILE.npz", "FILE.npy"]
    forms = ["auto", *files, *(f"{kind}:{model.form}" for kind, model in with_form.items())]
    raise SettingError(
        f"Expected a noise model as {', '.join(forms[:-1])} or {forms[-1]}, the last ones also with +x:C1,C2,... and "
        f"+y:C1,C2,... for correlated noise, found {text!r}: change the setting"
    )
