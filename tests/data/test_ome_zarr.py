"""OME-Zarr images that are written block by block: valid, whole, and the same bytes however often killed."""

from __future__ import annotations

import hashlib
import math
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image import ImageAttrs as Attributes04
from ome_zarr_models.v05.image import Image as Image05

from napari_direct_denoiser.data.ome_metadata import read_multiscale
from napari_direct_denoiser.data.ome_zarr import ZarrImage, check_zarr_target, finished_identity
from napari_direct_denoiser.errors import DenoiserError, SettingError

SHAPE, BLOCK = (3, 700, 1100), (512, 512)
PLACE = {"scale": (2.0, 0.5, 0.25), "translation": (0.0, 10.0, -3.0), "units": ("second", "micrometer", None)}


def blocks(shape: tuple[int, ...], axes: str, block: tuple[int, int]) -> Iterator[tuple[slice, ...]]:
    sides = [dict(zip("YX", block, strict=True)).get(axis, 1) for axis in axes]
    for at in product(*(range(0, full, side) for full, side in zip(shape, sides, strict=True))):
        yield tuple(slice(begin, begin + side) for begin, side in zip(at, sides, strict=True))


def fill(image: ZarrImage, pixels: np.ndarray, block: tuple[int, int]) -> None:
    for region in blocks(image.shape, image.axes, block):
        if not image.is_done(region):
            image[region] = pixels[region]
            assert image.is_done(region)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("block", [BLOCK, SHAPE[1:]], ids=["tiles", "planes"])
def test_an_image_is_written_with_a_pyramid_and_valid_metadata(
    tmp_path: Path, rng: np.random.Generator, version: str, block: tuple[int, int]
) -> None:
    pixels = rng.poisson(50, SHAPE).astype(np.uint16)
    image = ZarrImage.create(tmp_path / "a.zarr", SHAPE, "TYX", "uint16", block=block, version=version, **PLACE)
    assert (image.shape, image.ndim, image.dtype) == (SHAPE, 3, np.uint16)
    fill(pickle.loads(pickle.dumps(image)), pixels, block)
    assert not image.path.exists()
    image.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]

    group = zarr.open_group(str(image.path), mode="r")
    np.testing.assert_array_equal(group["0"][:], pixels)
    assert [group[f"{level}"].shape for level in range(len(list(group)))] == [SHAPE, (3, 350, 550), (3, 175, 275)]
    assert group["0"].chunks[0] == 1
    assert max(group["0"].chunks) <= (1024 if version == "0.4" else 512)
    small = pixels.reshape(3, 350, 2, 550, 2).mean((2, 4))
    np.testing.assert_array_equal(group["1"][:], np.rint(small))

    attributes = dict(group.attrs)
    if version == "0.5":
        assert "multiscales" in Image05.from_zarr(group).attributes.model_dump()["ome"]
        assert len(list((image.path / "0").rglob("c/*/*/*"))) == math.prod(
            -(-full // side) for full, side in zip(SHAPE, (1, *block), strict=True)
        )
    else:
        Attributes04.model_validate(attributes)
        assert group["0"].metadata.dimension_separator == "/"
    found = read_multiscale(attributes)
    assert (found.version, found.axes) == (version, "TYX")
    assert {"scale": found.scale, "translation": found.translation, "units": found.units} == PLACE


def test_every_level_lies_where_the_image_does(tmp_path: Path) -> None:
    image = ZarrImage.create(tmp_path / "a.zarr", SHAPE, "TYX", "uint16", block=BLOCK, **PLACE)
    (multiscale,) = dict(zarr.open_group(str(image.levels[0].store.root.parent), mode="r").attrs)["ome"]["multiscales"]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = (each[each["type"]] for each in dataset["coordinateTransformations"])
        assert scale == [2, 0.5 * 2**level, 0.25 * 2**level]
        # the outer edge of the first pixel
        edge = np.array(translation) - np.array(scale) / 2
        assert edge.tolist() == [-1, 10 - 0.25, -3 - 0.125]
    image.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("axes", "held"),
    [("YX", 1), ("CYX", 1), ("TCZYX", 1), ("NZYX", 1), ("TPYX", 1), ("YXT", 0), ("NTYX", 0), ("NCYX", 0), ("CTYX", 0)],
)
def test_axes_that_ome_zarr_cannot_hold_are_written_without_its_metadata(tmp_path: Path, axes: str, held: bool) -> None:
    shape = tuple(600 if axis in "YX" else 1 for axis in axes)
    image = ZarrImage.create(tmp_path / "a.zarr", shape, axes, "float32", block=(600, 600), attributes={"by": "test"})
    fill(image, np.ones(shape, np.float32), (600, 600))
    image.finish()
    group = zarr.open_group(str(image.path), mode="r")
    assert group.attrs["by"] == "test"
    assert ("ome" in group.attrs) == held
    assert len(list(group)) == 1 + held  # a pyramid
    assert group["0"].metadata.dimension_names == tuple(axes.lower())
    assert float(group["0"][:].min()) == 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64", ">u2"])
def test_a_level_has_the_mean_of_four_pixels_of_the_one_before(tmp_path: Path, dtype: str) -> None:
    pixels = np.arange(15 * 601, dtype=np.float64).reshape(15, 601).clip(0, 200).astype(dtype)
    image = ZarrImage.create(tmp_path / "a.zarr", (15, 601), "YX", dtype, block=(15, 601))
    image[:, :] = pixels
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image[:, :], pixels)
    even = np.pad(pixels.astype(np.float64), ((0, 1), (0, 1)), mode="edge")
    mean = even.reshape(8, 2, 301, 2).mean((1, 3))
    np.testing.assert_array_equal(image.levels[1][:], mean if "f" in dtype else np.rint(mean))


WRITER = """
import sys, time
import numpy as np
from napari_direct_denoiser.data.ome_zarr import ZarrImage
path, version = sys.argv[1:]
image = ZarrImage.create(path, (6, 600, 600), "TYX", "float32", block=(600, 600), version=version, identity={"seed": 1})
print("begun", flush=True)
for plane in range(6):
    region = slice(plane, plane + 1), slice(0, 600), slice(0, 600)
    if not image.is_done(region):
        image[region] = np.random.default_rng(plane).normal(size=(1, 600, 600)).astype(np.float32) * (plane > 0)
        print(plane, flush=True)
image.finish()
"""


def write(path: Path, version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the writer to its end; give the planes it has written."""
    monkeypatch.setattr(sys, "argv", ["", str(path), version])
    exec(WRITER, {})
    return capsys.readouterr().out.split()[1:]


def write_killed(path: Path, version: str, planes: int) -> list[str]:
    """Run the writer in another process, and kill it when it has written so many planes and is at the next one."""
    command = [sys.executable, "-c", WRITER, str(path), version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().strip() for _ in range(planes + 1)]
        time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        return [*printed, *process.stdout.read().split()][1:]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("version", "moments"), [("0.4", [1]), ("0.5", [0, 2])])
def test_killed_and_begun_again_it_ends_with_the_same_bytes(
    tmp_path: Path,
    version: str,
    moments: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert write(tmp_path / "whole.zarr", version, monkeypatch, capsys) == list("012345")
    path = tmp_path / "killed.zarr"
    before = [plane for planes in moments for plane in write_killed(path, version, planes)]
    assert not path.exists()
    draft = next(tmp_path.glob(".*.part"))
    (draft / "0" / "0.0123abcd.partial").write_bytes(b"half")  # what a killed zarr leaves
    after = write(path, version, monkeypatch, capsys)
    assert digests(path) == digests(tmp_path / "whole.zarr")
    assert not set(before) & set(after)  # what was done is not done again
    assert sorted(each.name for each in tmp_path.iterdir()) == ["killed.zarr", "whole.zarr"]
    assert finished_identity(path) == {"seed": 1}


def create(path: Path, identity: object = None, side: int = 64, version: str = "0.5") -> ZarrImage:
    return ZarrImage.create(path, (2, side, 64), "TYX", "uint8", block=(64, 64), identity=identity, version=version)


def test_only_a_draft_of_the_same_identity_and_layout_is_gone_on_with(tmp_path: Path) -> None:
    path, plane = tmp_path / "a.zarr", (slice(0, 1), slice(0, 64), slice(0, 64))
    create(path, {"seed": (1, 2)})[plane] = np.ones((1, 64, 64), np.uint8)
    assert create(path, {"seed": [1, 2]}).is_done(plane)
    for other in ({"identity": {"seed": 3}}, {"side": 700}, {"version": "0.4"}):
        with pytest.raises(SettingError, match=r"\.a\.zarr\.part of another run: remove it, or choose"):
            create(path, **{"identity": {"seed": [1, 2]}, **other})
    assert finished_identity(path) is None
    image = create(path)  # no identity: anew
    assert not image.is_done(plane)
    image[plane] = np.ones((1, 64, 64), np.uint8)
    assert not create(path).is_done(plane)
    assert not create(path, {"seed": 4}).is_done(plane)


def test_a_draft_that_was_killed_before_it_had_arrays_is_begun_anew(tmp_path: Path) -> None:
    draft = tmp_path / ".a.zarr.part"
    zarr.create_group(str(draft)).create_array("0", shape=(3,), dtype="u1")
    assert not create(tmp_path / "a.zarr", {"seed": 1}).is_done((slice(None),) * 3)
    assert zarr.open_array(str(draft / "0"), mode="r").ndim == 3


def test_a_finished_image_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    for value in (1, 2):
        image = create(tmp_path / "a.zarr", {"value": value})
        fill(image, np.full(image.shape, value, np.uint8), (64, 64))
        image.finish()
        assert finished_identity(tmp_path / "a.zarr") == {"value": value}
        assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert int(zarr.open_array(str(image.path / "0"), mode="r")[:].min()) == 2
    assert finished_identity(tmp_path / "none.zarr") is None


def test_what_was_there_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    image = create(tmp_path / "a.zarr")
    image.finish()
    with pytest.raises(DenoiserError, match=r"a\.zarr could not be written"):
        image.finish()  # the draft is gone
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_full_disk_says_how_to_go_on(tmp_path: Path) -> None:
    plane = (slice(0, 1), slice(0, 64), slice(0, 64))
    for identity, mend in (({"seed": 1}, "make room and start again, what is written is kept"), (None, "make room or")):
        image = create(tmp_path / "a.zarr", identity)
        (tmp_path / ".a.zarr.part" / "0" / "c").touch()  # a file in the place of a folder: nothing can be written
        with pytest.raises(DenoiserError, match=rf"a\.zarr could not be written \(.*\): {mend}"):
            image[plane] = np.ones((1, 64, 64), np.uint8)
        assert not image.is_done(plane)
        image.discard()
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_if_threads_still_write_when_a_draft_is_discarded(tmp_path: Path) -> None:
    image = create(tmp_path / "a.zarr")
    late = threading.Timer(0.03, (tmp_path / ".a.zarr.part" / "late").mkdir, kwargs={"parents": True})
    late.start()
    image.discard()
    late.join()
    assert not list(tmp_path.iterdir())


def test_parts_of_a_block_are_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="Expected blocks of 64 pixels"):
        image[0:1, 0:32, 0:64] = np.ones((1, 32, 64), np.uint8)


def test_targets_are_checked(tmp_path: Path) -> None:
    check_zarr_target(tmp_path / "a.zarr", 1000)
    with pytest.raises(SettingError, match=r"ends in \.zarr"):
        check_zarr_target(tmp_path / "a.tif")
    with pytest.raises(SettingError, match=r"missing does not exist: create it first"):
        check_zarr_target(tmp_path / "missing" / "a.zarr")
    with pytest.raises(SettingError, match="GB of room"):
        check_zarr_target(tmp_path / "a.zarr", 10**18)
    with pytest.raises(SettingError, match="GB of room"):
        ZarrImage.create(tmp_path / "a.zarr", (10**9, 10**4, 10**4), "TYX", "float32", block=(10**4, 10**4))
    create(tmp_path / "a.zarr").finish()
    check_zarr_target(tmp_path / "a.zarr")  # may be replaced
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(SettingError, match="which is none"):
        check_zarr_target(tmp_path / "b.zarr")
