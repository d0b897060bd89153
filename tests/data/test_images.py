from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.data.images import as_planes, check_planes, guess_axes
from napari_direct_denoiser.errors import ImageError


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
        ((64, 64, 4), None, "RGBA of shape"),
        ((64, 64, 3), "YXS", "RGB of shape"),
        ((3, 64, 64), "CYX", "3 channels.*split"),
    ],
)
def test_colour_is_refused(shape, axes, found):
    with pytest.raises(ImageError, match=found):
        as_planes(np.zeros(shape, np.uint8), axes, name="photo")


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
