"""Model files: weights as safetensors, everything else as JSON in their metadata. Loading executes no code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, uint8

from .co_model import CoModel
from .config import HDNConfig, ModelConfig
from .data.files import check_target, replacing
from .errors import ModelFileError
from .noise import from_document
from .normalization import Normalization
from .std_calibration import StdCalibration
from .training.provenance import Provenance
from .training.state import State

FORMAT_VERSION = 1
"""Increased when older versions of this package can no longer read the files."""
WEIGHTS = Path(__file__).parent / "weights" / "quick.safetensors"
"""Weights that training starts from, of both networks of the quick preset, in half precision.

Learned on simulated images by ``scripts/pretrain.py``.
"""
SUFFIX = ".safetensors"
_RESUME = ".resume" + SUFFIX
KEY = "napari_direct_denoiser"


def check_model_output(path: str | Path) -> None:
    """Raise `SettingError` if a model cannot be written to `path`, before any work is done for it."""
    check_target(path, [SUFFIX], what="model file")


def save_model(path: str | Path, model: CoModel, provenance: Provenance) -> None:
    """Write a model file, atomically; `DenoiserError` if that is not possible."""
    save_checkpoint(path, model.state_dict(), _document(model, provenance))


def load_model(path: str | Path) -> tuple[CoModel, Provenance]:
    """Read a model, on the CPU, and its provenance; `ModelFileError` as `load_checkpoint`, or if it holds no model."""
    tensors, document = load_checkpoint(path)
    model, provenance = _model(path, document)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise _no_model(path, document, error) from error
    return model, provenance


def resume_path(model: Path) -> Path:
    """The file beside a model file from which an interrupted training of it goes on."""
    return model.with_name(model.stem + _RESUME)


def save_training(path: str | Path, model: CoModel, provenance: Provenance, state: State) -> None:
    """Write an interrupted training, atomically; `DenoiserError` if that is not possible."""
    tensors: dict[str, Tensor] = {}
    packed = _packed(state, tensors)
    save_checkpoint(path, tensors, {**_document(model, provenance), "training": packed})


def load_training(path: str | Path) -> tuple[CoModel, Provenance, State]:
    """Read an interrupted training: the model without its weights, its provenance, and the state.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, or written by another version of this package.
    """
    try:
        tensors, document = load_checkpoint(path)
        model, provenance = _model(path, document)
        if provenance.version != version("napari-direct-denoiser"):
            raise ModelFileError(
                f"{path} was written by version {provenance.version}, this is version "
                f"{version('napari-direct-denoiser')}: go on with that version"
            )
        if "training" not in document:
            raise ModelFileError(f"{path} is a finished model, not an interrupted training: choose a *{_RESUME} file")
        return model, provenance, _unpacked(document["training"], tensors)
    except ModelFileError as error:
        raise ModelFileError(f"{error}; or delete it to start from the beginning") from error


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
    """Load the weights that come with the package into a model with the networks of the quick preset.

    They hold no DivNoising: with this teacher only the Direct Denoiser has a start.
    """
    weights = load_file(WEIGHTS)
    if isinstance(model.config.hdn, HDNConfig):
        model.load_state_dict(weights)
    else:
        prefix = "unet."
        model.unet.load_state_dict({name[len(prefix) :]: weights[name] for name in weights if name.startswith(prefix)})


def _document(model: CoModel, provenance: Provenance) -> dict[str, Any]:
    """What a file tells of a model beside its weights."""
    return {
        "config": model.config.model_dump(mode="json"),
        "scaling": model.normalization.model_dump(mode="json"),
        "noise": model.noise.document(),
        "calibration": model.std_calibration.model_dump(mode="json"),
        "provenance": provenance.model_dump(mode="json"),
    }


def _model(path: str | Path, document: dict[str, Any]) -> tuple[CoModel, Provenance]:
    """A model without its weights, and its provenance."""
    try:
        config = ModelConfig.model_validate(document["config"])
        normalization = Normalization.model_validate(document["scaling"])
        provenance = Provenance.model_validate(document["provenance"])
        model = CoModel(config, from_document(document["noise"]), normalization)
        model.std_calibration = StdCalibration.model_validate(document.get("calibration", {}))
    except Exception as error:  # a document may be wrong in any way
        raise _no_model(path, document, error) from error
    return model, provenance


def _no_model(path: str | Path, document: dict[str, Any], error: Exception) -> ModelFileError:
    if newer := newer_version(document):
        return ModelFileError(
            f"{path} was written by version {newer}, this is version {version('napari-direct-denoiser')}, which "
            "does not know all of it: upgrade napari-direct-denoiser"
        )
    reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
    return ModelFileError(f"{path} does not hold a model of this package ({reason}): train again")


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn nested containers into JSON that refers to ``tensors``, to which theirs are added."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):  # keys may be numbers
        return {"dict": [[key, _packed(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(each, tensors) for each in value]}
    return value


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `_packed`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(each, tensors) for key, each in content}
    values = [_unpacked(each, tensors) for each in content]
    return tuple(values) if kind == "tuple" else values


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
