"""Images named by files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_direct_denoiser.data.many import find_images
from napari_direct_denoiser.errors import ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a10.tif", "a2.TIF", "b.npy", "notes.txt", ".a1.tif.123.part", ".hidden.tif", "set[1].tiff"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.tif").touch()
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "d.zarr" / "inner.npy").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_gives_its_images_in_natural_order(folder: Path) -> None:
    assert names(find_images([folder])) == ["a2.TIF", "a10.tif", "b.npy", "d.zarr", "set[1].tiff"]


def test_a_pattern_gives_what_matches(folder: Path) -> None:
    assert names(find_images([f"{folder}/a*"])) == ["a2.TIF", "a10.tif"]
    assert names(find_images([f"{folder}/*"])) == names(find_images([folder]))
    assert "c.tif" in names(find_images([f"{folder}/**/*.tif"]))


def test_a_home_folder_is_found_in_a_quoted_pattern(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert names(find_images(["~/b.*"])) == ["b.npy"]


def test_files_keep_their_order_and_none_comes_twice(folder: Path) -> None:
    found = find_images([folder / "b.npy", str(folder / "a10.tif"), folder, folder / "d.zarr"])
    assert names(found) == ["b.npy", "a10.tif", "a2.TIF", "d.zarr", "set[1].tiff"]
    assert names(find_images([folder / "set[1].tiff"])) == ["set[1].tiff"]  # a name, no pattern
    assert names(find_images([folder / "notes.txt"])) == ["notes.txt"]  # refused when it is read


@pytest.mark.parametrize("argument", ["missing.tif", "empty", "x*.tif", "*.txt", "nowhere/*.tif"])
def test_finding_nothing_is_an_error_that_names_it(folder: Path, argument: str) -> None:
    with pytest.raises(ImageError, match=r"^Expected .* found .*: ") as error:
        find_images([folder, folder / argument])
    assert str(folder / argument) in str(error.value)
