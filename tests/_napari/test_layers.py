from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_direct_denoiser._napari.layers import is_result, read_layer, result_layer
from napari_direct_denoiser.errors import ImageError


def test_result_lies_exactly_over_a_sheared_rotated_layer(rng):
    noisy = Image(
        rng.normal(size=(3, 8, 9)),
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=30,
        shear=(0.1, 0.2, 0.3),
        affine=np.diag([1, 2, 3, 1.0]),
        units=("second", "micrometer", "micrometer"),
        axis_labels=("t", "y", "x"),
        contrast_limits=(-1, 2),
        colormap="magma",
    )
    source = read_layer(noisy)
    data, keywords = result_layer(source, np.ones((3, 8, 9), np.float32), "median", {"seed": 3}, 7)
    result = Image(data, **keywords)
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, name), getattr(noisy, name))
    np.testing.assert_allclose(result.affine.affine_matrix, noisy.affine.affine_matrix)
    np.testing.assert_allclose(result.extent.world, noisy.extent.world)
    assert result.units == noisy.units
    assert result.axis_labels == noisy.axis_labels
    assert tuple(result.contrast_limits) == (-1, 2)
    assert result.colormap.name == "magma"
    assert result.name == "cells HDN median (N=7)"
    assert result.metadata == {"napari_direct_denoiser": {"seed": 3}}
    assert source.axes == "TYX"
    assert is_result(result)
    assert not is_result(noisy)


def test_multiscale_layer_gives_its_full_resolution(rng):
    levels = [rng.normal(size=(64, 64)), rng.normal(size=(32, 32))]
    source = read_layer(Image(levels, multiscale=True))
    assert source.data.shape == (64, 64)
    assert source.axes is None  # the labels are napari's own: "-2", "-1"


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (None, "found none"),
        (Labels(np.ones((8, 8), int), name="cells"), "a Labels layer, 'cells'"),
        (Image(np.zeros((8, 8, 3), np.uint8), rgb=True), r"RGB of shape \(8, 8, 3\).*split the channels"),
    ],
)
def test_refuses_what_is_no_grayscale_image(layer, found):
    with pytest.raises(ImageError, match=found):
        read_layer(layer)
