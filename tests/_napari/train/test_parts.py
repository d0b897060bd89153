from __future__ import annotations

from unittest.mock import create_autospec

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image, Shapes

from napari_direct_denoiser._napari.shared.layers import Source, read_layer
from napari_direct_denoiser._napari.train.parts import NotReadyError, Part, parts_of, regions
from napari_direct_denoiser._napari.train.runs import seconds_left
from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.progress import TrainingProgress


def part(shape, axes, rows=slice(None), columns=slice(None)):
    return Part(read_layer(Image(np.arange(np.prod(shape)).reshape(shape)), axes), axes, rows, columns)


def test_part_tells_its_shape_without_reading():
    def fail(block):
        raise AssertionError("read")

    lazy = da.zeros((2, 50, 3, 60)).map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0, 0)))
    found = Part(Source("lazy", lazy, None, {}), "TYZX", slice(10, 30), slice(0, 25))
    assert found.planes_shape == (6, 20, 25)


def test_part_is_cut_where_its_axes_are():
    found = part((5, 6, 7), "XTY", rows=slice(1, 4), columns=slice(2, 5))
    np.testing.assert_array_equal(found.pixels(), found.source.data[2:5, :, 1:4])


def test_regions_follow_the_transforms_of_both_layers():
    image = Image(np.zeros((3, 100, 120)), scale=(1, 2, 2), translate=(0, 10, 20))
    shapes = Shapes([[[14, 30], [14, 60], [50, 60], [50, 30]]], shape_type="rectangle", scale=(1, 1), translate=(5, 0))
    assert regions(image, "TYX", shapes) == [(slice(5, 23), slice(5, 21))]


def test_regions_are_cut_at_the_edge_and_refused_outside():
    image = Image(np.zeros((100, 120)))
    box = np.array([[-10, 50], [-10, 500], [20, 500], [20, 50]])
    assert regions(image, "YX", Shapes([box])) == [(slice(0, 21), slice(50, 120))]
    with pytest.raises(ImageError, match="outside"):
        regions(image, "YX", Shapes([box - 1000]))
    with pytest.raises(ImageError, match="found none"):
        regions(image, "YX", Shapes([box], shape_type="ellipse"))


def test_refusal_names_the_layer_and_what_mends_it():
    with pytest.raises(NotReadyError) as refused:
        parts_of([Image(np.zeros((2, 20, 80)), name="cells")], None, lambda layer: (read_layer(layer), None))
    assert refused.value.short == "choose another image"
    assert "found 20 x 80 in 'cells'" in str(refused.value)


def test_time_left_does_not_count_the_slow_first_step():
    def record(fraction, seconds):
        return create_autospec(TrainingProgress, instance=True, fraction=fraction, elapsed_seconds=seconds)

    first = record(0.01, 10.0)
    assert seconds_left(first, first) is None
    assert seconds_left(first, record(0.02, 11.0)) is None
    assert seconds_left(first, record(0.11, 20.0)) == pytest.approx(89)


def test_a_part_of_a_lazy_layer_is_not_read(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", data=np.arange(4 * 50 * 60).reshape(4, 50, 60), chunks=(1, 50, 60))
    found = Part(Source("a", array, None, {}), "TYX", slice(10, 30), slice(0, 25)).pixels()
    assert not isinstance(found, np.ndarray)
    assert found.shape == (4, 20, 25)
    np.testing.assert_array_equal(found[2], array[2, 10:30, :25])
