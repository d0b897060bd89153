"""Noise models that anybody may have made: each is tried before it is used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..errors import DenoiserError, ModelFileError, reason
from .models import LARGEST_COUNT, NoiseModel

_SIDE = 32  # pixels of the image that a model is tried on
_USUAL = (0.0, 1000.0)  # signals that a model without a range is tried at, counts


def checked(make: Callable[[], NoiseModel]) -> NoiseModel:
    """Make a noise model, and compute with it once what training and prediction compute.

    Raises
    ------
    ModelFileError
        If it cannot be made, or gives numbers that are not finite.
    """
    try:
        with np.errstate(all="ignore"):
            model = make()
            bad = _not_finite(model)
    except DenoiserError as error:
        raise ModelFileError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"it has a value of the wrong kind ({reason(error)}): make it again") from error
    if bad:
        raise ModelFileError(f"the noise model gives a {bad} that is not finite and positive: make it again")
    return model


def _not_finite(model: NoiseModel) -> str:
    """What is not finite, or not positive where it has to be; empty if there is nothing."""
    low, high = (min(max(float(end), -LARGEST_COUNT), LARGEST_COUNT) for end in model.signal_range or _USUAL)
    signal = torch.linspace(low, high, _SIDE**2).reshape(1, 1, _SIDE, _SIDE)
    variance, noisy = model.variance(signal), model.sample(signal, torch.Generator().manual_seed(0))
    slope, intercept = model.linear_variance()
    found = {
        "variance": variance if bool((variance > 0).all()) else torch.tensor(torch.nan),
        "line of variances": torch.tensor([slope, intercept, model.energy]),
        "noisy image": noisy,
        "density": model.white_log_prob(model.whiten(noisy), model.whiten(signal)),
        "image": model.color(model.whiten(noisy)),
        "image that is denoised": torch.from_numpy(np.asarray(model.measured(noisy[0].numpy())[0])),
    }
    model.describe()
    return next((name for name, values in found.items() if not bool(values.isfinite().all())), "")
