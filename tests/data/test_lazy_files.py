"""Images in files: only the planes that are asked for are read, and a damaged one is named."""

from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_direct_denoiser.data.io import open_image, read_image
from napari_direct_denoiser.errors import ImageError

STACK = np.random.default_rng(0).poisson(50, (4, 3, 80, 96)).astype(np.uint16)


def write_ome_in_two_files(folder: Path) -> Path:
    """An OME-TIFF whose second half lies in another file."""
    names = ["first.ome.tif", "second.ome.tif"]
    data = "".join(
        f'<TiffData IFD="{t % 2 * 3 + z}" FirstT="{t}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[t // 2]}">urn:uuid:0000000{t // 2}-0000-0000-0000-000000000000</UUID></TiffData>'
        for t in range(4)
        for z in range(3)
    )
    for number, name in enumerate(names):
        words = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{number}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZTC" Type="uint16" SizeX="96" SizeY="80" SizeZ="3" SizeT="4" SizeC="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        part = STACK[2 * number : 2 * number + 2].reshape(6, 80, 96)
        tifffile.imwrite(folder / name, part, description=words, metadata=None, photometric="minisblack")
    return folder / names[0]


def write(folder: Path, kind: str) -> Path:
    """Write the stack in one of the ways in which programs do."""
    path, options = folder / "stack.tif", {"photometric": "minisblack", "metadata": {"axes": "TZYX"}}
    if kind == "npy":
        np.save(folder / "stack.npy", STACK)
        return folder / "stack.npy"
    if kind == "npy in Fortran order":
        np.save(folder / "stack.npy", np.asfortranarray(STACK))
        return folder / "stack.npy"
    if kind == "zarr":
        zarr.create_array(str(folder / "a.zarr"), data=STACK, chunks=(1, 1, 80, 50))
        return folder / "a.zarr"
    if kind == "two files":
        return write_ome_in_two_files(folder)
    if kind == "planar":
        planar = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
        tifffile.imwrite(path, STACK, **planar, metadata={"axes": "TSYX"})
        return path
    options |= {
        "ImageJ": {"imagej": True},
        "ImageJ, big-endian": {"imagej": True, "byteorder": ">"},
        "ImageJ, compressed": {"imagej": True, "compression": "zlib"},
        "OME": {"ome": True},
        "OME, compressed": {"ome": True, "compression": "zlib", "predictor": True},
        "BigTIFF": {"bigtiff": True},
        "BigTIFF, tiled": {"bigtiff": True, "tile": (32, 32), "compression": "zlib"},
        "tiled, big-endian": {"tile": (32, 32), "byteorder": ">"},
        "strips": {"rowsperstrip": 7, "compression": "zlib"},
        "volumes": {"tile": (1, 32, 32), "volumetric": True, "compression": "zlib"},
    }[kind]
    tifffile.imwrite(path, STACK, **options)
    return path


KINDS = ["npy", "npy in Fortran order", "zarr", "two files", "planar", "ImageJ", "ImageJ, big-endian"]
KINDS += ["ImageJ, compressed", "OME", "OME, compressed", "BigTIFF", "BigTIFF, tiled", "tiled, big-endian"]
KINDS += ["strips", "volumes"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_is_read_in_parts(tmp_path: Path, kind: str) -> None:
    lazy = open_image(write(tmp_path, kind)).data
    assert (lazy.shape, lazy.ndim, lazy.dtype.newbyteorder("=")) == (STACK.shape, 4, STACK.dtype)
    for index in (
        np.s_[1],
        np.s_[-1, 2],
        np.s_[1:2, 0:1],
        np.s_[2, :, 10:40, 5],
        np.s_[::2, 1, :, -4:],
        np.s_[...],
        np.s_[..., 3],
        np.s_[0:0],
        np.s_[1, 1, 1, 1],
    ):
        np.testing.assert_array_equal(lazy[index], STACK[index])
    np.testing.assert_array_equal(read_image(lazy.path).data, STACK)
    for wrong in (np.s_[4], np.s_[0, 0, 0, 0, 0], np.s_[::-1]):
        with pytest.raises(IndexError):
            lazy[wrong]
    again = pickle.loads(pickle.dumps(lazy))
    assert len(pickle.dumps(lazy)) < 2000
    with ThreadPoolExecutor(4) as threads:
        planes = list(threads.map(lambda number: again[number // 3, number % 3], range(12)))
    np.testing.assert_array_equal(np.stack(planes).reshape(STACK.shape), STACK)
    blocks = da.from_array(again, chunks=(1, 1, -1, -1))
    np.testing.assert_array_equal(blocks.compute(), STACK)


def opened(path: Path) -> int:
    """How many open files of this process lie in a folder."""
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("this system does not list open files")
    return sum(path in each.resolve().parents for each in files.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_stays_open(tmp_path: Path, kind: str) -> None:
    lazy = open_image(write(tmp_path, kind)).data
    assert not opened(tmp_path)
    lazy[0, 0]
    assert not opened(tmp_path)


def damage(path: Path, kind: str) -> Any:
    """Damage the plane T=2, Z=1; give its index."""
    if kind == "zarr":
        (chunk,) = path.glob("c/2/1/0/1")
        chunk.write_bytes(b"these are no pixels")
    else:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.series[0][7]
            offset, count = page.dataoffsets[-1], page.databytecounts[-1]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * count)
    return np.s_[2, 1]


@pytest.mark.parametrize("kind", ["zarr", "ImageJ, compressed", "OME, compressed", "BigTIFF, tiled", "strips"])
def test_a_damaged_plane_is_named_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    bad = damage(path, kind)
    lazy = open_image(path).data
    where = r"axis 0=2, axis 1=1" if kind == "zarr" else "T=2, Z=1"
    for index in (bad, np.s_[1:3], np.s_[...]):
        with pytest.raises(ImageError, match=rf"{path.name} with a damaged plane at {where} \(.*\): copy") as error:
            lazy[index]
        assert "\n" not in str(error.value)
    np.testing.assert_array_equal(lazy[2, 0], STACK[2, 0])
    np.testing.assert_array_equal(lazy[3], STACK[3])
    with pytest.raises(ImageError, match=f"damaged plane at {where}"):
        read_image(path)


@pytest.mark.parametrize("kept", [0, 0.6])
def test_planes_of_a_missing_file_are_named(tmp_path: Path, kept: float) -> None:
    path = write_ome_in_two_files(tmp_path)
    second = tmp_path / "second.ome.tif"
    second.write_bytes(second.read_bytes()[: int(kept * second.stat().st_size)])
    lazy = open_image(path).data
    np.testing.assert_array_equal(lazy[:2], STACK[:2])
    with pytest.raises(ImageError, match=r"first.ome.tif with a damaged plane at T=[23], Z=. \(it .* cut short\)"):
        lazy[...]


@pytest.mark.parametrize("kind", ["ImageJ", "ImageJ, compressed", "OME", "BigTIFF, tiled", "strips"])
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_file_that_is_cut_short_is_refused_when_it_is_opened(tmp_path: Path, kind: str, kept: float) -> None:
    path = write(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ImageError, match=r"^Expected a .* found .*: "):
        open_image(path)


def test_a_huge_file_is_opened_at_once(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (200_000, 1000, 1000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 200_000 * 1000 * 1000 * 2)  # a hole of 400 GB
    lazy = open_image(path).data
    assert not lazy[199_999, ::100].any()


@pytest.mark.parametrize("options", [{"tile": (128, 128)}, {"rowsperstrip": 32}])
def test_of_a_large_plane_only_what_is_needed_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    plane = np.random.default_rng(0).poisson(50, (1024, 1024)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", plane, compression="zlib", photometric="minisblack", **options)
    lazy = open_image(tmp_path / "a.tif").data
    lazy[:1, :1]  # libraries are loaded
    tracemalloc.start()
    np.testing.assert_array_equal(lazy[700:800, 100:200], plane[700:800, 100:200])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < plane.nbytes / 2
