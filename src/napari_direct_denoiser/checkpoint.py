"""A model as one safetensors file: the weights, and everything else as JSON in its metadata. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from .data.files import check_target, replacing
from .errors import ModelFileError

FORMAT_VERSION = 1
"""Raised when a file can no longer be read by older versions of this package."""
SUFFIX = ".safetensors"
KEY = "napari_direct_denoiser"


def check_model_output(path: str | Path) -> None:
    """Raise `SettingError` if a model cannot be written to `path`, before any work is done for it."""
    check_target(path, [SUFFIX], what="model file")


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
    """Write a model file, completely or not at all.

    Parameters
    ----------
    path : path-like
        The file; an existing one is replaced.
    tensors : dict of str to Tensor
        Weights and buffers, on any device.
    document : dict
        What else is to be kept; anything that JSON can hold.

    Raises
    ------
    DenoiserError
        If the file cannot be written.
    """
    # Copies of their own: safetensors refuses tensors that share memory, as tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(document)
    header = json.dumps({"format": FORMAT_VERSION, "sha256": _digest(copies, text), "document": text})
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(save(copies, metadata={KEY: header}))
        file.flush()
        os.fsync(file.fileno())  # or a crash of the machine could leave the name without the bytes


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model file and verify that it holds what was saved.

    Parameters
    ----------
    path : path-like
        A file written by `save_checkpoint`.

    Returns
    -------
    tensors : dict of str to Tensor
        Weights and buffers on the CPU, in memory of their own.
    document : dict
        What was kept beside them.

    Raises
    ------
    ModelFileError
        If the file is missing, none of ours, damaged, or of a newer format.
    """
    source = Path(path)
    if source.is_dir():
        raise ModelFileError(f"Expected a model file, found the folder {source}: name the {SUFFIX} file inside it")
    if not source.is_file():
        raise ModelFileError(f"The model file {source} does not exist: check the name, or train a model first")
    try:
        with safe_open(source, framework="pt", device="cpu") as file:
            header = _header(source, file.metadata())
            # Copies: a file that is still mapped into memory cannot be replaced on Windows.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{source} ({source.stat().st_size} bytes) is not a model file or is truncated ({error}): "
            f"copy it again, or choose a {SUFFIX} file written by this package"
        ) from error
    if _digest(tensors, header["document"]) != header["sha256"]:
        raise ModelFileError(f"{source} was damaged, its checksum does not match: copy it again or train a new model")
    document: dict[str, Any] = json.loads(header["document"])
    return tensors, document


def _header(source: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    """Our part of the metadata, of a format that this version can read."""
    try:
        header: dict[str, Any] = json.loads((metadata or {})[KEY])
        version = int(header["format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{source} is a safetensors file, but not one of a Direct Denoiser: choose one written by this package"
        ) from error
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{source} has format {version}, this version reads up to {FORMAT_VERSION}: upgrade napari-direct-denoiser"
        )
    if not isinstance(header.get("document"), str):
        raise ModelFileError(f"{source} has no description of its model: copy it again or train a new model")
    return header


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Checksum over the description, and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
