"""JSON of strangers takes neither memory nor time, nor waits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from napari_direct_denoiser.data.read_json import LARGEST, parse_json, read_json


def test_reads_what_is_usual(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "µ"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "µ"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        (" " * (LARGEST + 1), "longer than"),
        ("[" + "{}," * 300_000 + "0]", "lists and objects"),
        ("{", "Expecting"),
    ],
)
def test_refuses_what_is_not(text: str, words: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(ValueError, match=words):
            parse_json(content)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="no ordinary file"):
        read_json(tmp_path / "a.json")
