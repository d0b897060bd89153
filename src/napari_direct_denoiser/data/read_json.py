"""JSON that anybody may have written: its size and depth are bounded, so that it takes neither memory nor time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 8 * 2**20
"""Bytes of a text. The largest that this package writes is a histogram of noise, of 6 MB."""
_MOST_CONTAINERS = 200_000  # lists and objects: an empty one takes 20 times the memory of its text


def read_json(path: str | Path) -> Any:
    """Read a file that holds JSON.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no ordinary file, or as `parse_json`.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # to read a pipe could take for ever
        raise ValueError("it is no ordinary file")
    with open(path, "rb") as stream:
        return parse_json(stream.read(LARGEST + 1))


def parse_json(text: str | bytes) -> Any:
    """Read a text that holds JSON.

    Raises
    ------
    ValueError
        If it holds none, is longer than `LARGEST`, or is nested too deeply.
    """
    if len(text) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST >> 20} MB")
    words = text.decode("utf-8") if isinstance(text, bytes) else text
    if words.count("{") + words.count("[") > _MOST_CONTAINERS:
        raise ValueError(f"it holds more than {_MOST_CONTAINERS} lists and objects")
    try:
        return json.loads(words)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
