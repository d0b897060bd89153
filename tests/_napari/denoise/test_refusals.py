"""What the Denoise dock refuses or warns of, and the choice of axes and channels."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_direct_denoiser import Denoiser
from napari_direct_denoiser._napari.shared.session import MODELS

pytestmark = pytest.mark.gui


def test_an_image_unlike_the_training_gets_a_warning_and_choices_that_do_not_fit_are_refused(
    viewer, dock, denoiser, direct, make_noisy
):
    viewer.add_image(make_noisy() * 12, name="bright")
    direct()
    words = dock.warning.text()
    assert not dock.warning.isHidden()
    assert "“bright” is 12 times brighter" in words
    assert "12 times the contrast" in words
    assert "bright direct" in viewer.layers  # nothing is refused
    viewer.add_image(make_noisy(seed=5), name="alike")
    direct()
    assert dock.warning.isHidden()
    wrong = {
        "none checked": {"mean": False, "std": False},
        "at most as many single samples as are drawn, 3, found 4": {"samples": 3, "single_samples": 4},
        "direct pass": {"result": "as looked at", "mean": True, "single_samples": 0},
    }
    for words, choices in wrong.items():
        for name, value in choices.items():
            (dock.where if name == "result" else dock.form)[name].value = value
        dock.sample_button.click()
        assert not dock.job.running
        assert words in dock.status.text()


def test_bad_images_are_refused_and_the_next_run_works(viewer, dock, denoiser, direct, make_noisy, notes):
    rng = np.random.default_rng(0)
    bad = {
        "NaN": np.where(np.eye(64) > 0, np.nan, 1.0),
        "5 x 5": rng.normal(size=(5, 5)),
        "bool": np.eye(64, dtype=bool),
        "found 6": rng.normal(size=(2, 1, 1, 1, 64, 64)),
    }
    for words, image in bad.items():
        notification_manager.records.clear()
        viewer.add_image(image, contrast_limits=(0, 1))
        said = direct()
        assert words in said
        assert notes("error") == [said]
    assert len(viewer.layers) == len(bad)
    notification_manager.records.clear()
    labels = ("t", "row", "x")
    viewer.add_image(make_noisy(), name="odd names", axis_labels=labels)
    said = direct()
    assert str(labels) in said
    assert notes("error") == [said]
    viewer.add_image(make_noisy(), name="good")
    direct()
    assert "good direct" in viewer.layers
    viewer.layers.clear()
    viewer.add_labels(np.ones((64, 64), int))  # not an image: it cannot be chosen
    assert not dock.direct_button.isEnabled()
    assert dock.layer_choice.layer is None


def test_axes_are_those_of_the_labels_of_the_person_or_of_the_training(viewer, dock, direct, untrained, make_noisy):
    image = make_noisy((5, 64, 64))
    last = np.moveaxis(image, 0, -1)
    transposed = Denoiser.for_images(last, untrained.provenance.settings, axes="YXT")
    MODELS.add("transposed", transposed)
    viewer.add_image(last, name="cells")
    assert dock.axes_row.edit.text() == "Y X T"  # as in training
    direct()
    result = viewer.layers["cells direct"]
    np.testing.assert_array_equal(result.data, transposed.denoise(last))
    assert result.axis_labels == ("y", "x", "t")
    viewer.add_image(image, name="named", axis_labels=("time", "y", "x"))
    assert dock.axes_row.edit.text() == "T Y X"
    dock.axes_row.edit.setText("T Y Q")
    dock.axes_row.edit.textEdited.emit("T Y Q")
    dock.direct_button.click()
    assert not dock.job.running
    assert "'TYQ'" in dock.status.text()


def test_a_channel_is_chosen_and_denoised_where_it_lies(viewer, dock, denoiser, direct, make_noisy):
    for channels in (2, 5):
        viewer.layers.clear()
        pixels = make_noisy((3, channels, 64, 64))
        place = {"axis_labels": ("t", "c", "y", "x"), "scale": (1, 4, 2, 3), "rotate": 20}
        layer = viewer.add_image(pixels, name="cells", **place)
        dock.where["planes"].value = "all"
        assert "choose a channel" in direct()
        assert len(viewer.layers) == 1
        dock.channels.choice.setCurrentIndex(2)
        direct()
        result = viewer.layers["cells C=1 direct"]
        np.testing.assert_allclose(result.data[:, 0], denoiser.denoise(pixels[:, 1]), atol=1e-3)
        np.testing.assert_allclose(result.data_to_world((2, 0, 5, 6)), layer.data_to_world((2, 1, 5, 6)))
        dock.where["planes"].value = "in view"
        viewer.dims.set_point((0, 1), tuple(layer.data_to_world((2, 1, 0, 0))[:2]))
        direct()
        result = viewer.layers["cells C=1 T=2 direct"]
        np.testing.assert_allclose(result.data[0, 0], denoiser.denoise(pixels[2, 1]), atol=1e-3)
        np.testing.assert_allclose(result.data_to_world((0, 0, 5, 6)), layer.data_to_world((2, 1, 5, 6)))
    planes = viewer.add_image(make_noisy(), name="planes", axis_labels=("c", "y", "x"))
    dock.where["planes"].value = "all"
    dock.channels.planes_button.click()  # they are no channels
    assert dock.channels.isHidden()
    direct()
    np.testing.assert_array_equal(viewer.layers["planes direct"].data, denoiser.denoise(planes.data))


def test_colours_and_a_last_axis_of_three_are_split_or_one_is_chosen(viewer, dock, denoiser, direct, make_noisy):
    last = np.moveaxis(make_noisy((3, 64, 64)), 0, -1)
    dock.direct_form["direct_std"].value = False
    images = {"colour": (last.clip(0, 255).astype(np.uint8), True), "last": (last, False)}
    for name, (pixels, rgb) in images.items():
        viewer.layers.clear()
        layer = viewer.add_image(pixels, name=name, rgb=rgb)
        assert "choose a channel" in direct()
        dock.channels.choice.setCurrentIndex(1)
        direct()
        chosen = viewer.layers[-1]
        np.testing.assert_allclose(np.squeeze(chosen.data), denoiser.denoise(pixels[..., 0]), atol=1e-3)
        dock.channels.split_button.click()
        assert len(viewer.layers) == 5
        assert not layer.visible
        channel = viewer.layers[2]
        assert channel.ndim == 2
        assert dock.layer_choice.currentText() == channel.name
        assert dock.channels.isHidden()
        direct()
        assert f"{channel.name} direct" in viewer.layers
