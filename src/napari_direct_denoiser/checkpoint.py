"""Model files: weights as safetensors, everything else as JSON in their metadata. Loading executes no code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, uint8

from .data.files import check_target, replacing
from .errors import ModelFileError

if TYPE_CHECKING:
    from .co_model import CoModel

FORMAT_VERSION = 1
"""Increased when older versions of this package can no longer read the files."""
WEIGHTS = Path(__file__).parent / "weights" / "quick.safetensors"
"""Weights that training starts from, of both networks of the quick preset, in half precision.

Learned on simulated images by ``scripts/pretrain.py``.
"""
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
        The other content; anything that JSON can hold.

    Raises
    ------
    DenoiserError
        If the file cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(document)
    header = json.dumps({"format": FORMAT_VERSION, "sha256": _digest(copies, text), "document": text})
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(save(copies, metadata={KEY: header}))
        file.flush()
        os.fsync(file.fileno())  # or a crash of the machine could leave the name without the bytes


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model file and verify its checksum.

    Parameters
    ----------
    path : path-like
        A file written by `save_checkpoint`.

    Returns
    -------
    tensors : dict of str to Tensor
        Weights and buffers on the CPU, in memory of their own.
    document : dict
        The other content.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of a newer format, or no model file of this package.
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
        raise ModelFileError(f"{source} is damaged, its checksum does not match: copy it again or train a new model")
    document = _parsed(header["document"])
    if document is None:
        raise ModelFileError(f"{source} has no readable description of its model: train a new model")
    return tensors, document


def newer_version(document: dict[str, Any]) -> str | None:
    """Version of the package that wrote a document, if it is newer than this one."""
    provenance = document.get("provenance")
    written = str(provenance.get("version", "")) if isinstance(provenance, dict) else ""
    return written if _release(written) > _release(version("napari-direct-denoiser")) else None


def start_from_pretrained(model: CoModel) -> None:
    """Load the weights that come with the package into a model with the networks of the quick preset."""
    model.load_state_dict(load_file(WEIGHTS))


def _header(source: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    """Our part of the metadata, checked: a format that this version reads, a checksum and a description."""
    header = _parsed((metadata or {}).get(KEY))
    if header is None or not isinstance(header.get("format"), int):
        raise ModelFileError(
            f"{source} is a safetensors file, but not one of a Direct Denoiser: choose one written by this package"
        )
    if header["format"] > FORMAT_VERSION:
        writer = newer_version(_parsed(header.get("document")) or {})
        by = f"was written by version {writer} and " if writer else ""
        raise ModelFileError(
            f"{source} {by}has format {header['format']}; this is version {version('napari-direct-denoiser')}, which "
            f"reads up to {FORMAT_VERSION}: upgrade napari-direct-denoiser"
        )
    for name, what in (("document", "description of its model"), ("sha256", "checksum")):
        if not isinstance(header.get(name), str):
            raise ModelFileError(f"{source} has no {what}: copy it again or train a new model")
    return header


def _parsed(text: Any) -> dict[str, Any] | None:
    """The object that a JSON text holds; None if it is no such text."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _release(text: str) -> tuple[int, ...]:
    """Numbers of a version, such as (0, 2, 1) for 0.2.1rc1; () if there are none."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Checksum over the description, and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
