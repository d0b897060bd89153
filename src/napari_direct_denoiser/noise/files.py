"""Noise model files: ``.json`` for any model, ``.npz`` (PPN2V, HDN) for mixtures, ``.npy`` (PN2V) for histograms.

None is ever unpickled. [docs/noise.md](../../../docs/noise.md) describes the JSON file.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.files import check_target, replacing
from ..errors import ModelFileError, SettingError
from .calibration import mixture_of
from .fit import NoiseFit
from .models import NoiseModel, from_document
from .tabulated import HistogramNoise, MixtureNoise

NPZ = ".npz"
JSON = ".json"
_FORMAT = "napari-direct-denoiser noise model"
_VERSION = 1
_LARGEST = 64 * 2**20  # bytes of a JSON file
_KEYS = ("trained_weight", "min_signal", "max_signal", "min_sigma")


def is_noise_file(name: str) -> bool:
    """Whether a text names a noise model file rather than a noise model."""
    return name.lower().endswith((JSON, NPZ, ".npy"))


def read_noise(path: str | Path) -> NoiseModel:
    """Read a noise model file: any model (``.json``), a Gaussian mixture (``.npz``) or a histogram (``.npy``).

    Raises
    ------
    ModelFileError
        If the file is missing or holds no noise model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"No noise model file at {path}: check the path")
    readers = {JSON: _read_json, ".npy": _read_histogram}
    try:
        return readers.get(path.suffix.lower(), _read_mixture)(path)
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path} is not a readable noise model file ({error}): make it again") from error


def write_noise(path: str | Path, noise: NoiseModel | NoiseFit) -> None:
    """Write a noise model file.

    Parameters
    ----------
    path
        The file: ``.json`` for any model, or ``.npz`` for a Gaussian mixture in the layout of the published code.
    noise
        The model, or a fit. For ``.npz``, a fit of another kind of independent noise is approximated by a mixture,
        without clipping, steps and offsets of lines.

    Raises
    ------
    SettingError
        If the suffix is another one, the folder does not exist or cannot be written to, or ``.npz`` cannot hold the
        noise.
    DenoiserError
        If writing fails, for example on a full disk. Then no file is left behind.
    """
    check_target(path, [NPZ, JSON], what="noise model")
    model = noise.model if isinstance(noise, NoiseFit) else noise
    if Path(path).suffix.lower() == JSON:
        document = {"format": _FORMAT, "version": _VERSION, "noise": model.document()}
        with replacing(path) as draft:
            draft.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    elif isinstance(model, MixtureNoise):
        write_npz(path, model)
    elif isinstance(noise, NoiseFit) and not model.reach:
        write_npz(path, mixture_of(noise))
    else:
        kind = "correlated" if model.reach else model.kind
        raise SettingError(
            f"Expected a Gaussian mixture for {Path(path).name}, found {kind} noise, which {NPZ} files cannot hold: "
            f"write it to a {JSON} file"
        )


def write_npz(path: str | Path, model: MixtureNoise) -> None:
    """Write a mixture in the layout of the published code; raises as `write_noise`."""
    check_target(path, [NPZ], what="noise model")
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            trained_weight=model.weight.cpu().numpy(),
            min_signal=np.array([model.min_signal]),
            max_signal=np.array([model.max_signal]),
            min_sigma=np.array(model.min_sigma),
        )


def _read_json(path: Path) -> NoiseModel:
    with open(path, "rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ModelFileError(
            f"Expected a noise model file of at most {_LARGEST >> 20} MB, found {path} of "
            f"{path.stat().st_size / 2**20:.0f} MB: it is none, or write it again"
        )
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ModelFileError(f"{path} is nested too deeply for a noise model file: make it again") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ModelFileError(f'{path} is JSON without "format": "{_FORMAT}": give a file that fit-noise wrote')
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= _VERSION:
        raise ModelFileError(
            f"Expected a noise model file of version {_VERSION}, found version {version!r} in {path}: "
            "update napari-direct-denoiser, or make the file again"
        )
    try:
        return _from_json(document.get("noise"))
    except (ModelFileError, SettingError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _from_json(document: Any) -> NoiseModel:
    """Rebuild the model. Values of a wrong type surface as any of these errors, from Python, numpy or torch."""
    try:
        model = from_document(document)
        tried = torch.full((1, 8, 8), 1000.0)
        finite = bool(model.log_prob(tried, tried).isfinite().all())
        model.describe()
    except (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ModelFileError(f"the noise model has a value of the wrong kind ({error}): make the file again") from error
    if not finite:
        raise ModelFileError("the noise model gives a density that is not finite: make the file again")
    return model


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _read_mixture(path: Path) -> MixtureNoise:
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


def _read_histogram(path: Path) -> HistogramNoise:
    """Read the three planes of PN2V: probabilities (signal, noisy), lower and upper edges of the bins."""
    planes = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    if planes.ndim != 3 or len(planes) != 3:
        raise ModelFileError(
            f"Expected a PN2V histogram of shape (3, bins, bins) in {path}, found {planes.shape}: "
            "save it with the two planes of bin edges"
        )
    return HistogramNoise(torch.from_numpy(planes[0]), float(planes[1].min()), float(planes[2].max()))
