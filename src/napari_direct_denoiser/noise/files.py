"""Noise model files: ``.npz`` of PPN2V, DivNoising, HDN and CAREamics, ``.npy`` of PN2V. Never unpickles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from ..data.files import check_target, replacing
from ..errors import ModelFileError
from .histogram import HistogramNoise
from .mixture import MixtureNoise
from .models import NoiseModel

_KEYS = ("trained_weight", "min_signal", "max_signal", "min_sigma")
NPZ = ".npz"


def is_noise_file(name: str) -> bool:
    """Whether a text names a noise model file rather than a noise model."""
    return name.lower().endswith((NPZ, ".npy"))


def read_noise(path: str | Path) -> NoiseModel:
    """Read a noise model: a Gaussian mixture (``.npz``) or a histogram (``.npy``).

    `ModelFileError` if the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"No noise model file at {path}: check the path")
    read = _histogram if path.suffix.lower() == ".npy" else _mixture
    try:
        return read(path)
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path} is not a readable noise model file ({error}): make it again") from error


def write_npz(path: str | Path, model: MixtureNoise) -> None:
    """Write a mixture as the published code does, atomically; `DenoiserError` if that is not possible."""
    check_target(path, [NPZ], what="noise model")
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            trained_weight=model.weight.cpu().numpy(),
            min_signal=np.array([model.min_signal]),
            max_signal=np.array([model.max_signal]),
            min_sigma=np.array(model.min_sigma),
        )


def _mixture(path: Path) -> MixtureNoise:
    with np.load(path, allow_pickle=False) as stored:
        missing = [key for key in _KEYS if key not in stored]
        if missing:
            found = ", ".join(stored.files) or "nothing"
            raise ModelFileError(f"{path} lacks {', '.join(missing)} (it holds {found}): not a mixture noise model")
        weight, low, high, floor = (np.asarray(stored[key], dtype=np.float64) for key in _KEYS)
    for key, value in (("min_signal", low), ("max_signal", high), ("min_sigma", floor)):
        if value.size != 1:
            raise ModelFileError(f"{path}: expected one number as {key}, found shape {value.shape}")
    return MixtureNoise(torch.from_numpy(weight), low.item(), high.item(), floor.item())


def _histogram(path: Path) -> HistogramNoise:
    """The three planes of PN2V: parts of 1 (signal, noisy), lower and upper edges of the bins."""
    planes = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    if planes.ndim != 3 or len(planes) != 3:
        raise ModelFileError(
            f"Expected a PN2V histogram of shape (3, bins, bins) in {path}, found {planes.shape}: "
            "two planes with the edges of the bins belong to it"
        )
    return HistogramNoise(torch.from_numpy(planes[0]), float(planes[1].min()), float(planes[2].max()))
