"""A disk that is full or cannot be written to: an error in words, and every file whole, absent, or as it was."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import works
from other_process import needs_fork, outcome

pytestmark = needs_fork
Cases = Callable[[int, int], int]
Tally = Callable[[str, int, int], None]


NAMES = list(works.WRITES) if "RELIABILITY_COUNTS" in os.environ else ["m.safetensors", "image.tif", "image.zarr"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a model."""
    folder = tmp_path_factory.mktemp("prepared")
    outcome(works.prepare, folder)
    return folder


@pytest.fixture
def out(prepared: Path) -> Path:
    """An empty folder in it."""
    shutil.rmtree(prepared / "out", ignore_errors=True)
    (prepared / "out").mkdir()
    return prepared / "out"


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_no_room(out: Path, name: str, cases: Cases, tally: Tally) -> None:
    """No file may be longer than some bytes. Every other time there is an output already, which stays as it was."""
    path, tried, survived = out / name, cases(6, 1), 0
    assert outcome(works.write, path) is None
    whole = digests(out)
    longest = max(each.stat().st_size for each in out.rglob("*") if each.is_file())
    for number, room in enumerate(np.random.default_rng(0).integers(0, longest, tried).tolist()):
        if number % 2 or name in GO_ON:  # of a finished output of these nothing is written again
            shutil.rmtree(out)
            out.mkdir()
        before = digests(out)
        words = outcome(works.write, path, room)
        assert words is not None, (name, room)
        assert os.strerror(errno.EFBIG) in words or "no room" in words, words
        assert "make room" in words
        is_safe = _nothing_but_whole(digests(out), name, before, whole)
        assert outcome(works.write, path) is None  # with room, the work goes on
        survived += is_safe and set(digests(out)) == set(whole)
    tally("outputs of every kind, files limited to a random size", tried, survived)


GO_ON = ("image.zarr", "old.zarr", "folder")
"""Outputs that an interrupted command goes on with."""


def _nothing_but_whole(found: dict[str, str], name: str, before: dict[str, str], whole: dict[str, str]) -> bool:
    if name in ("folder", "tables"):  # of several files, each is whole or absent
        return set(found) <= set(whole)
    return {file: digest for file, digest in found.items() if not file.startswith(f".{name}.part")} == before


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("noise")])  # those are smaller
def test_a_full_disk(out: Path, name: str, cannot_mount: str | None, tally: Tally) -> None:
    """A disk of 4 KiB."""
    if cannot_mount:
        pytest.skip(cannot_mount)
    words, left = outcome(works.write_on_a_disk, out / name, 4)
    assert words is not None
    assert os.strerror(errno.ENOSPC) in words or "room for" in words, words
    assert name not in left
    tally("outputs of every kind, full disk", 1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_read_only(out: Path, name: str, cannot_mount: str | None, tally: Tally) -> None:
    if cannot_mount:
        pytest.skip(cannot_mount)
    words, left = outcome(works.write_on_a_disk, out / name, 1000, read_only=True)
    assert words is not None
    assert os.strerror(errno.EROFS) in words or "cannot be written to: choose another" in words, words
    assert not left
    tally("outputs of every kind, read-only disk", 1, 1)


@pytest.fixture(scope="module")
def cannot_mount(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Why this system lets no test mount a disk; None if it does."""
    return outcome(works.mounts, tmp_path_factory.mktemp("disk"))  # type: ignore[no-any-return]
