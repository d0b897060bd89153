"""Model files: weights as safetensors, everything else as JSON in their metadata. Loading executes no code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, uint8

from .co_model import CoModel
from .config import HDNConfig
from .data.files import check_target, replacing
from .data.read_json import LARGEST, parse_json
from .errors import ModelFileError, reason
from .training.model_document import document_of, model_of
from .training.provenance import Provenance
from .training.state import State, pack, unpack
from .training.students import Student, take_weights, weights_of

FORMAT_VERSION = 2
"""Of files with several students, which older versions of this package cannot read."""
_FORMAT_OF_ONE = 1  # of files with one student, which they can
WEIGHTS = Path(__file__).parent / "weights" / "quick.safetensors"
"""Weights that training starts from, of both networks of the quick preset, in half precision.

Learned on simulated images by ``scripts/pretrain.py``.
"""
CORRELATED_WEIGHTS = WEIGHTS.with_name("quick-correlated.safetensors")
"""Weights of the Direct Denoiser for correlated noise: it sees whitened images then, which look different."""
SUFFIX = ".safetensors"
_RESUME = ".resume" + SUFFIX
KEY = "napari_direct_denoiser"
_LONGEST_VERSION = 40  # letters, in words
_LARGEST_HEADER = 2 * LARGEST  # bytes; the description is a text in it, whose quotes are escaped
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors calls them
_TRAINING_SHARE, _TRAINING_BYTES = 16, 2**28  # times the weights, and held-out patches: the most that a training needs


def check_model_output(path: str | Path) -> None:
    """Raise `SettingError` if a model cannot be written to `path`, before any work is done for it."""
    check_target(path, [SUFFIX], what="model file")


def save_model(path: str | Path, model: CoModel, provenance: Provenance, others: Sequence[Student] = ()) -> None:
    """Write a model, and other students of its teacher, atomically; `DenoiserError` if that is not possible."""
    save_checkpoint(path, model.state_dict() | weights_of(others), document_of(model, provenance, others))


def load_model(path: str | Path) -> tuple[CoModel, Provenance, list[Student]]:
    """Read a model, on the CPU, its provenance, and other students of its teacher.

    Raises `ModelFileError` as `load_checkpoint`, or if the file holds no model.

    Nothing of the file is taken on trust: what its networks need is compared with what it has before memory is taken
    for either, and they are tried on a small plane.
    """
    with _opened(path) as file, _describing(file):
        with torch.device("meta"):  # networks without memory
            model, provenance, others = model_of(file.document)
        _check_same(model.state_dict() | weights_of(others), file.promised())
        tensors = file.read()
        model.load_state_dict({name: tensors[name] for name in model.state_dict()}, assign=True)
        take_weights(others, tensors)
        for each in (model.eval(), *(student.used_in(model) for student in others)):
            _try(each)
    return model, provenance, others


def resume_path(model: Path) -> Path:
    """The file beside a model file from which an interrupted training of it goes on."""
    return model.with_name(model.stem + _RESUME)


def save_training(
    path: str | Path, model: CoModel, provenance: Provenance, state: State, others: Sequence[Student] = ()
) -> None:
    """Write an interrupted training, atomically; `DenoiserError` if that is not possible."""
    tensors = weights_of(others)
    packed = pack(state, tensors)
    save_checkpoint(path, tensors, {**document_of(model, provenance, others), "training": packed})


def load_training(path: str | Path) -> tuple[CoModel, Provenance, list[Student], State]:
    """Read an interrupted training: the model without its weights, its provenance, other students, and the state.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, or written by another version of this package.
    """
    try:
        with _opened(path) as file, _describing(file):
            with torch.device("meta"):
                model, _, others = model_of(file.document)
                weights = sum(tensor.nbytes for tensor in (model.state_dict() | weights_of(others)).values())
            if not weights < file.size < _TRAINING_SHARE * weights + _TRAINING_BYTES:
                raise ModelFileError(
                    f"{path} of {file.size} bytes is no training of networks of {weights} bytes: copy it again"
                )
            model, provenance, others = model_of(file.document)
            if provenance.version != version("napari-direct-denoiser"):
                raise ModelFileError(
                    f"{path} was written by version {provenance.version}, this is version "
                    f"{version('napari-direct-denoiser')}: go on with that version"
                )
            if "training" not in file.document:
                raise ModelFileError(
                    f"{path} is a finished model, not an interrupted training: choose a *{_RESUME} file"
                )
            tensors = file.read()
            take_weights(others, tensors)
            return model, provenance, others, unpack(file.document["training"], tensors)
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
    written = FORMAT_VERSION if "students" in document else _FORMAT_OF_ONE
    header = json.dumps({"format": written, "sha256": _digest(copies, text), "document": text})
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
    with _opened(path) as file:
        return file.read(), file.document


def newer_version(document: dict[str, Any]) -> str | None:
    """Version of the package that wrote a document, if it is newer than this one."""
    provenance = document.get("provenance")
    written = str(provenance.get("version", "")) if isinstance(provenance, dict) else ""
    return written[:_LONGEST_VERSION] if _release(written) > _release(version("napari-direct-denoiser")) else None


def start_from_pretrained(model: CoModel) -> None:
    """Load the weights that come with the package for such noise into a model with the networks of the quick preset.

    They hold no DivNoising: with this teacher only the Direct Denoiser has a start.
    """
    weights = load_file(WEIGHTS)
    if model.noise.reach:  # images are whitened
        weights |= load_file(CORRELATED_WEIGHTS)
    if isinstance(model.config.hdn, HDNConfig):
        model.load_state_dict(weights)
    else:
        prefix = "unet."
        model.unet.load_state_dict({name[len(prefix) :]: weights[name] for name in weights if name.startswith(prefix)})


class _File:
    """A model file whose header is read and checked. Its numbers are read when they are asked for."""

    def __init__(self, path: Path, tensors: Any) -> None:
        self.path, self.size = path, path.stat().st_size
        self._tensors = tensors
        header = _header(path, tensors.metadata())
        self._sha256, self._text = header["sha256"], header["document"]
        document = _parsed(self._text)
        if document is None:
            raise ModelFileError(f"{path} has no readable description of its model: copy it again or train a new model")
        self.document = document

    def promised(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind of numbers and shape of each tensor, by its name."""
        slices = {name: self._tensors.get_slice(name) for name in self._tensors.keys()}  # noqa: SIM118 (not a dict)
        return {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}

    def read(self) -> dict[str, Tensor]:
        """Read all tensors, in memory of their own, and verify the checksum."""
        # Copies: a file that is still mapped into memory cannot be replaced on Windows.
        tensors = {name: self._tensors.get_tensor(name).clone() for name in self._tensors.keys()}  # noqa: SIM118
        if _digest(tensors, self._text) != self._sha256:
            raise ModelFileError(
                f"{self.path} is damaged, its checksum does not match: copy it again or train a new model"
            )
        return tensors


@contextmanager
def _opened(path: str | Path) -> Iterator[_File]:
    """Open a model file; raises as `load_checkpoint`."""
    source = Path(path)
    if source.is_dir():
        raise ModelFileError(f"Expected a model file, found the folder {source}: name the {SUFFIX} file inside it")
    if not source.exists():
        raise ModelFileError(f"The model file {source} does not exist: check the name, or train a model first")
    if not source.is_file():  # to read a pipe could take for ever
        raise ModelFileError(f"Expected a model file, found the pipe or device {source}: name a {SUFFIX} file")
    try:
        with source.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ModelFileError(f"{source} is not a model file, its header would have {length} bytes: choose another")
        with safe_open(source, framework="pt", device="cpu") as tensors:
            yield _File(source, tensors)
    except (SafetensorError, OSError, RuntimeError, UnicodeError) as error:  # RuntimeError: it cannot be mapped
        raise ModelFileError(
            f"{source} ({source.stat().st_size} bytes) is not a model file or is truncated ({reason(error)}): "
            f"copy it again, or choose a {SUFFIX} file written by this package"
        ) from error


@contextmanager
def _describing(file: _File) -> Iterator[None]:
    """Turn all that a wrong description causes into a `ModelFileError`."""
    try:
        yield
    except (ModelFileError, SafetensorError, OSError):
        raise
    except Exception as error:  # a description may be wrong in any way
        raise _no_model(file.path, file.document, error) from error


def _check_same(expected: dict[str, Tensor], promised: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Raise `ValueError` unless a file has the tensors that a model needs."""
    wanted = {name: (_DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in expected.items()}
    for name in sorted(wanted.keys() | promised.keys()):
        if wanted.get(name) != promised.get(name):
            raise ValueError(f"expected {name[:80]} as {wanted.get(name)}, found {promised.get(name)}")


def _try(model: CoModel) -> None:
    """Raise `ValueError` if a model gives no numbers for a small plane as bright as its training images."""
    normalization, generator = model.normalization, torch.Generator().manual_seed(0)
    plane = torch.randn((1, 1, model.multiple, model.multiple), generator=generator)
    plane = normalization.mean + normalization.std * plane
    with torch.inference_mode():
        denoised, std = model.direct_with_std(plane) if model.has_std else (model.direct(plane), plane)
        sample = model.sample(model.encode(plane), [generator])
    if not all(bool(each.isfinite().all()) for each in (denoised, std, sample)):
        raise ValueError("its weights or statistics give no finite image")


def _no_model(path: str | Path, document: dict[str, Any], error: Exception) -> ModelFileError:
    if newer := newer_version(document):
        return ModelFileError(
            f"{path} was written by version {newer}, this is version {version('napari-direct-denoiser')}, which "
            "does not know all of it: upgrade napari-direct-denoiser"
        )
    why = f"it lacks {error}" if isinstance(error, KeyError) else reason(error)
    return ModelFileError(f"{path} does not hold a model of this package ({why}): copy it again, or train again")


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
        found = parse_json(text)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _release(text: str) -> tuple[int, ...]:
    """Numbers of a version, such as (0, 2, 1) for 0.2.1rc1; () if there are none."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Checksum over the description, and over name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
