"""Noise model files: ``.json`` for any model, ``.npz`` (PPN2V, HDN) for mixtures, ``.npy`` (PN2V) for histograms.

None is ever unpickled. [docs/noise.md](../../../docs/noise.md) describes the JSON file.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.files import check_target, replacing
from ..data.npy_header import read_header
from ..data.read_json import read_json
from ..errors import ModelFileError, SettingError, reason
from .calibration import mixture_of
from .checked import checked
from .fit import NoiseFit
from .models import NoiseModel, from_document
from .tabulated import HistogramNoise, MixtureNoise

NPZ = ".npz"
JSON = ".json"
_FORMAT = "napari-direct-denoiser noise model"
_VERSION = 1
_LARGEST_MIXTURE, _LARGEST_HISTOGRAM = 2**20, 2**24  # bytes of an array
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
    except ModelFileError:
        raise
    except Exception as error:  # damaged files make zipfile, zlib and numpy raise errors of many kinds
        raise ModelFileError(f"{path} is not a readable noise model file ({reason(error)}): make it again") from error


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
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ModelFileError(f'{path} is JSON without "format": "{_FORMAT}": give a file that fit-noise wrote')
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= _VERSION:
        raise ModelFileError(
            f"Expected a noise model file of version {_VERSION}, found version {ascii(version)[:20]} in {path}: "
            "update napari-direct-denoiser, or make the file again"
        )
    return _checked(path, lambda: from_document(document["noise"]))


def _read_mixture(path: Path) -> NoiseModel:
    with zipfile.ZipFile(path) as stored:
        inside = {name.removesuffix(".npy"): stored.getinfo(name) for name in stored.namelist()}
        missing = [key for key in _KEYS if key not in inside]
        if missing:
            found = " ".join(", ".join(inside).split())[:200] or "nothing"
            raise ModelFileError(f"{path} lacks {', '.join(missing)} (it holds {found}): not a mixture noise model")
        numbers = []
        for key in _KEYS:
            with stored.open(inside[key]) as stream:
                numbers.append(_read_array(stream, inside[key].file_size, _LARGEST_MIXTURE))
    weight, low, high, floor = numbers
    for key, value in (("min_signal", low), ("max_signal", high), ("min_sigma", floor)):
        if value.size != 1:
            raise ModelFileError(f"{path}: expected one number as {key}, found shape {value.shape}")
    return _checked(path, lambda: MixtureNoise(torch.from_numpy(weight), low.item(), high.item(), floor.item()))


def _read_histogram(path: Path) -> NoiseModel:
    """Read the three planes of PN2V: probabilities (signal, noisy), lower and upper edges of the bins."""
    with open(path, "rb") as stream:
        planes = _read_array(stream, os.fstat(stream.fileno()).st_size, _LARGEST_HISTOGRAM)
    if planes.ndim != 3 or len(planes) != 3 or not planes.size:
        raise ModelFileError(
            f"Expected a PN2V histogram of shape (3, bins, bins) in {path}, found {planes.shape}: "
            "save it with the two planes of bin edges"
        )
    low, high = float(planes[1].min()), float(planes[2].max())
    return _checked(path, lambda: HistogramNoise(torch.from_numpy(planes[0]), low, high))


def _read_array(stream: Any, size: int, most: int) -> NDArray[np.float64]:
    """Read the numbers of an npy file of `size` bytes; `ValueError` if it holds other things, or over `most` bytes."""
    header = read_header(stream, size)
    if header.nbytes > most:
        raise ValueError(f"it holds {header.nbytes} bytes, more than any noise model ({most})")
    if header.dtype.kind not in "uif":
        raise ValueError(f"it holds {header.dtype}, not real numbers")
    flat = np.frombuffer(stream.read(header.nbytes), header.dtype)
    with np.errstate(over="ignore"):  # of long doubles
        return flat.reshape(header.shape, order="F" if header.fortran_order else "C").astype(np.float64)


def _checked(path: Path, make: Callable[[], NoiseModel]) -> NoiseModel:
    try:
        return checked(make)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
