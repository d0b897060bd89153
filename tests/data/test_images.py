from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_direct_denoiser.data.images import (
    LazyPlanes,
    as_planes,
    channel_count,
    check_finite,
    check_planes,
    guess_axes,
    named_axes,
    sampled_planes,
    take_channel,
)
from napari_direct_denoiser.errors import ColourImageError, ImageError


@pytest.mark.parametrize(
    ("shape", "axes", "leading"),
    [
        ((8, 9), None, ()),
        ((5, 8, 9), None, (5,)),
        ((2, 5, 8, 9), None, (2, 5)),
        ((2, 3, 5, 8, 9), None, (2, 3, 5)),
        ((8, 9, 5), "YXT", (5,)),
        ((9, 5, 8), "xty", (5,)),
        ((2, 9, 5, 8), "ZXTY", (2, 5)),
        ((8, 2, 3, 4, 5, 9), "YABDEX", (2, 3, 4, 5)),
    ],
)
def test_planes_come_back_in_the_images_shape(rng, shape, axes, leading):
    image = rng.integers(0, 1000, shape).astype(np.uint16)
    planes = as_planes(image, axes)
    assert planes.data.shape == (np.prod(leading, dtype=int), 8, 9)
    assert planes.data.dtype == image.dtype
    assert planes.leading == leading
    restored = planes.restore(planes.data)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, image)
    samples = planes.restore(np.stack([planes.data, planes.data + 1]))
    np.testing.assert_array_equal(samples, np.stack([image, image + 1]))


@st.composite
def labelled_images(draw):
    """An image of small numbers that are all different, and its axes: 2 to 5 of them in any order."""
    others = draw(st.lists(st.sampled_from("TZPQAR"), max_size=3, unique=True))
    axes = "".join(draw(st.permutations(["Y", "X", *others])))
    shape = draw(st.tuples(*(st.integers(1, 4) for _ in axes)))
    return np.arange(np.prod(shape, dtype=int)).reshape(shape), axes


@given(labelled_images())
def test_any_image_comes_back_from_its_planes(labelled):
    image, axes = labelled
    planes = as_planes(image, axes)
    np.testing.assert_array_equal(planes.restore(planes.data), image)
    samples = planes.restore(np.stack([planes.data, planes.data + 1]))
    np.testing.assert_array_equal(samples, np.stack([image, image + 1]))
    np.testing.assert_array_equal(planes.data.shape[1:], [image.shape[axes.index(axis)] for axis in "YX"])


@given(labelled_images())
def test_lazy_planes_are_those_of_the_image_in_memory(labelled):
    image, axes = labelled
    planes = LazyPlanes(image, axes)
    assert len(planes) == len(as_planes(image, axes).data)
    np.testing.assert_array_equal([*planes], as_planes(image, axes).data)
    back = np.zeros(image.shape, np.float32)
    for number, region in enumerate(planes.regions):
        part = planes.read(number)
        back[region] = part.restore(part.data)
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("axes", ["YX", "TYX", "YXT", "TXZY"])
def test_lazy_planes_are_read_one_by_one(axes, rng):
    shape = dict(zip("YXTZ", (5, 6, 3, 2), strict=True))
    image = rng.normal(size=[shape[axis] for axis in axes])
    read = []
    lazy = LazyPlanes(da.from_array(image, chunks=1).map_blocks(lambda b: read.append(0) or b, dtype=float), axes)
    read.clear()
    np.testing.assert_array_equal(lazy[len(lazy) - 1], as_planes(image, axes).data[-1])
    assert len(read) <= 5 * 6
    np.testing.assert_array_equal([*sampled_planes([lazy], 2)][-1], np.float32(lazy[len(lazy) - 1]))


def test_a_lazy_plane_with_bad_pixels_is_named_by_its_place_in_the_image(rng):
    image = rng.normal(size=(3, 8, 2, 9))
    image[2, 3, 1, 4] = np.inf
    planes = LazyPlanes(image, "TYZX")
    for number in range(5):
        planes.read(number)
    with pytest.raises(ImageError, match="found 1 NaN or infinite pixels in cells, the first at T=2, Y=3, Z=1, X=4"):
        planes.read(5, name="cells")


def test_a_plane_holds_one_y_x_section():
    image = np.arange(8 * 9 * 5).reshape(8, 9, 5)
    np.testing.assert_array_equal(as_planes(image, "YXT").data[3], image[:, :, 3])
    np.testing.assert_array_equal(as_planes(image, "XYT").data[3], image[:, :, 3].T)


def test_a_stack_is_not_copied():
    image = np.zeros((2, 3, 8, 9), np.uint16)
    assert np.shares_memory(as_planes(image).data, image)


def test_numbers_are_made_native():
    image = np.arange(12.0).reshape(3, 4).astype(">f4")
    data = as_planes(image).data
    assert data.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(data[0], image)


def test_guessed_axes():
    assert [guess_axes(ndim) for ndim in (2, 3, 4, 5)] == ["YX", "TYX", "TZYX", "PTZYX"]
    for ndim in (0, 1, 6):
        with pytest.raises(ImageError, match=f"found {ndim}"):
            guess_axes(ndim)


@pytest.mark.parametrize("axes", ["YX", "TZYX", "TXX", "TZX", ""])
def test_axes_that_do_not_match_are_named(axes):
    with pytest.raises(ImageError, match=rf"'{axes}' for shape \(5, 8, 9\)"):
        as_planes(np.zeros((5, 8, 9)), axes)


@pytest.mark.parametrize(
    ("shape", "axes", "found"),
    [
        ((64, 64, 3), None, r"RGB of shape \(64, 64, 3\) in photo: convert it first"),
        ((4, 64, 64), "SYX", "planar RGBA of shape"),
        ((64, 64, 4), None, "RGBA of shape"),
        ((64, 64, 3), "YXS", "RGB of shape"),
        ((3, 64, 64), "CYX", "3 channels.*split"),
    ],
)
def test_colour_is_refused(shape, axes, found):
    with pytest.raises(ImageError, match=found):
        named_axes(shape, axes, name="photo")
    with pytest.raises(ImageError, match=found):
        as_planes(np.zeros(shape, np.uint8), axes, name="photo")


def test_planes_that_are_labelled_as_colours_can_be_renamed():
    for axes, suggested in [("SYX", "ZYX"), ("ZSYX", "ZTYX")]:
        shape = (3,) * (len(axes) - 2) + (64, 64)
        with pytest.raises(ColourImageError, match=f"--axes {suggested}") as error:
            named_axes(shape, axes)
        assert error.value.suggested_axes == suggested
        assert named_axes(shape, suggested) == suggested
    with pytest.raises(ColourImageError) as error:
        named_axes((64, 64, 3), "YXS")
    assert error.value.suggested_axes is None


@pytest.mark.parametrize("channels", [2, 5, 12])
def test_several_channels_never_pass_as_planes(channels):
    with pytest.raises(ImageError, match=f"found {channels} channels.*--channel 0 to {channels - 1}, channel=0"):
        as_planes(np.zeros((3, channels, 8, 8)), "TCYX")
    assert len(as_planes(np.zeros((3, 1, 8, 8)), "TCYX").data) == 3


def test_an_axis_of_scenes_is_none_of_colours():
    assert len(as_planes(np.zeros((8, 5, 9, 9)), "STYX").data) == 40
    assert channel_count((8, 5, 9, 9), "STYX") == 1


@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array])
def test_a_channel_is_taken_by_its_number(wrap, rng):
    image = rng.integers(0, 99, (3, 5, 8, 9))
    taken, axes = take_channel(wrap(image), "tcyx", 4)
    assert axes == "TYX"
    assert isinstance(taken, da.Array) == (wrap is da.from_array)
    np.testing.assert_array_equal(taken, image[:, 4])
    assert channel_count(image.shape, "TCYX") == 5


def test_channels_that_are_not_there_are_refused():
    image = np.zeros((2, 8, 8))
    assert take_channel(image, None, None) == (image, None)
    for axes, channel, words in [
        ("CYX", 2, "channel from 0 to 1 of cells, found 2"),
        ("CYX", -1, "found -1"),
        ("TYX", 0, r"channel axis \(C\) in cells, found axes TYX"),
        (None, 0, "found axes TYX"),
        ("CTYX", 0, "one letter for each"),
    ]:
        with pytest.raises(ImageError, match=words):
            take_channel(image, axes, channel, name="cells")


def test_colours_are_channels_too(rng):
    photo = rng.integers(0, 99, (8, 9, 3))
    for axes in ("YXS", None):
        taken, left = take_channel(photo, axes, 1)
        assert left == "YX"
        np.testing.assert_array_equal(taken, photo[..., 1])
        assert channel_count(photo.shape, axes) == 3
    assert channel_count((3, 8, 9), None) == 1


def test_three_planes_are_no_colour():
    assert len(as_planes(np.zeros((3, 64, 64), np.uint8)).data) == 3
    assert len(as_planes(np.zeros((64, 64, 3), np.uint8), "YXT").data) == 3


def noisy(rng, shape=(3, 32, 40)):
    return rng.poisson(10, shape).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_a_good_image_passes(rng, dtype):
    check_planes(as_planes(noisy(rng).astype(dtype)), min_side=32)


@pytest.mark.parametrize("dtype", [bool, complex, object, "U3"])
def test_what_is_no_intensity_is_refused(rng, dtype):
    with pytest.raises(ImageError, match=f"found {np.dtype(dtype)} in stack"):
        check_planes(as_planes(noisy(rng).astype(dtype)), min_side=32, name="stack")


def test_bad_pixels_are_counted_and_the_first_is_named(rng):
    image = noisy(rng, (2, 32, 40, 5)).astype(np.float32)
    image[1, 7, 8, 2] = np.nan
    image[1, 3, 4, 3] = np.inf
    image[0, 30, 31, 4] = -np.inf
    with pytest.raises(ImageError, match="found 3 NaN or infinite pixels in image, the first at Z=0, Y=30, X=31, T=4"):
        check_planes(as_planes(image, "ZYXT"), min_side=32)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_infinity_is_found_in_floats_of_every_size(dtype):
    image = np.ones((2, 8, 9), dtype)
    image[1, 2, 3] = np.inf
    with pytest.raises(ImageError, match="found 1 NaN or infinite pixels in image, the first at T=1, Y=2, X=3"):
        check_finite(as_planes(image))


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_numbers_beyond_float32_are_refused(rng, value):
    image = noisy(rng).astype(np.float64)
    image[1, 7, 8] = value
    with pytest.raises(ImageError, match=r"range of float32.*found -?1e\+\d+ in image at T=1, Y=7, X=8: .*divide"):
        check_planes(as_planes(image), min_side=32)
    image[1, 7, 8] = np.finfo(np.float32).max
    check_finite(as_planes(image))


def test_small_and_empty_images_are_refused(rng):
    with pytest.raises(ImageError, match="at least 64 x 64 pixels, found 32 x 40"):
        check_planes(as_planes(noisy(rng)), min_side=64)
    with pytest.raises(ImageError, match=r"shape \(0, 32, 40\).*empty"):
        check_planes(as_planes(np.zeros((0, 32, 40))), min_side=16)


def test_constant_images_are_refused_where_contrast_matters(rng):
    flat = np.full((3, 32, 32), 7, np.uint16)
    with pytest.raises(ImageError, match="found 7 in every pixel"):
        check_planes(as_planes(flat), min_side=32)
    check_planes(as_planes(flat), min_side=32, require_contrast=False)
    steps = flat + np.arange(3, dtype=np.uint16)[:, None, None]  # each plane is flat, the stack is not
    check_planes(as_planes(steps), min_side=32)


def test_labels_are_refused(rng):
    y, x = np.mgrid[:64, :64]
    labels = ((y // 16) * 4 + x // 16) * ((y % 16 > 3) & (x % 16 > 3))
    for found in (labels, labels > 0):
        with pytest.raises(ImageError, match="labels or a mask"):
            check_planes(as_planes(found.astype(np.int32)), min_side=32)
    with pytest.raises(ImageError, match="labels or a mask"):
        check_planes(as_planes(noisy(rng)), min_side=32, is_labels=True)


@pytest.mark.parametrize("mean", [0.005, 0.1, 1, 50])
def test_photon_counting_images_are_no_labels(rng, mean):
    check_planes(as_planes(rng.poisson(mean, (64, 64)).astype(np.uint16)), min_side=32)


def test_overexposed_images_are_no_labels(rng):
    image = rng.poisson(100, (64, 64)).astype(np.uint16)
    image[:, 20:] = 65535
    check_planes(as_planes(image), min_side=32)


def test_real_images_pass(data_dir):
    from napari_direct_denoiser.data.io import read_image

    for path in sorted(data_dir.glob("*.tif")):
        image = read_image(path)
        check_planes(as_planes(image.data, image.axes, name=path.name), min_side=64, name=path.name)


@pytest.mark.parametrize(("axes", "step"), [("TYX", 1), ("TZYX", 3), ("ZTYX", 1), ("ZYX", 4), ("PZYX", 12), ("PYX", 1)])
def test_frames_of_a_field_are_apart_along_time_and_never_along_z(axes: str, step: int) -> None:
    sides = {"T": 2, "Z": 3 if len(axes) > 3 else 4, "P": 4}
    image = np.zeros([sides.get(axis, 8) for axis in axes], np.float32)
    assert as_planes(image, axes).frames.step == LazyPlanes(image, axes).step == step
