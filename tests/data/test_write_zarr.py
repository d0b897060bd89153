"""Any array to OME-Zarr, part by part."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.data import write_zarr
from napari_direct_denoiser.data.io import open_image
from napari_direct_denoiser.errors import SettingError


class Parts:
    """An array that is not in memory: it counts the pixels that are read at once."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype, self.most = pixels, pixels.shape, pixels.dtype, 0

    def __getitem__(self, index):
        part = self.pixels[index]
        self.most = max(self.most, part.size)
        return part


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "YXT"])
def test_an_image_is_read_in_tiles_and_comes_back_as_it_was(tmp_path, rng, monkeypatch, axes):
    monkeypatch.setattr(write_zarr, "_SIDE", 64)
    shape = tuple({"Y": 150, "X": 90}.get(axis, 2) for axis in axes)
    image = Parts(rng.integers(0, 60_000, shape).astype(np.uint16))
    write_zarr.write_zarr(tmp_path / "a.zarr", image, axes)
    found = np.asarray(open_image(tmp_path / "a.zarr").data)
    np.testing.assert_array_equal(found, image.pixels)
    assert image.most == 64 * 64


def test_nothing_is_left_of_an_image_that_cannot_be_read(tmp_path):
    class Broken(Parts):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_zarr.write_zarr(tmp_path / "a.zarr", Broken(np.zeros((8, 8))), "YX")
    with pytest.raises(SettingError, match="ends in"):
        write_zarr.write_zarr(tmp_path / "a.tif", np.zeros((8, 8)), "YX")
    assert not list(tmp_path.iterdir())
