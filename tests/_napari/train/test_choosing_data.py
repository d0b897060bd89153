"""Choosing what to train on."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from stand_in import check, errors_shown, noisy_image

from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train.widget import TrainWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def test_dock_follows_the_layers(viewer, dock, rng):
    assert not dock.train_button.isEnabled()
    assert "open an image" in dock.train_button.text()
    viewer.add_image(noisy_image(rng), name="first")
    assert dock.train_button.isEnabled()
    assert dock.train_button.text() == "Train"
    second = viewer.add_image(noisy_image(rng), name="second")
    assert dock.layer_choice.currentText() == "second"
    viewer.add_labels(np.ones((2, 64, 64), int))
    assert dock.layer_choice.currentText() == "second"
    second.name = "renamed"
    assert dock.layer_choice.currentText() == "renamed"
    viewer.layers.move(1, 0)
    assert dock.layer_choice.currentText() == "renamed"
    viewer.layers.remove(second)
    assert dock.layer_choice.currentText() == "first"
    viewer.layers.clear()
    assert not dock.train_button.isEnabled()


def test_active_layer_is_preselected(viewer, qtbot, rng):
    viewer.add_image(noisy_image(rng), name="first")
    viewer.add_image(noisy_image(rng), name="second")
    viewer.layers.selection.active = viewer.layers["first"]
    dock = TrainWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.layer_choice.currentText() == "first"


@pytest.mark.parametrize(
    ("shape", "labels", "words"),
    [
        ((3, 64, 80), ("z", "y", "x"), "3 x 64 x 80 = Z Y X, 3 planes"),
        ((3, 64, 80), None, "3 x 64 x 80 = T Y X, 3 planes (guessed)"),
        ((2, 3, 64, 80), None, "2 x 3 x 64 x 80 = T Z Y X, 6 planes (guessed)"),
        ((64, 80), ("y", "x"), "64 x 80 = Y X, 1 plane"),
    ],
)
def test_axes_are_read_from_the_layer_and_said_in_words(viewer, dock, rng, shape, labels, words):
    viewer.add_image(noisy_image(rng, shape), axis_labels=labels)
    assert dock.data.axes_row.words.text() == words


def test_axes_are_corrected_for_each_layer(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    viewer.add_image(noisy_image(rng, (64, 80, 3)), name="first", rgb=False)
    assert not dock.train_button.isEnabled()
    dock.data.axes_row.edit.clear()
    dock.data.axes_row.edit.textEdited.emit("y x t")
    assert dock.data.axes_row.words.text() == "64 x 80 x 3 = Y X T, 3 planes"
    viewer.add_image(noisy_image(rng), name="second")
    assert dock.data.axes_row.edit.text() == "T Y X"
    dock.layer_choice.setCurrentText("first")
    assert dock.data.axes_row.edit.text() == "y x t"
    dock.train_button.click()
    finish(dock)
    images, _, axes, _ = stand_in.given
    assert (images[0].shape, axes) == ((64, 80, 3), ["YXT"])


@pytest.mark.parametrize("written", ["TY", "TTX", "ZYX T", ""])
def test_invalid_axes_are_said(viewer, dock, rng, written):
    viewer.add_image(noisy_image(rng))
    dock.data.axes_row.edit.textEdited.emit(written)
    assert dock.train_button.text() == "Train: correct the axes"
    assert "Y and X among them" in dock.ready.text()
    assert not dock.train_button.isEnabled()
    dock.data.axes_row.edit.textEdited.emit("zyx")
    assert dock.train_button.isEnabled()


def test_labels_that_do_not_tell_the_axes_are_said_and_corrected(viewer, dock, rng):
    viewer.add_image(noisy_image(rng), axis_labels=("t", "row", "x"))
    assert dock.train_button.text() == "Train: correct the axes"
    assert "'row'" in dock.ready.text()
    dock.data.axes_row.edit.textEdited.emit("tyx")
    assert dock.train_button.isEnabled()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.eye(64, dtype=bool), "bool"),
        (np.random.default_rng(0).normal(size=(9, 90)), "9 x 90"),
        (np.random.default_rng(0).normal(size=(2, 1, 1, 1, 64, 64)), "6"),
    ],
    ids=["bool", "tiny", "6-D"],
)
def test_bad_image_is_refused_while_choosing(viewer, dock, image, words):
    viewer.add_image(image)
    assert not dock.train_button.isEnabled()
    assert words in dock.ready.text()
    assert str(dock.ready.text()) == dock.train_button.toolTip()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.where(np.eye(64) > 0, np.nan, 1.0), "NaN"),
        (np.full((64, 64), 7.0), "contrast"),
        (np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16), int)), "labels"),
    ],
    ids=["nan", "constant", "labels"],
)
def test_bad_pixels_are_refused_with_words_before_training(viewer, dock, finish, image, words):
    with np.errstate(all="ignore"):
        viewer.add_image(image, contrast_limits=(0, 1))
        dock.train_button.click()
        said = finish(dock)
    assert words in said
    assert errors_shown() == [said]
    assert not MODELS.all
    assert dock.train_button.isEnabled()


def test_several_layers_are_trained_on_at_once(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    viewer.add_image(noisy_image(rng, (64, 70)), name="plane")
    viewer.add_image(noisy_image(rng, (3, 64, 80)), name="other")
    cells = viewer.add_image(noisy_image(rng, (2, 64, 64)), name="cells")
    assert [layer.name for layer in dock.data.others()] == ["other", "plane"]
    check(dock.data.more.also, "plane", "other")
    dock.train_button.click()
    finish(dock)
    images, _, axes, _ = stand_in.given
    assert axes == ["TYX", "TYX", "YX"]
    assert [image.shape for image in images] == [(2, 64, 64), (3, 64, 80), (64, 70)]
    np.testing.assert_array_equal(images[0], cells.data)
    assert MODELS.all[0].name == "cells and 2 more, quick, l2"


def test_a_further_layer_that_cannot_be_used_is_refused(viewer, dock, rng):
    viewer.add_image(noisy_image(rng, (2, 9, 9)), name="small")
    viewer.add_image(noisy_image(rng), name="cells")
    check(dock.data.more.also, "small")
    assert not dock.train_button.isEnabled()
    assert "'small'" in dock.ready.text()


def test_region_of_a_layer_is_trained_on(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    cells = viewer.add_image(noisy_image(rng, (2, 200, 220)), name="cells", scale=(1, 0.5, 0.5), translate=(0, 10, 20))
    dock.data.more.draw_button.click()
    shapes = viewer.layers["Region"]
    assert dock.train_button.text() == "Train: draw a rectangle"
    shapes.add_rectangles([[20, 30], [52, 85]])  # world: pixels 20 to 84 and 20 to 130
    assert dock.train_button.text() == "Train"
    dock.train_button.click()
    finish(dock)
    np.testing.assert_array_equal(stand_in.given[0][0], cells.data[:, 20:85, 20:131])
    shapes.add_rectangles([[20, 30], [30, 85]])
    assert dock.train_button.text() == "Train: draw a larger rectangle"
    viewer.layers.remove(shapes)
    assert dock.train_button.isEnabled()


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (2, 2, 64, 64)], ids=["2-D", "one plane", "4-D"])
def test_images_of_two_to_four_axes_are_trained_on(viewer, dock, engine, finish, rng, shape):
    stand_in = engine(steps=1)
    viewer.add_image(noisy_image(rng, shape), name="cells")
    dock.train_button.click()
    assert "1 step in" in finish(dock)
    assert stand_in.given[0][0].shape == shape
    assert viewer.layers["cells preview"].data.shape == (1,) * (len(shape) - 2) + (64, 64)


@pytest.mark.slow
def test_four_axes_are_trained_on_by_the_real_engine(viewer, dock, finish, rng):
    cells = viewer.add_image(noisy_image(rng, (2, 2, 64, 64)), name="cells")
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    assert "1 step in" in finish(dock)
    assert MODELS.all[0].denoiser.denoise(cells.data).shape == cells.data.shape
    assert viewer.layers["cells preview"].data.shape == (1, 1, 64, 64)


def test_lazy_and_multiscale_layers_are_trained_on(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    pixels = noisy_image(rng, (2, 128, 128))
    viewer.add_image(da.from_array(pixels, chunks=64), name="lazy")
    viewer.add_image([pixels, pixels[:, ::2, ::2]], name="pyramid", multiscale=True)
    for name in ("lazy", "pyramid"):
        dock.layer_choice.setCurrentText(name)
        dock.train_button.click()
        finish(dock)
        np.testing.assert_array_equal(stand_in.given[0][0], pixels)
