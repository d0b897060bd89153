"""OME-Zarr as others write it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_direct_denoiser.data.io import open_image, read_image
from napari_direct_denoiser.data.many import find_images
from napari_direct_denoiser.errors import ImageError

STACK = np.random.default_rng(0).poisson(50, (4, 3, 80, 96)).astype(np.uint16)
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def multiscale(names: str = "tzyx", paths: tuple[str, ...] = ("0", "1"), **more: Any) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": name, "type": kinds.get(name, "space")} | ({"unit": UNITS[name]} if name in UNITS else {})
        for name in names
    ]
    datasets = []
    for level, path in enumerate(paths):
        scale = [{"t": 2.0, "z": 0.5}.get(name, 0.1 * 2**level) for name in names]
        datasets.append({"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    return {"axes": axes, "datasets": datasets, **more}


def write(folder: Path, version: str, paths: tuple[str, ...] = ("0", "1"), **more: Any) -> Path:
    """Write an image as the specification has it."""
    group = zarr.create_group(str(folder), zarr_format=2 if version == "0.4" else 3)
    for level, path in enumerate(paths):
        data = STACK[..., :: 2**level, :: 2**level]
        names = {"dimension_names": list("tzyx")} if version == "0.5" else {}
        group.create_array(path, data=data, chunks=(1, 1, 40, 40), **names)
    described = multiscale(paths=paths, **more)
    if version == "0.4":
        group.attrs["multiscales"] = [described | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("paths", [("0", "1"), ("scale/full", "scale/half")], ids=["numbers", "names"])
def test_the_full_size_is_opened_with_axes_and_pixel_size(tmp_path: Path, version: str, paths: tuple[str, ...]) -> None:
    file = open_image(write(tmp_path / "a.zarr", version, paths))
    assert (file.axes, file.known_axes) == ("TZYX", "TZYX")
    assert file.metadata == {
        "kind": "ome-zarr",
        "version": version,
        "path": paths[0],
        "axes": "TZYX",
        "scale": (2, 0.5, 0.1, 0.1),
        "translation": (0, 0, 0, 0),
        "units": ("second", "micrometer", "micrometer", "micrometer"),
    }
    np.testing.assert_array_equal(file.data[2, 1], STACK[2, 1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, STACK)


def test_the_chunks_of_older_files_are_separated_by_dots(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", "0.4")
    assert (tmp_path / "a.zarr" / "0" / "2.1.1.2").exists()


def test_a_scale_of_all_levels_comes_after_that_of_the_level(tmp_path: Path) -> None:
    moves = [
        {"type": "scale", "scale": [1, 1, 10, 10]},
        {"type": "translation", "translation": [0, 0, 5, 7]},
    ]
    metadata = open_image(write(tmp_path / "a.zarr", "0.5", coordinateTransformations=moves)).metadata
    assert metadata["scale"] == (2, 0.5, 1, 1)
    assert metadata["translation"] == (0, 0, 5, 7)


def test_an_image_whose_metadata_are_not_valid_is_read_without_them(tmp_path: Path, caplog: Any) -> None:
    write(tmp_path / "a.zarr", "0.5", axes=["t", "z", "y", "x"])  # as in version 0.3
    with caplog.at_level(logging.WARNING):
        file = open_image(tmp_path / "a.zarr")
    assert "not valid in OME-Zarr 0.4 or 0.5" in caplog.text
    np.testing.assert_array_equal(file.data[3], STACK[3])
    assert file.axes == "TZYX"  # as the array names them
    assert file.metadata == {"kind": "zarr"}


@pytest.mark.parametrize("form", [2, 3])
def test_plain_arrays(tmp_path: Path, form: Any) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=STACK, zarr_format=form)
    file = open_image(tmp_path / "a.zarr")
    assert (file.axes, file.metadata) == (None, {"kind": "zarr"})
    np.testing.assert_array_equal(file.data, STACK)
    group = zarr.create_group(str(tmp_path / "b.zarr"), zarr_format=form)
    group.create_array("raw", data=STACK)
    np.testing.assert_array_equal(read_image(tmp_path / "b.zarr").data, STACK)
    np.testing.assert_array_equal(read_image(tmp_path / "b.zarr" / "raw").data, STACK)
    assert find_images([tmp_path / "b.zarr" / "raw"]) == [tmp_path / "b.zarr" / "raw"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_container_of_one_image_is_opened(tmp_path: Path, version: str) -> None:
    path, layout = tmp_path / "a.zarr", {"bioformats2raw.layout": 3}
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    group.attrs.put(layout if version == "0.4" else {"ome": {"version": version, **layout}})
    write(path / "0", version)
    (path / "OME").mkdir()
    np.testing.assert_array_equal(read_image(path).data, STACK)
    write(path / "1", version)
    with pytest.raises(ImageError, match=r"found 2 in .*a\.zarr: name one, such as .*a\.zarr.0"):
        open_image(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_and_wells_are_refused_by_name(tmp_path: Path, version: str) -> None:
    plate = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2 if version == "0.4" else 3)
    well = plate.create_group("A/1")
    for group, kind in ((plate, "plate"), (well, "well")):
        group.attrs.put({kind: {}} if version == "0.4" else {"ome": {"version": version, kind: {}}})
    write(tmp_path / "a.zarr" / "A" / "1" / "0", version)
    with pytest.raises(ImageError, match=r"found the plate .*a\.zarr: name a well and field of it, such as A/1/0"):
        open_image(tmp_path / "a.zarr")
    with pytest.raises(ImageError, match=r"found the well .*1: name a field of it, such as 0"):
        open_image(tmp_path / "a.zarr" / "A" / "1")
    assert open_image(tmp_path / "a.zarr" / "A" / "1" / "0").axes == "TZYX"


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "empty.zarr"))
    two = zarr.create_group(str(tmp_path / "two.zarr"))
    for name in ("a", "b"):
        two.create_array(name, data=STACK)
    broken = write(tmp_path / "broken.zarr", "0.5")
    (broken / "zarr.json").write_text("{")
    lost = write(tmp_path / "lost.zarr", "0.5", ("0",))
    (lost / "0" / "zarr.json").unlink()
    (tmp_path / "folder.zarr").mkdir()
    write(tmp_path / "axes.zarr", "0.5", axes=multiscale("zyx")["axes"], datasets=multiscale("zyx")["datasets"])
    for name in ("empty.zarr", "two.zarr", "axes.zarr", "broken.zarr", "lost.zarr", "folder.zarr", "missing.zarr"):
        with pytest.raises(ImageError, match=r"^Expected .* found .*: ") as error:
            open_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
