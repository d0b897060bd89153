"""Zarr folders: whole or not there, and never in the place of something else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_direct_denoiser.data import zarr_images
from napari_direct_denoiser.data.zarr_images import check_zarr_target, ngff, open_zarr, writing_zarr
from napari_direct_denoiser.errors import DenoiserError, SettingError


def write(path: Path, value: float) -> None:
    with writing_zarr(path, (2, 1500, 8), (1, 1500, 8), {"kind": "test"}) as array:
        array[:] = value


def test_what_is_written_is_read_in_chunks_of_planes(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", 3)
    found = open_zarr(tmp_path / "a.zarr")
    assert (found.dtype, found.shape, found.chunksize) == (np.float32, (2, 1500, 8), (1, 1024, 8))
    assert float(found[1].mean().compute()) == 3
    assert zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs["kind"] == "test"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_replaced_only_in_the_end_and_opened_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write(path, 1)
    before = open_zarr(path)
    with writing_zarr(path, (2, 8), (2, 8), {}) as array:
        array[:] = 2
        assert open_zarr(path).shape == (2, 1500, 8)
    after = open_zarr(path)
    assert after.shape == (2, 8)
    assert after.name != before.name  # or a cache would take one for the other
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize(("error", "words"), [(KeyError("x"), "x"), (OSError(28, "No space left"), "make room")])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: Exception, words: str) -> None:
    path = tmp_path / "a.zarr"
    write(path, 1)

    def fail() -> None:
        with writing_zarr(path, (2, 8), (2, 8), {}) as array:
            array[0] = 2
            raise error

    with pytest.raises(DenoiserError if isinstance(error, OSError) else KeyError, match=words):
        fail()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]
    assert float(open_zarr(path)[0].mean().compute()) == 1


def test_what_was_there_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path, monkeypatch: object) -> None:
    path = tmp_path / "a.zarr"
    write(path, 1)
    real, moved = zarr_images.os.replace, []

    def replace(source: Path, target: Path) -> None:
        if target == path and source.suffix == ".part":  # zarr itself moves files, too, within its folder
            moved.append((source, target))
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr(zarr_images.os, "replace", replace)  # type: ignore[attr-defined]
    with pytest.raises(DenoiserError, match="in use"):
        write(path, 2)
    assert len(moved) == 1
    assert float(open_zarr(path)[0].mean().compute()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_nothing_is_left_if_threads_still_write_when_one_has_failed(tmp_path: Path) -> None:
    def write_late(draft: Path) -> None:
        time.sleep(0.03)  # until after the first removal
        (draft / "late").mkdir(parents=True)

    threads = []

    def fail() -> None:
        with writing_zarr(tmp_path / "a.zarr", (2, 8), (2, 8), {}):
            draft = next(tmp_path.iterdir())
            threads.append(threading.Thread(target=write_late, args=[draft]))
            threads[0].start()
            raise OSError(28, "No space left on device")

    with pytest.raises(DenoiserError, match="No space left"):
        fail()
    threads[0].join()
    assert not list(tmp_path.iterdir())


def test_targets_are_checked(tmp_path: Path) -> None:
    check_zarr_target(tmp_path / "a.zarr", 1000)
    with pytest.raises(SettingError, match=r"ends in \.zarr"):
        check_zarr_target(tmp_path / "a.tif")
    with pytest.raises(SettingError, match=r"missing does not exist: create it first"):
        check_zarr_target(tmp_path / "missing" / "a.zarr")
    with pytest.raises(SettingError, match="GB of room"):
        check_zarr_target(tmp_path / "a.zarr", 10**18)
    write(tmp_path / "a.zarr", 1)
    check_zarr_target(tmp_path / "a.zarr")  # may be replaced
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(SettingError, match="which is none"):
        check_zarr_target(tmp_path / "b.zarr")


def test_ngff_says_only_what_it_can_say() -> None:
    found = ngff("TYX", [2, 0.5, 0.5], [0, 1, 2], ["second", "micrometer", "pixel"])
    (image,) = found["ome"]["multiscales"]
    assert image["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space"},
    ]
    assert ngff("YXT", [1] * 3, [0] * 3, ["pixel"] * 3) == {}
    assert ngff("PYX", [1] * 3, [0] * 3, ["pixel"] * 3) == {}
