from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_direct_denoiser._napari.shared.layers import (
    geometry,
    is_result,
    read_layer,
    result_layer,
    with_samples_axis,
    without_axis,
)
from napari_direct_denoiser.errors import ImageError

pytestmark = pytest.mark.gui


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


def test_result_of_an_unlabelled_layer_is_labelled_by_the_axes_of_the_run():
    source = read_layer(Image(np.zeros((3, 8, 9))))
    for axes, output, labels in (("TYX", "mean", ("t", "y", "x")), ("ZYX", "sample", ("sample", "z", "y", "x"))):
        data, keywords = result_layer(source, np.zeros((2,) * len(labels)), output, {}, 7, axes=axes)
        assert Image(data, **keywords).axis_labels == labels
    named = read_layer(Image(np.zeros((3, 8, 9)), axis_labels=("Time", "y", "x")))
    assert result_layer(named, np.zeros((3, 8, 9)), "direct", {}, axes="TYX")[1]["axis_labels"] == ("Time", "y", "x")


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
        (Image(np.zeros((8, 8, 3), np.uint8), rgb=True), r"RGB of shape \(8, 8, 3\).*split"),
    ],
)
def test_refuses_what_is_no_grayscale_image(layer, found):
    with pytest.raises(ImageError, match=found):
        read_layer(layer)


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("t", "y", "x"), "TYX"),
        (("Time", "Y", "X"), "TYX"),
        (("y", "x", "channel"), "YXC"),
        (("tile", "y", "x"), "QYX"),
        (("-3", "y", "x"), "QYX"),
        (("-3", "-2", "-1"), None),
    ],
)
def test_axes_are_read_from_the_labels(labels, axes):
    assert read_layer(Image(np.zeros((5, 8, 9)), axis_labels=labels)).axes == axes


@pytest.mark.parametrize("labels", [("t", "row", "x"), ("y", "y", "x"), ("a", "b", "c")])
def test_labels_without_y_and_x_are_refused(labels):
    with pytest.raises(ImageError, match=r"found .* in 'cells': name its axes"):
        read_layer(Image(np.zeros((5, 8, 9)), axis_labels=labels, name="cells"))


def test_deviation_has_a_contrast_and_colours_of_its_own(rng):
    source = read_layer(Image(rng.normal(size=(8, 9)), contrast_limits=(-1, 2), gamma=0.5))
    _, keywords = result_layer(source, np.ones((8, 9)), "std", {}, 7, (0.0, 3.0))
    assert keywords["contrast_limits"] == (0.0, 3.0)
    assert (keywords["colormap"], keywords["gamma"]) == ("magma", 1.0)


@pytest.mark.parametrize("shear", [[0.1, 0.0, 0.3], np.array([[1, 0, 0], [0, 1, 0], [0, 0.2, 1]])])
def test_one_axis_more_or_less_leaves_the_others_where_they_are(rng, shear):
    layer = Image(
        rng.normal(size=(3, 8, 9)),
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=30,
        shear=shear,
        affine=np.diag([1, 2, 3, 1.0]),
    )
    place = geometry(layer)
    more = Image(np.zeros((4, 3, 8, 9)), **with_samples_axis(place))
    np.testing.assert_allclose(more.data_to_world((2, 1, 5, 6))[1:], layer.data_to_world((1, 5, 6)))
    assert more.data_to_world((2, 1, 5, 6))[0] == 2
    again = without_axis(geometry(more), 0)
    for key in ("scale", "translate", "rotate", "affine"):
        np.testing.assert_allclose(again[key], place[key])
    fewer = Image(np.zeros((3, 8, 9)), **again)
    np.testing.assert_allclose(fewer.data_to_world((1, 5, 6)), layer.data_to_world((1, 5, 6)))
