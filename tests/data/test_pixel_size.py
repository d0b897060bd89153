"""The pixel size of files of every kind, as OME-Zarr states it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_direct_denoiser.data.image_file import ImageFile
from napari_direct_denoiser.data.io import open_image, plan_image, write_planned
from napari_direct_denoiser.data.ome_zarr import ZarrImage
from napari_direct_denoiser.data.pixel_size import pixel_size, tiff_metadata

STACK = np.zeros((2, 3, 16, 16), np.uint16)


def test_imagej(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 0.5, "finterval": 3.0}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(5.0, 4.0), metadata=metadata)
    scale, start, units = pixel_size(open_image(path), "TZYX")
    np.testing.assert_allclose(scale, [3, 0.5, 0.25, 0.2])
    assert start == [0] * 4
    assert units == ["second", "micrometer", "micrometer", "micrometer"]


def test_ome(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    size = {"PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.065, "TimeIncrement": 2.0}
    tifffile.imwrite(path, STACK, metadata={"axes": "TZYX", **size})
    scale, _, units = pixel_size(open_image(path), "TZYX")
    assert scale == [2, 1, 0.065, 65]
    assert units == ["second", None, "micrometer", "nanometer"]


def test_ome_zarr_of_which_a_channel_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    image = ZarrImage.create(
        path, STACK.shape, "TCYX", "uint16", block=(16, 16), scale=[2, 1, 0.5, 0.25], translation=[0, 0, 7, 8],
        units=["second", None, "micrometer", "micrometer"],
    )  # fmt: skip
    image.finish()
    known = pixel_size(open_image(path), "TYX")
    assert known == ([2, 0.5, 0.25], [0, 7, 8], ["second", "micrometer", "micrometer"])


def test_of_other_files_it_is_not_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", resolution=(72, 72))
    for name in ("a.npy", "a.tif"):
        assert pixel_size(open_image(tmp_path / name), "YX") == ([1, 1], [0, 0], [None, None])


def test_a_tiff_in_centimeters(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", resolution=(1e5, 2e5), resolutionunit=3)
    assert pixel_size(open_image(tmp_path / "a.tif"), "YX") == ([0.05, 0.1], [0, 0], ["micrometer"] * 2)


def to_zarr(source: Path, path: Path, version: str) -> Path:
    """Convert an image as `denoise` does."""
    file = open_image(source)
    scale, translation, units = pixel_size(file, file.axes)
    place = {"scale": scale, "translation": translation, "units": units}
    image = ZarrImage.create(path, file.data.shape, file.axes, "uint16", block=(16, 16), version=version, **place)
    image.finish()
    return path


def to_tiff(source: Path, path: Path) -> Path:
    file = open_image(source)
    write_planned(plan_image(path, file.data.shape, file, dtype="uint16"), file.data)
    return path


def test_the_pixel_size_survives_all_formats(tmp_path: Path) -> None:
    size = {"PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.066, "PhysicalSizeYUnit": "µm"}
    size |= {"PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "µm", "TimeIncrement": 2.0, "TimeIncrementUnit": "min"}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "TZYX", **size})
    old = to_zarr(tmp_path / "a.ome.tif", tmp_path / "b.zarr", "0.4")
    new = to_zarr(old, tmp_path / "c.zarr", "0.5")
    known = ([2, 0.5, 0.066, 65], [0] * 4, ["minute", "micrometer", "micrometer", "nanometer"])
    assert pixel_size(open_image(new), "TZYX") == known
    for name in ("d.ome.tif", "e.tif"):
        ome = to_tiff(new, tmp_path / name)
        assert open_image(ome).metadata["kind"] == "ome"
        assert open_image(ome).metadata["fields"].items() >= size.items()
        assert pixel_size(open_image(ome), "TZYX") == known


@pytest.mark.parametrize(("form", "kind"), [("imagej", "ome"), ("ome", "imagej"), ("ome", "plain")])
def test_the_pixel_size_survives_another_kind_of_tiff(tmp_path: Path, form: str, kind: str) -> None:
    size = {"axes": "TZYX", "unit": "um", "spacing": 0.5, "finterval": 3.0}
    if form == "ome":
        size = {"axes": "TZYX", "TimeIncrement": 3.0}
        size |= {"PhysicalSizeX": 200.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(tmp_path / "a.tif", STACK, **{form: True}, resolution=(5.0, 4.0), metadata=size)
    file = open_image(tmp_path / "a.tif")
    metadata = tiff_metadata(kind, file, "TZYX")
    scale, _, units = pixel_size(ImageFile(STACK, "TZYX", {"kind": kind, **metadata}), "TZYX")
    held = "YX" if kind == "plain" else "TZYX"
    np.testing.assert_allclose(scale[-len(held) :], [3, 0.5, 0.25, 0.2][-len(held) :])
    assert units[-len(held) :] == ["second", "micrometer", "micrometer", "micrometer"][-len(held) :]
