"""Layers with channels in the Train dock: choose one, split them, or treat them as planes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari_builtins.io import napari_get_reader
from stand_in import noisy_image

from napari_direct_denoiser._napari.shared.session import MODELS

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def test_colour_image_is_split_by_a_button(viewer, dock):
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), name="photo", rgb=True)
    assert dock.train_button.text() == "Train: choose a channel"
    assert not dock.train_button.isEnabled()
    row = dock.data.channels
    assert row.isVisibleTo(dock)
    assert not row.planes_button.isVisibleTo(dock)  # colours are no planes
    row.split_button.click()
    assert dock.layer_choice.currentText() == "photo red"
    assert dock.train_button.isEnabled()
    assert not row.isVisibleTo(dock)


def test_channels_are_split_by_a_button(viewer, dock, rng):
    viewer.add_image(noisy_image(rng, (3, 64, 64)), name="cells", axis_labels=("c", "y", "x"))
    assert dock.train_button.text() == "Train: choose a channel"
    dock.data.channels.split_button.click()
    assert dock.layer_choice.currentText() == "cells C=0"
    assert dock.data.axes_row.words.text() == "64 x 64 = Y X, 1 plane"
    assert dock.train_button.isEnabled()


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_one_of_any_number_of_channels_is_trained_on(viewer, dock, engine, finish, qtbot, rng, channels):
    stand_in = engine(steps=3)
    cells = viewer.add_image(
        noisy_image(rng, (2, channels, 64, 70)), name="cells", axis_labels=("t", "c", "y", "x"), scale=(1, 1, 2, 2)
    )
    assert not dock.train_button.isEnabled()
    assert f"{channels} channels" in dock.ready.text()
    dock.data.channels.choice.setCurrentText("Channel C=1")
    assert dock.train_button.isEnabled()
    viewer.dims.set_point(1, 1)
    dock.train_button.click()
    finish(dock)
    images, _, axes, _ = stand_in.given
    assert axes == ["TCYX"]
    np.testing.assert_array_equal(images[0], cells.data[:, 1:2])
    assert MODELS.all[0].name == "cells C=1, quick, l2"
    preview = viewer.layers["cells C=1 preview"]  # lies over its channel
    np.testing.assert_allclose(preview.data_to_world([0, 0, 5, 6]), cells.data_to_world([0, 1, 5, 6]))
    np.testing.assert_allclose(preview.data[0, 0], cells.data[0, 1] + 3)


def test_one_colour_is_trained_on(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    photo = viewer.add_image(rng.integers(0, 255, (64, 70, 3)).astype(np.uint8), name="photo", rgb=True)
    dock.data.channels.choice.setCurrentText("Channel green")
    dock.train_button.click()
    finish(dock)
    np.testing.assert_array_equal(stand_in.given[0][0], photo.data[..., 1])
    assert MODELS.all[0].name == "photo green, quick, l2"


def test_choice_is_forgotten_with_another_layer(viewer, dock, rng):
    for name in ("first", "second"):
        viewer.add_image(noisy_image(rng, (2, 64, 64)), name=name, axis_labels=("c", "y", "x"))
    dock.data.channels.choice.setCurrentIndex(2)
    assert dock.data.channels.channel == 1
    dock.layer_choice.setCurrentText("first")
    assert dock.data.channels.channel is None
    assert not dock.train_button.isEnabled()


@pytest.mark.parametrize(
    ("labels", "axes"), [(("c", "y", "x"), "Z Y X"), (("s", "y", "x"), "Z Y X"), (("y", "x", "c"), "Y X Z")]
)
def test_planes_that_were_written_as_colours_are_used_with_one_click(viewer, dock, engine, finish, rng, labels, axes):
    stand_in = engine(steps=1)
    shape = [3 if label in "cs" else 64 for label in labels]
    image = viewer.add_image(noisy_image(rng, shape), name="planes", axis_labels=labels, rgb=False)
    button = dock.data.channels.planes_button
    assert button.isVisibleTo(dock)
    assert button.text() == f"Treat as planes ({axes.replace(' ', '')})"
    button.click()
    assert dock.data.axes_row.edit.text() == axes
    assert not dock.data.channels.isVisibleTo(dock)
    dock.train_button.click()
    finish(dock)
    np.testing.assert_array_equal(stand_in.given[0][0], image.data)


def test_three_planes_by_the_defaults_of_tifffile_are_planes_for_napari(viewer, dock, rng, tmp_path):
    tifffile.imwrite(tmp_path / "planes.tif", rng.poisson(50, (3, 64, 70)).astype(np.uint8), photometric="rgb")
    (data, *_) = napari_get_reader(str(tmp_path / "planes.tif"))(str(tmp_path / "planes.tif"))[0]
    viewer.add_image(data)
    assert "3 planes" in dock.data.axes_row.words.text()
    assert dock.train_button.isEnabled()
