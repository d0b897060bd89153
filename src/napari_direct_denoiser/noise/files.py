"""Noise model files: the ``.npz`` layout of PPN2V, DivNoising, HDN and CAREamics. Never unpickles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from ..errors import ModelFileError
from .models import MixtureNoise

_KEYS = ("trained_weight", "min_signal", "max_signal", "min_sigma")


def read_npz(path: str | Path) -> MixtureNoise:
    """Read a Gaussian mixture noise model; `ModelFileError` if the file is missing or holds something else."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"No noise model file at {path}: check the path")
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [key for key in _KEYS if key not in stored]
            if missing:
                found = ", ".join(stored.files) or "nothing"
                raise ModelFileError(f"{path} lacks {', '.join(missing)} (it holds {found}): not a mixture noise model")
            weight, low, high, floor = (np.asarray(stored[key], dtype=np.float64) for key in _KEYS)
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path} is not a readable .npz noise model ({error}): make it again") from error
    for key, value in (("min_signal", low), ("max_signal", high), ("min_sigma", floor)):
        if value.size != 1:
            raise ModelFileError(f"{path}: expected one number as {key}, found shape {value.shape}")
    return MixtureNoise(torch.from_numpy(weight), low.item(), high.item(), floor.item())
