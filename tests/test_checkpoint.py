"""A model file holds exactly what was saved, or says clearly why it cannot be read."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from napari_direct_denoiser import checkpoint
from napari_direct_denoiser.checkpoint import check_model_output, load_checkpoint, save_checkpoint
from napari_direct_denoiser.errors import DenoiserError, ModelFileError, SettingError

DOCUMENT = {"preset": "quick", "history": [[1, 0.5], [2, None]], "note": "µm", "nested": {"a": [True]}}


def tensors() -> dict[str, torch.Tensor]:
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    return {
        "weight": weight,
        "tied": weight,
        "half": torch.randn(7).bfloat16(),
        "count": torch.tensor(3),
        "none": torch.empty(0),
        "view": torch.arange(12).reshape(3, 4).T,
        "parameter": torch.nn.Parameter(torch.tensor([float("inf"), -0.0])),
    }


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    path, saved = tmp_path / "m.safetensors", tensors()
    save_checkpoint(path, saved, DOCUMENT)
    loaded, document = load_checkpoint(path)
    assert document == DOCUMENT
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype, name
        assert torch.equal(loaded[name], tensor), name
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_loaded_file_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1000)}, {})
    loaded, _ = load_checkpoint(path)
    save_checkpoint(path, {"a": torch.ones(1000)}, {})
    assert not loaded["a"].any()
    assert load_checkpoint(path)[0]["a"].all()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, {"a": torch.zeros(3)}, {"n": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(DenoiserError, match="No space left"):
        save_checkpoint(path, {"a": torch.ones(3)}, {"n": 2})
    assert load_checkpoint(path)[1] == {"n": 1}
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tensors(), DOCUMENT)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelFileError, match="truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize("where", [-1, -40])
def test_a_damaged_file_is_refused(tmp_path: Path, where: int) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, {"a": torch.randn(100)}, DOCUMENT)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(path)


def test_a_file_of_a_newer_format_names_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT_VERSION", 7)
        save_checkpoint(path, tensors(), {**DOCUMENT, "students": []})
    with pytest.raises(ModelFileError, match=r"format 7.*up to 2.*upgrade"):
        load_checkpoint(path)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT_VERSION", 7)
        save_checkpoint(path, tensors(), {"provenance": {"version": "99.1"}, "students": []})
    here = re.escape(version("napari-direct-denoiser"))
    with pytest.raises(ModelFileError, match=rf"version 99\.1 and has format 7; this is version {here}.*upgrade"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"format": 1, "document": "{}"}, "no checksum"),
        ({"format": 1, "document": "{}", "sha256": 3}, "no checksum"),
        ({"format": 1, "sha256": ""}, "no description"),
        ({"format": 1, "sha256": "", "document": {}}, "no description"),
        ({"format": "one", "sha256": "", "document": "{}"}, "not one of a Direct Denoiser"),
        ({"format": None}, "not one of a Direct Denoiser"),
    ],
)
def test_a_header_that_lacks_something_is_said_in_words(tmp_path: Path, header: dict[str, Any], words: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path, {checkpoint.KEY: json.dumps(header)})
    with pytest.raises(ModelFileError, match=words):
        load_checkpoint(path)


@pytest.mark.parametrize("document", ["no json", "[]", "3"])
def test_a_description_that_is_none_is_said_in_words(
    tmp_path: Path, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    with monkeypatch.context() as wrong:
        real = json.dumps
        wrong.setattr(checkpoint.json, "dumps", lambda value: document if value == DOCUMENT else real(value))
        save_checkpoint(path, tensors(), DOCUMENT)
    with pytest.raises(ModelFileError, match="no readable description"):
        load_checkpoint(path)


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("loading ran code",)


@pytest.mark.parametrize(
    "data",
    [pickle.dumps(Bomb()), b"II*\0" + bytes(100), b"text", struct.pack("<Q", 2**60) + b"{}"],
    ids=["pickle", "tiff", "text", "huge header"],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="not a model file"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {}, {checkpoint.KEY: "no json"}, {checkpoint.KEY: "[]"}])
def test_safetensors_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(ModelFileError, match="not one of a Direct Denoiser"):
        load_checkpoint(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="folder"):
        load_checkpoint(tmp_path)


def test_outputs_are_checked_before_work(tmp_path: Path) -> None:
    check_model_output(tmp_path / "m.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name, words in [
        ("m.pt", "safetensors"),
        ("none/m.safetensors", "none does not exist: create it first"),
        ("folder.safetensors", "found the folder"),
    ]:
        with pytest.raises(SettingError, match=words):
            check_model_output(tmp_path / name)
