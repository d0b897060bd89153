"""Images to train on: in memory, or read when needed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_direct_denoiser.data import stacks
from napari_direct_denoiser.data.stacks import open_stacks
from napari_direct_denoiser.errors import ImageError


class Counted:
    """An array that counts how often each plane is read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.read: list[int] = []

    def __getitem__(self, key):
        if key is not Ellipsis:
            self.read.append(key[0].start)
        return self.data[key]


@pytest.fixture
def image(rng):
    return rng.integers(100, 4000, (12, 40, 48)).astype(np.uint16)


@pytest.fixture
def _little_memory(monkeypatch):
    """Room for no image and three planes."""
    monkeypatch.setattr(stacks, "_MOST_WHOLE", 1000)
    monkeypatch.setattr(stacks, "_CACHED_BYTES", 3 * 40 * 48 * 2 + 100)


def test_an_array_in_memory_is_not_copied(image):
    (found,), axes = open_stacks(image, "TYX", min_side=32)
    assert np.shares_memory(found.planes, image)
    assert axes == "TYX"


@pytest.mark.parametrize("kind", ["dask", "zarr", "memmap"])
def test_small_lazy_images_are_read_whole(image, kind, tmp_path):
    (found,), _ = open_stacks(lazy(image, kind, tmp_path), "TYX", min_side=32)
    assert isinstance(found.planes, np.ndarray)
    np.testing.assert_array_equal(found.planes, image)


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("kind", ["dask", "zarr", "memmap"])
def test_planes_of_large_images_are_read_when_needed(image, kind, tmp_path):
    (found,), axes = open_stacks(lazy(image.reshape(3, 4, 40, 48), kind, tmp_path), "TZYX", min_side=32)
    planes = found.planes
    assert (planes.shape, planes.dtype, len(planes), planes.cached_planes) == ((12, 40, 48), np.uint16, 12, 3)
    assert found.step == 4
    assert axes == "TZYX"
    np.testing.assert_array_equal(planes[5], image[5])
    np.testing.assert_array_equal(planes[7, 3:20, 5:9], image[7, 3:20, 5:9])


@pytest.mark.usefixtures("_little_memory")
def test_the_last_planes_stay_in_memory(image):
    array = Counted(image)
    (found,), _ = open_stacks(array, "TYX", min_side=32)
    array.read.clear()
    for number in (0, 1, 2, 2, 1, 0, 3, 1, 0):
        np.testing.assert_array_equal(found.planes[number], image[number])
    assert array.read == [0, 1, 2, 3]  # 2 made room for 3
    found.planes[2]
    assert array.read[4:] == [2]


@pytest.mark.usefixtures("_little_memory")
def test_of_large_images_a_few_planes_are_checked_before_training_and_the_others_when_read(image):
    pixels = image.astype(np.float32)
    pixels[3, 3, 2] = np.nan
    array = Counted(pixels)
    (found,), _ = open_stacks(array, "TYX", min_side=32, names=["a.zarr"])
    assert len(array.read) < 12
    with pytest.raises(ImageError, match=r"NaN or infinite pixels in a\.zarr, the first at T=3, Y=3, X=2"):
        found.planes[3]


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((12, 40, 48), np.uint16), "with contrast, found 0"),
        (np.zeros((12, 20, 48), np.uint16), "found 20 x 48"),
        (np.zeros((0, 40, 48), np.uint16), "empty"),
        (np.zeros((12, 40, 48), bool), "found bool"),
        (np.full((12, 40, 48), np.inf, np.float32), "infinite"),
    ],
)
def test_large_images_that_cannot_be_trained_on_are_refused(pixels, words):
    with pytest.raises(ImageError, match=words):
        open_stacks(Counted(pixels), "TYX", min_side=32)


@pytest.mark.usefixtures("_little_memory")
def test_a_channel_of_a_zarr_array_is_not_read_at_once(image, tmp_path):
    array = lazy(image.reshape(6, 2, 40, 48), "zarr", tmp_path)
    (found,), axes = open_stacks(array, "TCYX", min_side=32, channel=1)
    assert not isinstance(found.planes, np.ndarray)
    assert axes == "TYX"
    np.testing.assert_array_equal(found.planes[2], image[5])


def lazy(image, kind, folder):
    if kind == "dask":
        return da.from_array(image, chunks=(1,) * (image.ndim - 2) + image.shape[-2:])
    if kind == "zarr":
        return zarr.create_array(folder / "a.zarr", data=image, chunks=(1,) * (image.ndim - 2) + image.shape[-2:])
    mapped = np.memmap(folder / "a.raw", image.dtype, "w+", shape=image.shape)
    mapped[:] = image
    return mapped


def test_each_image_may_have_axes_of_its_own(image):
    found, axes = open_stacks([image, image[0].T], ["TYX", "XY"], min_side=32)
    assert [len(each.planes) for each in found] == [12, 1]
    np.testing.assert_array_equal(found[1].planes[0], image[0])
    assert axes == "TYX"
