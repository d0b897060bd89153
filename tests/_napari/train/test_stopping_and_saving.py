"""Stop, pause, save, load and continue in the Train dock."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog
from stand_in import errors_shown, noisy_image

from napari_direct_denoiser import load, train
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.errors import DenoiserError

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def test_stop_keeps_the_model(dock, running, finish):
    stand_in = running()
    dock.stop_button.click()
    assert "Stopped" in finish(dock, 2000)
    assert [model.denoiser for model in MODELS.all] == [stand_in.denoiser]
    assert dock.models.model is MODELS.all[0]
    assert stand_in.closed
    assert "MainThread" not in stand_in.threads
    assert not dock.stop_button.isEnabled()


def test_one_click_stops_the_training_and_denoises_the_stack(dock, running, finish, qtbot, monkeypatch):
    denoised = []
    monkeypatch.setattr(
        "napari_direct_denoiser._napari.train.widget.denoise_stack",
        lambda viewer, layer, model: denoised.append((layer, model, dock.job.running)),
    )
    button = dock.models.denoise_button
    assert button.text() == "Denoise stack"
    running()
    qtbot.waitUntil(lambda: button.text() == "Stop and denoise")
    button.click()
    assert "Stopped" in finish(dock, 2000)
    assert denoised == [(dock.layer_choice.layer, MODELS.all[0], False)]
    assert button.text() == "Denoise stack"


def test_pause_and_resume(dock, running, finish, qtbot):
    stand_in = running()
    dock.pause_button.click()
    qtbot.waitUntil(lambda: "Paused" in dock.status.text())
    made = stand_in.made
    qtbot.wait(150)
    assert stand_in.made == made
    assert "paused" in dock.progress.text()
    assert dock.pause_button.text() == "Resume"
    dock.pause_button.click()
    qtbot.waitUntil(lambda: stand_in.made > made)
    dock.pause_button.click()
    dock.stop_button.click()
    assert "Stopped" in finish(dock, 2000)
    assert dock.pause_button.text() == "Pause"
    assert not dock.pause_button.isEnabled()


def test_stopping_the_real_engine_leaves_a_model_that_denoises(viewer, dock, finish, qtbot, rng):
    cells = viewer.add_image(noisy_image(rng), name="cells")
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0 and dock.progress.maximum() > 0, timeout=60_000)
    dock.stop_button.click()
    finish(dock, 10_000)
    assert np.isfinite(MODELS.all[0].denoiser.denoise(cells.data)).all()


def test_model_is_saved_while_it_trains_and_training_goes_on(dock, viewer, finish, qtbot, rng, file_dialog, tmp_path):
    cells = viewer.add_image(noisy_image(rng), name="cells")
    assert not dock.models.save_button.isEnabled()
    dock.advanced["max_steps"].value = 500
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.progress.maximum() > 0 and dock.progress.value() > 0, timeout=60_000)
    file_dialog(tmp_path / "early")
    dock.models.save_button.click()
    path = tmp_path / "early.safetensors"
    qtbot.waitUntil(path.exists, timeout=10_000)
    qtbot.waitUntil(lambda: "Saved it" in dock.status.text())
    assert dock.job.running
    dock.stop_button.click()
    finish(dock, 10_000)
    saved = load(path)
    assert 0 < saved.provenance.steps <= MODELS.all[0].denoiser.provenance.steps
    assert np.isfinite(saved.denoise(cells.data)).all()


def test_a_full_disk_while_training_is_shown_and_training_goes_on(dock, running, finish, qtbot, file_dialog, tmp_path):
    stand_in = running()
    file_dialog(tmp_path / "full")
    dock.models.save_button.click()
    qtbot.waitUntil(lambda: "No space left" in dock.status.text())
    assert len(errors_shown()) == 1
    made = stand_in.made
    qtbot.waitUntil(lambda: stand_in.made > made)
    dock.stop_button.click()
    finish(dock, 2000)


def test_a_file_is_replaced_only_if_a_person_says_so(dock, viewer, engine, finish, qtbot, rng, file_dialog, tmp_path):
    stand_in = engine(steps=1)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    finish(dock)
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    for written in ("model", "model.safetensors"):  # also where the suffix is added
        asked = file_dialog(tmp_path / written, replace=False)
        dock.models.save_button.click()
        assert asked == ["model.safetensors exists. Replace it?"]
    assert stand_in.saved == []
    file_dialog(tmp_path / "model", replace=True)
    dock.models.save_button.click()
    qtbot.waitUntil(lambda: "Saved" in dock.status.text())
    assert stand_in.saved == [path]


def test_a_drive_that_does_not_answer_while_a_model_is_saved_does_not_block_the_viewer(
    dock, running, finish, qtbot, file_dialog, tmp_path
):
    stand_in = running()
    dock.stop_button.click()
    finish(dock, 2000)
    answers = threading.Event()

    def save(path):
        assert answers.wait(20)
        raise DenoiserError(f"{path.name}: no space left")

    stand_in.denoiser.save.side_effect = save
    file_dialog(tmp_path / "model")
    ticks = []
    timer = QTimer(interval=10)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    dock.models.save_button.click()
    qtbot.wait(500)
    timer.stop()
    assert "Saving" in dock.status.text()
    assert not dock.models.save_button.isEnabled()
    assert len(ticks) > 10
    assert np.diff(ticks).max() < 0.4
    answers.set()
    qtbot.waitUntil(lambda: "no space left" in dock.status.text())
    assert len(errors_shown()) == 1
    assert dock.models.save_button.isEnabled()


def test_a_place_that_cannot_be_written_to_is_refused_at_once(dock, running, finish, file_dialog, tmp_path):
    stand_in = running()
    file_dialog(tmp_path / "nowhere" / "model")
    dock.models.save_button.click()
    assert "does not exist" in dock.status.text()
    assert dock.job.running
    dock.stop_button.click()
    finish(dock, 2000)
    assert stand_in.saved == []


@pytest.mark.slow
def test_training_is_continued_after_stop_on_a_copy(viewer, dock, finish, rng):
    viewer.add_image(noisy_image(rng), name="cells")
    dock.advanced["max_steps"].value = 3
    dock.train_button.click()
    finish(dock)
    dock.models.continue_button.click()
    assert "6 steps" in finish(dock)
    first, second = (model.denoiser for model in MODELS.all)
    assert [model.name for model in MODELS.all] == ["cells, quick, l2", "cells, quick, l2 continued"]
    assert (first.provenance.steps, second.provenance.steps) == (3, 6)
    assert second.provenance.seconds > first.provenance.seconds
    steps = [record.step for record in second.provenance.history]
    assert steps == sorted(set(steps))
    assert 3 in steps
    assert steps[-1] == 6
    assert second.model.normalization.level == first.model.normalization.level
    assert dock.view.losses.neg_elbo.steps == steps
    assert dock.models.model is MODELS.all[1]


@pytest.mark.slow
def test_training_of_a_saved_model_is_continued(viewer, dock, finish, rng, monkeypatch, tmp_path):
    image = noisy_image(rng)
    path = tmp_path / "mine.safetensors"
    train(image, max_steps=2, noise="gaussian:7", preset="quick").save(path)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    dock.models.load_button.click()
    assert "Loaded" in finish(dock)
    viewer.add_image(image, name="cells")
    dock.advanced["max_steps"].value = 2
    dock.models.continue_button.click()
    assert "4 steps" in finish(dock)
    assert MODELS.all[1].denoiser.model.noise.describe() == MODELS.all[0].denoiser.model.noise.describe()


def test_a_file_that_is_no_model_is_refused(dock, finish, monkeypatch, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("no model")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    dock.models.load_button.click()
    assert "model.safetensors" in finish(dock)
    assert errors_shown() == [dock.status.text()]
    assert not MODELS.all
