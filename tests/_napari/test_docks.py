"""The docks in the real viewer. The engine is real where a test does not say otherwise (fixture `engine`)."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QFileDialog, QLineEdit

from napari_direct_denoiser._napari import workers
from napari_direct_denoiser._napari.session import MODELS
from napari_direct_denoiser.errors import TrainingError

PLUGIN = "napari-direct-denoiser"


def noisy_image(rng, shape=(2, 64, 64)):
    return rng.poisson(20, shape).astype(np.float32)


def errors_shown():
    return [note.message for note in notification_manager.records if note.severity == "error"]


@pytest.fixture(autouse=True)
def no_notifications():
    notification_manager.records.clear()


# The main job.


def test_main_path_from_the_sample_to_layers_that_overlay_exactly(viewer, train_dock, denoise_dock, finish):
    viewer.open_sample(PLUGIN, "simulated-filaments")
    sample = viewer.layers["Simulated filaments"]
    noisy = viewer.add_image(
        sample.data[:3, :128, :160],
        name="crop",
        scale=sample.scale,
        units=sample.units,
        axis_labels=sample.axis_labels,
        translate=(0, 3, 4),
        rotate=20,
        shear=(0.1, 0, 0.2),
        affine=np.diag([1, 1.5, 1, 1]),
        contrast_limits=(90, 150),
        colormap="green",
    )
    assert train_dock.layer_choice.currentText() == "crop"
    train_dock.advanced["max_steps"].value = 20
    train_dock.train_button.click()
    assert "20 steps" in finish(train_dock, 120_000)
    denoise_dock.form["samples"].value = 3
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    denoise_dock.layer_choice.setCurrentText("crop")
    denoise_dock.sample_button.click()
    finish(denoise_dock)
    for name, expected in (("crop direct", ("direct", None, None)), ("crop HDN mean (N=3)", ("mean", 3, 0))):
        result = viewer.layers[name]
        assert result.data.shape == noisy.data.shape
        assert result.data.dtype == np.float32
        assert abs(result.data.mean() - noisy.data.mean()) < 10  # image units
        for key in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(result, key), getattr(noisy, key))
        np.testing.assert_allclose(result.affine.affine_matrix, noisy.affine.affine_matrix)
        assert result.units == noisy.units
        assert result.axis_labels == noisy.axis_labels
        assert tuple(result.contrast_limits) == (90, 150)
        assert result.colormap.name == "green"
        provenance = result.metadata["napari_direct_denoiser"]
        assert provenance["source"] == "crop"
        assert provenance["model"] == "crop, quick, l2"
        assert (provenance["method"], provenance["samples"], provenance["seed"]) == expected
        assert provenance["seconds"] > 0
        assert provenance["training"]["steps"] == 20
    assert not errors_shown()


def test_saved_model_is_loaded_and_does_the_same(viewer, train_dock, denoise_dock, finish, monkeypatch, tmp_path, rng):
    viewer.add_image(noisy_image(rng), name="cells")
    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    assert not train_dock.save_button.isEnabled()
    train_dock.advanced["max_steps"].value = 2
    train_dock.train_button.click()
    finish(train_dock)
    train_dock.save_button.click()
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    denoise_dock.load_button.click()
    finish(denoise_dock)
    assert denoise_dock.model.name == "model"
    denoise_dock.layer_choice.setCurrentText("cells")
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, viewer.layers["cells direct [1]"].data)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.where(np.eye(64) > 0, np.nan, 1.0), "NaN"),
        (np.full((64, 64), 7.0), "contrast"),
        (np.eye(64, dtype=bool), "bool"),
        (np.random.default_rng(0).normal(size=(9, 9)), "9 x 9"),
        (np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16), int)), "labels"),
        (np.random.default_rng(0).normal(size=(2, 1, 1, 1, 64, 64)), "6"),
    ],
    ids=["nan", "constant", "bool", "tiny", "labels", "6-D"],
)
def test_bad_image_is_refused_with_words_before_training(  # napari itself takes no complex numbers
    viewer, train_dock, finish, image, words
):
    with np.errstate(all="ignore"):
        viewer.add_image(image, contrast_limits=(0, 1))
        train_dock.train_button.click()
        said = finish(train_dock)
    assert words in said
    assert errors_shown() == [said]
    assert not MODELS.all
    assert train_dock.train_button.isEnabled()


def test_rgb_layer_is_refused_at_once(viewer, train_dock):
    viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True)
    train_dock.train_button.click()
    assert not train_dock.job.running
    assert "split the channels" in train_dock.status.text()
    assert len(errors_shown()) == 1


# Stop, close, fail.


def test_stop_keeps_the_model(viewer, train_dock, engine, finish, qtbot, rng):
    stand_in = engine(steps=10_000)
    viewer.add_image(noisy_image(rng), name="cells")
    train_dock.train_button.click()
    qtbot.waitUntil(lambda: train_dock.progress.value() > 0)
    assert "left" in train_dock.progress.text()
    train_dock.stop_button.click()
    assert "Stopped" in finish(train_dock, 2000)
    assert [model.denoiser for model in MODELS.all] == [stand_in]
    assert stand_in.closed
    assert "MainThread" not in stand_in.threads
    assert not train_dock.stop_button.isEnabled()


def test_stopping_the_real_engine_leaves_a_model_that_denoises(viewer, train_dock, denoise_dock, finish, qtbot, rng):
    viewer.add_image(noisy_image(rng), name="cells")
    train_dock.train_button.click()
    qtbot.waitUntil(lambda: train_dock.progress.value() > 0 and train_dock.progress.maximum() > 0, timeout=60_000)
    train_dock.stop_button.click()
    finish(train_dock, 10_000)
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    assert np.isfinite(viewer.layers["cells direct"].data).all()


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("no"), TrainingError("Loss is NaN")])
def test_error_in_training_is_shown_and_the_next_run_works(viewer, train_dock, engine, finish, rng, error):
    engine(error=error)
    viewer.add_image(noisy_image(rng))
    train_dock.train_button.click()
    assert str(error) in finish(train_dock)
    assert len(errors_shown()) == 1
    assert not MODELS.all
    engine(steps=3)
    train_dock.train_button.click()
    assert "Done" in finish(train_dock)
    assert len(MODELS.all) == 1


def test_error_after_some_steps_keeps_the_last_good_model(viewer, train_dock, engine, finish, rng):
    stand_in = engine(error=TrainingError("Loss is NaN"), error_at=10)
    viewer.add_image(noisy_image(rng))
    train_dock.train_button.click()
    assert "Loss is NaN" in finish(train_dock)
    assert MODELS.all[0].denoiser is stand_in


@pytest.mark.parametrize("close", ["dock", "viewer", "napari"])
def test_closing_while_training_stops_the_worker_and_its_thread(viewer, train_dock, engine, qtbot, rng, close):
    stand_in = engine(steps=10_000)
    viewer.add_image(noisy_image(rng))
    train_dock.train_button.click()
    qtbot.waitUntil(lambda: train_dock.progress.value() > 0)
    start = time.monotonic()
    if close == "dock":
        train_dock.parent().destroyOnClose()  # the cross in the title of the dock
    elif close == "viewer":
        viewer.close()
    else:
        train_dock.job.shutdown()  # what aboutToQuit calls
    assert stand_in.closed
    assert QThreadPool.globalInstance().waitForDone(1000)
    assert time.monotonic() - start < 2
    if close != "viewer":
        viewer.layers.clear()  # nothing of the dock listens any more
        viewer.theme = "light"


# The docks by themselves.


def test_dock_follows_the_layers(viewer, train_dock, rng):
    assert not train_dock.train_button.isEnabled()
    assert "Open an image" in train_dock.status.text()
    viewer.add_image(noisy_image(rng), name="first")
    assert train_dock.train_button.isEnabled()
    assert train_dock.status.text() == ""
    second = viewer.add_image(noisy_image(rng), name="second")
    assert train_dock.layer_choice.currentText() == "second"
    viewer.add_labels(np.ones((2, 64, 64), int))
    assert train_dock.layer_choice.currentText() == "second"
    second.name = "renamed"
    assert train_dock.layer_choice.currentText() == "renamed"
    viewer.layers.move(1, 0)
    assert train_dock.layer_choice.currentText() == "renamed"
    viewer.layers.remove(second)
    assert train_dock.layer_choice.currentText() == "first"
    viewer.layers.clear()
    assert not train_dock.train_button.isEnabled()


def test_active_layer_is_preselected(viewer, rng):
    viewer.add_image(noisy_image(rng), name="first")
    viewer.add_image(noisy_image(rng), name="second")
    viewer.layers.selection.active = viewer.layers["first"]
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    assert dock.layer_choice.currentText() == "first"


def test_every_control_is_explained(train_dock):
    controls = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    found = [child for kind in controls for child in train_dock.findChildren(kind)]
    inner = [child for child in found if isinstance(child.parent(), QAbstractSpinBox | QComboBox)]
    silent = [child for child in found if child not in inner and not child.toolTip()]
    assert len(found) > len(inner)
    assert not silent


def test_docks_and_sample_open_without_torch():
    code = (
        "import sys, napari_direct_denoiser._napari.train_widget, napari_direct_denoiser._napari.denoise_widget;"
        "from napari_direct_denoiser._napari.sample_data import simulated_filaments as f; f();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_worker_told_to_quit_by_napari_counts_as_stopped(viewer, train_dock, engine, finish, qtbot, rng):
    engine(steps=10_000)
    viewer.add_image(noisy_image(rng))
    train_dock.train_button.click()
    qtbot.waitUntil(lambda: train_dock.progress.value() > 0)
    train_dock.job._worker.quit()
    assert "Stopped" in finish(train_dock, 2000)
    assert len(MODELS.all) == 1


def test_updates_come_at_most_ten_times_a_second(viewer, train_dock, engine, finish, rng):
    engine(steps=50)  # 1 s
    updates = []
    train_dock.job.updated.connect(updates.append)
    viewer.add_image(noisy_image(rng))
    train_dock.train_button.click()
    finish(train_dock)
    assert 3 < len(updates) <= 14
    assert updates[-1].record.step == 50
    assert isinstance(updates[-1], workers.Update)
