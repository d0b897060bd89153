from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_direct_denoiser.data.dtypes import to_dtype
from napari_direct_denoiser.data.io import (
    ImageFile,
    check_output,
    open_image,
    plan_image,
    read_image,
    write_image,
    write_planned,
)
from napari_direct_denoiser.errors import DenoiserError, ImageError, SettingError


@pytest.fixture
def stack(rng):
    return rng.poisson(50, (5, 16, 18)).astype(np.uint16)


def write_like(path, source, data):
    """Write `data` as the command line does: like the file it came from."""
    write_image(path, data, read_image(source))
    return read_image(path)


def test_imagej_keeps_axes_and_pixel_size(tmp_path, stack):
    calibration = {"unit": "\\u00B5m", "spacing": 0.5, "finterval": 2.0}
    for axes, data in [("TYX", stack), ("ZYX", stack), ("TZYX", stack[None].repeat(2, 0)), ("YX", stack[0])]:
        tifffile.imwrite(
            tmp_path / "in.tif", data, imagej=True, resolution=(9.5, 8.25), metadata={"axes": axes, **calibration}
        )
        out = write_like(tmp_path / "out.tif", tmp_path / "in.tif", data * 1.5)
        assert out.data.dtype == np.float32
        np.testing.assert_array_equal(out.data, (data * 1.5).astype(np.float32))
        assert out.axes == axes
        assert out.metadata["kind"] == "imagej"
        assert out.metadata["resolution"] == pytest.approx((9.5, 8.25))
        assert out.metadata["fields"] == calibration


def test_ome_keeps_axes_and_pixel_size(tmp_path, stack):
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.2, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "in.ome.tif", stack, metadata={"axes": "TYX", "TimeIncrement": 2.0, **sizes})
    for name in ("out.ome.tif", "out.tif"):
        out = write_like(tmp_path / name, tmp_path / "in.ome.tif", stack)
        assert out.axes == "TYX"
        assert out.metadata["kind"] == "ome"
        assert out.metadata["fields"].items() >= {"TimeIncrement": 2.0, **sizes}.items()


def test_other_tiff_keeps_axes_and_resolution(tmp_path, stack):
    tifffile.imwrite(tmp_path / "in.tif", stack, resolution=(300, 300), resolutionunit=2, metadata={"axes": "QYX"})
    out = write_like(tmp_path / "out.tif", tmp_path / "in.tif", stack)
    assert out.axes == "QYX"
    assert out.metadata["resolution"] == (300, 300)
    assert out.metadata["resolutionunit"] == 2


@pytest.mark.parametrize("kind", ["imagej", "ome", "plain", "npy"])
@pytest.mark.parametrize("axes", ["YX", "TYX"])
def test_samples_are_one_more_axis_in_front(tmp_path, stack, kind, axes):
    data = stack if axes == "TYX" else stack[0]
    source = tmp_path / ("in.npy" if kind == "npy" else "in.tif")
    if kind == "npy":
        np.save(source, data)
    else:
        tifffile.imwrite(source, data, imagej=kind == "imagej", ome=kind == "ome", metadata={"axes": axes})
    samples = np.stack([data, data + 1, data + 2])
    out = write_like(tmp_path / "out.tif", source, samples)
    np.testing.assert_array_equal(out.data, samples)
    assert out.axes is not None
    assert out.axes[1:] == axes


SIZES = {"Y": 16, "X": 18, "C": 1, "T": 2, "Z": 3, "Q": 4, "P": 5, "I": 6, "A": 2}
AXES = {
    "imagej": ["YX", "TYX", "ZYX", "CYX", "TZYX", "TCYX"],
    "ome": ["YX", "TYX", "ZYX", "CYX", "QYX", "AYX", "TZYX", "TCYX", "TCZYX", "QTZYX", "PTZYX", "ZTYX"],
}
AXES["plain"] = AXES["npy"] = [*AXES["ome"], "IYX", "QQYX", "YXT", "XYT", "TYXZ", "QPTZYX"]


def write_source(folder, kind, axes):
    """Write an image of these axes as a library would."""
    shape = tuple(SIZES[axis] for axis in axes)
    data = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    if kind == "npy":
        np.save(folder / "in.npy", data)
        return folder / "in.npy"
    kinds = {"imagej": kind == "imagej", "ome": kind == "ome"}
    tifffile.imwrite(folder / "in.tif", data, photometric="minisblack", metadata={"axes": axes}, **kinds)
    return folder / "in.tif"


def long_axes(axes, shape):
    """Axes of length over 1: a reader may drop the others."""
    return "".join(axis for axis, size in zip(axes, shape, strict=True) if size > 1)


@pytest.mark.parametrize("samples", [None, 2], ids=["image", "samples"])
@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif", "out.npy"])
@pytest.mark.parametrize(("kind", "axes"), [(kind, axes) for kind, all_axes in AXES.items() for axes in all_axes])
def test_every_image_can_be_written_or_is_refused_before_the_work(tmp_path, axes, kind, name, samples):
    file = read_image(write_source(tmp_path, kind, axes))
    shape = file.data.shape
    extra = samples is not None
    # three axes of length over 1 beside Y and X, which come last, are all that OME has
    held = (file.axes or "YX").endswith("YX") and sum(size > 1 for size in shape[:-2]) + extra <= 3
    if name == "out.ome.tif" and not held:
        with pytest.raises(SettingError, match=r"OME-TIFF.*name the output out\.tif instead"):
            plan_image(tmp_path / name, shape, file, samples=samples)
        return
    plan = plan_image(tmp_path / name, shape, file, samples=samples)
    result = np.stack([file.data, file.data + 1]) if extra else file.data
    write_planned(plan, result)
    out = read_image(tmp_path / name)
    np.testing.assert_array_equal(out.data.squeeze(), result.squeeze())
    assert out.metadata.get("kind", "npy") == plan.kind
    assert (plan.kind == "npy") == (name == "out.npy")
    assert plan.kind == "ome" or name != "out.ome.tif"
    if plan.kind != "npy" and file.known_axes:
        assert long_axes(out.axes, out.data.shape)[extra:] == long_axes(file.axes, shape)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif", "out.npy"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float16", "float64", ">u2"])
def test_any_dtype_can_be_written_rounded_and_clipped(tmp_path, dtype, name):
    image = np.arange(2 * 16 * 18, dtype=np.float32).reshape(2, 16, 18) - 0.3
    if name == "out.ome.tif" and dtype in ("int64", "float16"):
        with pytest.raises(SettingError, match=r"OME-TIFF, found .*(int64|float16): name the output out\.tif instead"):
            plan_image(tmp_path / name, image.shape, dtype=dtype)
        return
    plan = plan_image(tmp_path / name, image.shape, dtype=dtype)
    wanted, clipped = to_dtype(image, dtype)
    assert write_planned(plan, image) == clipped == (np.count_nonzero(image > 255.5) if dtype == "uint8" else 0)
    out = read_image(tmp_path / name)
    np.testing.assert_array_equal(out.data, wanted)
    assert out.data.dtype.newbyteorder("=") == wanted.dtype
    assert out.axes == (None if plan.kind == "npy" else "TYX")


def test_a_dtype_that_no_tiff_holds_is_refused(tmp_path):
    with pytest.raises(SettingError, match="found complex64: write float32"):
        plan_image(tmp_path / "out.tif", (8, 8), dtype="complex64")


def test_a_plan_touches_no_file(tmp_path):
    plan_image(tmp_path / "none" / "out.tif", (5, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("axes", "known"), [("TYX", "TYX"), ("QYX", None), ("QQYX", None)])
def test_axes_that_a_file_does_not_name_are_not_known(tmp_path, axes, known):
    file = read_image(write_source(tmp_path, "plain", axes))
    assert file.known_axes == known
    assert file.axes == (None if axes == "QQYX" else axes)


def test_an_array_alone_is_written_for_imagej(tmp_path, stack):
    write_image(tmp_path / "out.tif", stack)
    assert read_image(tmp_path / "out.tif").metadata["kind"] == "imagej"
    assert read_image(tmp_path / "out.tif").axes == "TYX"
    three = np.zeros((3, 16, 3))
    write_image(tmp_path / "three.tiff", three)  # neither is a colour
    np.testing.assert_array_equal(read_image(tmp_path / "three.tiff").data, three)


def test_any_number_of_axes_can_be_written(tmp_path):
    data = np.arange(2 * 3 * 2 * 2 * 8 * 8, dtype=np.float32).reshape(2, 3, 2, 2, 8, 8)
    for ndim in range(2, 7):
        image = data[(0,) * (6 - ndim)]
        write_image(tmp_path / "out.tif", image, ImageFile(image))
        np.testing.assert_array_equal(read_image(tmp_path / "out.tif").data, image)


def test_npy(tmp_path, stack):
    write_image(tmp_path / "out.npy", stack)
    out = read_image(tmp_path / "out.npy")
    assert out.data.dtype == np.float32
    assert out.axes is None
    np.testing.assert_array_equal(out.data, stack)


def test_only_the_first_of_several_images_is_read_and_said_so(tmp_path, stack, caplog):
    with tifffile.TiffWriter(tmp_path / "two.tif") as tiff:
        tiff.write(stack, photometric="minisblack")
        tiff.write(stack[0, :8], photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "two.tif").data, stack)
    assert "holds 2 images" in caplog.text


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a file was allowed to run code",)


def test_unreadable_files(tmp_path, stack):
    tifffile.imwrite(tmp_path / "whole.tif", stack)
    whole = (tmp_path / "whole.tif").read_bytes()
    contents = {
        "empty.tif": b"",
        "words.tif": b"These are words, no image.",
        "cut.tif": whole[: len(whole) // 2],
        "headless.tif": whole[:100],
        "words.npy": b"These are words, no image.",
        "empty.npy": b"",
        "pickled.npy": pickle.dumps(Trap()),
        "photo.jpg": b"jpeg",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "objects.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for name in (*contents, "objects.npy", "missing.tif", ""):
        with pytest.raises(ImageError, match=r"^Expected .* found .*: ") as error:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


def test_outputs_are_checked_before_the_work(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    for path, found in [
        (tmp_path / "no" / "out.tif", "Folder .*no does not exist: create it first"),
        (tmp_path / "out.png", "out.png: change its suffix"),
        (tmp_path / "out", "change its suffix"),
        (tmp_path / "folder.tif", "found the folder"),
    ]:
        for use in (check_output, lambda path: write_image(path, np.zeros((8, 8)))):
            with pytest.raises(SettingError, match=found):
                use(path)
    check_output(tmp_path / "OUT.TIF")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder.tif"]


def test_a_failed_write_leaves_the_old_file(tmp_path, stack, monkeypatch):
    write_image(tmp_path / "out.tif", stack)
    before = (tmp_path / "out.tif").read_bytes()

    def fail(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(DenoiserError, match=r"out\.tif could not be written \(No space"):
        write_image(tmp_path / "out.tif", stack + 1)
    assert (tmp_path / "out.tif").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "out.tif"]


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif", "out.npy"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_planes_are_written_one_by_one(tmp_path, rng, name, dtype):
    image = rng.normal(100, 100, (3, 4, 16, 18)).astype(np.float32)
    plan = plan_image(tmp_path / name, image.shape, dtype=dtype)
    assert plan.streams
    clipped = write_planned(plan, (plane for volume in image for plane in volume))
    streamed = read_image(tmp_path / name)
    assert clipped == write_planned(plan, image)
    assert (dtype == "uint8") == (clipped > 0)
    whole = read_image(tmp_path / name)
    np.testing.assert_array_equal(streamed.data, whole.data)
    assert (streamed.axes, streamed.metadata) == (whole.axes, whole.metadata)
    np.testing.assert_array_equal(whole.data, to_dtype(image, dtype)[0])


@pytest.mark.parametrize("name", ["out.tif", "out.npy"])
def test_one_plane_is_held_at_a_time(tmp_path, name):
    plan = plan_image(tmp_path / name, (40, 256, 256))
    tracemalloc.start()
    write_planned(plan, (np.full((256, 256), plane, np.float32) for plane in range(40)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 256 * 256 * 4
    assert open_image(tmp_path / name).data[39].max() == 39


@pytest.mark.parametrize("name", ["out.tif", "out.npy"])
def test_a_failure_in_a_plane_leaves_no_file(tmp_path, name):
    def planes():
        yield np.zeros((8, 8))
        raise ImageError("Expected a whole file, found a damaged plane: copy it again")

    with pytest.raises(ImageError, match="damaged plane"):
        write_planned(plan_image(tmp_path / name, (5, 8, 8)), planes())
    assert not list(tmp_path.iterdir())


def test_samples_and_planes_that_are_not_last_do_not_stream(tmp_path, stack):
    assert not plan_image(tmp_path / "out.tif", stack.shape, samples=3).streams
    assert not plan_image(tmp_path / "out.npy", stack.shape, ImageFile(stack, "YXT")).streams


def test_numbers_in_the_planned_dtype_stay_exact(tmp_path):
    image = np.arange(2**53, 2**53 + 64, dtype=np.int64).reshape(8, 8)  # float32 could not tell them apart
    write_planned(plan_image(tmp_path / "out.npy", image.shape, dtype="int64"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "out.npy").data, image)


def test_what_imagej_cannot_hold_for_its_size_is_an_ome_tiff(tmp_path):
    assert plan_image(tmp_path / "out.tif", (60_000, 256, 256)).kind == "ome"
    assert plan_image(tmp_path / "out.tif", (10_000, 256, 256)).kind == "imagej"
