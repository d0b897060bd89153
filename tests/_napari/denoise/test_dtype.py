"""Results of the Denoise dock in the dtype of the image."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gui


def test_results_are_float32_or_have_the_dtype_of_the_image(viewer, dock, direct, sample, denoiser, make_noisy):
    noisy = viewer.add_image(make_noisy().astype(np.uint16), name="cells")
    assert dock.where["dtype"].value == "float32"
    assert "clipped" not in direct()
    assert viewer.layers["cells direct"].data.dtype == np.float32
    dock.where["dtype"].value = "same"
    direct()
    found = viewer.layers["cells direct [1]"].data
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.rint(denoiser.denoise(noisy.data)))
    assert viewer.layers["cells std [1]"].data.dtype == np.float32
    sample(samples=2, single_samples=2)
    assert viewer.layers["cells HDN sample (N=2)"].data.dtype == np.uint16
    assert viewer.layers["cells HDN std (N=2)"].data.dtype == np.float32


@pytest.mark.parametrize("result", ["in memory", "zarr folder", "as looked at"])
def test_pixels_beyond_the_range_are_clipped_and_said(viewer, dock, direct, plus_one, make_noisy, folder, result):
    """The direct pass adds one to pixels of which some are at the highest number."""
    data = make_noisy().clip(0, 150).astype(np.uint8)
    data[0, :5, :4] = 255
    viewer.add_image(data, name="cells")
    dock.where["dtype"].value = "same"
    dock.where["result"].value = result
    said = direct()
    found = np.asarray(viewer.layers["cells direct"].data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.minimum(data.astype(int) + 1, 255))
    assert ("20 pixels (direct) were clipped to the range of uint8." in said) == (result != "as looked at")
