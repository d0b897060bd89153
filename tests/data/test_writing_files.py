"""Files are written completely or not at all, and nothing of an interrupted write stays."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from napari_direct_denoiser.data import files
from napari_direct_denoiser.data.files import remove, replacing


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """A file of which a process that was killed left a draft."""
    path = tmp_path / "model [1].safetensors"
    with replacing(path) as draft:
        draft.write_text("whole")
        name = draft.name
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    start, _, _ = name.rpartition("-")
    path.with_name(f"{start}-{process.pid}.part").write_text("half")
    return path


def test_a_draft_of_a_process_that_is_gone_is_removed_by_the_next_write(abandoned: Path) -> None:
    with replacing(abandoned) as draft:
        draft.write_text("new")
    assert [each.name for each in abandoned.parent.iterdir()] == [abandoned.name]
    assert abandoned.read_text() == "new"


def test_a_file_is_removed_with_its_drafts(abandoned: Path) -> None:
    remove(abandoned)
    remove(abandoned)  # there is none
    assert not list(abandoned.parent.iterdir())


def test_a_draft_of_a_running_process_and_of_another_computer_stay(abandoned: Path) -> None:
    with replacing(abandoned) as mine:
        mine.write_text("being written")
        others = mine.with_name(f".{abandoned.name}.00000000-1.part")
        others.write_text("on another computer")
        remove(abandoned)
        assert mine.exists()
        assert others.exists()


def test_a_draft_of_another_container_stays(abandoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of its processes mean nothing here, though the computer has the same name."""
    drafts = set(abandoned.parent.glob(".*.part"))
    another = abandoned.parent / "namespace"
    another.touch()
    monkeypatch.setattr(files, "_NAMESPACE", another)
    remove(abandoned)
    assert len(drafts) == 1
    assert all(draft.exists() for draft in drafts)
