"""Closing a dock or viewer while it trains, and the recovery of its model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool
from stand_in import noisy_image

from napari_direct_denoiser import noise
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train import recovery

PLUGIN = "napari-direct-denoiser"
pytestmark = pytest.mark.gui


def close(how, viewer, dock):
    if how == "dock":
        dock.parent().destroyOnClose()  # the cross in the title of the dock
    else:
        viewer.close()


def models():
    return [model.denoiser for model in MODELS.all]


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("paused", [False, True], ids=["training", "paused"])
@pytest.mark.parametrize("how", ["dock", "viewer"])
def test_closing_ends_the_thread_and_keeps_the_model(viewer, dock, running, qtbot, how, paused):
    stand_in = running()
    if paused:
        dock.pause_button.click()
        qtbot.waitUntil(lambda: "Paused" in dock.status.text())
    close(how, viewer, dock)
    assert QThreadPool.globalInstance().waitForDone(5000)  # and not after the minutes that training was given
    assert stand_in.closed
    qtbot.waitUntil(lambda: models() == [stand_in.denoiser])
    if how == "dock":
        viewer.layers.clear()  # nothing of the dock listens any more
        viewer.theme = "light"


@pytest.mark.parametrize("how", ["dock", "viewer"])
def test_closing_while_the_noise_is_measured_ends_the_thread(viewer, dock, qtbot, rng, monkeypatch, how):
    asked, answers, fit_noise = threading.Event(), threading.Event(), noise.fit_noise

    def fit(*given):
        asked.set()
        answers.wait(20)
        return fit_noise(*given)

    monkeypatch.setattr(noise, "fit_noise", fit)
    viewer.add_image(noisy_image(rng, (4, 64, 64)))
    dock.noise.look_button.click()
    qtbot.waitUntil(asked.is_set)
    close(how, viewer, dock)  # does not wait
    assert not dock.job.running
    answers.set()
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.wait(50)  # what the thread has sent arrives, and nobody takes it
    assert dock.noise.look is None
    assert not [note for note in notification_manager.records if note.severity == "error"]


@pytest.mark.parametrize("how", ["dock", "viewer"])
def test_a_model_is_listed_and_saved_only_after_its_long_step(viewer, dock, running, qtbot, file_dialog, tmp_path, how):
    stand_in = running()
    stand_in.held.set()
    qtbot.wait(50)
    made = stand_in.made
    file_dialog(tmp_path / "asked")
    dock.models.save_button.click()
    close(how, viewer, dock)  # does not wait for the step
    qtbot.wait(300)
    assert not stand_in.closed
    assert not models()
    assert not stand_in.saved
    stand_in.held.clear()
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.waitUntil(lambda: models() == [stand_in.denoiser])
    assert stand_in.closed
    assert stand_in.saved == [tmp_path / "asked.safetensors"]
    assert (tmp_path / "asked.safetensors").read_text() == str(stand_in.made)
    assert stand_in.made <= made + 1


def test_quitting_napari_closes_the_run_in_its_thread(dock, running, finish, recovery_folder):
    stand_in = running()
    type(create_worker(time.sleep, 0, _start_thread=False)).await_workers()  # as napari does before it quits
    assert stand_in.closed
    assert len(recovery.recovered()) == 1
    assert "Stopped" in finish(dock, 2000)
    assert models() == [stand_in.denoiser]


@pytest.mark.slow
def test_model_of_a_viewer_closed_in_training_is_recovered_in_the_next(
    viewer, dock, finish, qtbot, rng, make_napari_viewer_proxy
):
    image = noisy_image(rng)
    viewer.add_image(image, name="cells")
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.progress.maximum() > 0 and dock.progress.value() > 0, timeout=60_000)
    viewer.close()
    assert QThreadPool.globalInstance().waitForDone(5000)
    qtbot.waitUntil(lambda: len(MODELS.all) == 1)
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("direct-denoiser")])
    steps = MODELS.all[0].denoiser.provenance.steps
    expected = MODELS.all[0].denoiser.denoise(image)
    MODELS.clear()  # as in a new session

    second = make_napari_viewer_proxy()
    dock = second.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    row = dock.models.recovered
    assert row.isVisibleTo(dock)
    assert row.words.text() == f"Recovered: cells, quick, l2, {steps:,} steps"
    row.load_button.click()
    assert "Loaded" in finish(dock)
    assert MODELS.all[0].name == "cells, quick, l2"
    assert not row.isVisibleTo(dock)
    np.testing.assert_array_equal(MODELS.all[0].denoiser.denoise(image), expected)
    assert steps > 0


def test_recovered_model_is_offered_until_it_is_saved(viewer, dock, running, qtbot, file_dialog, recovery_folder):
    running()
    dock.parent().destroyOnClose()
    qtbot.waitUntil(lambda: len(MODELS.all) == 1)
    again = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    assert again.models.model is MODELS.all[0]
    assert not again.models.recovered.isVisibleTo(again)  # it is in the list of this session
    assert len(recovery.recovered()) == 1  # and would be offered to the next session
    file_dialog(recovery_folder.parent / "mine")
    again.models.save_button.click()
    qtbot.waitUntil(lambda: "Saved" in again.status.text())
    assert recovery.recovered() == []
    assert files(recovery_folder) == []


def test_recovery_file_is_discarded_by_a_button(viewer, dock, running, qtbot, recovery_folder):
    running()
    dock.parent().destroyOnClose()
    qtbot.waitUntil(lambda: len(MODELS.all) == 1)
    MODELS.clear()
    again = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    again.models.recovered.discard_button.click()
    assert not again.models.recovered.isVisibleTo(again)
    assert files(recovery_folder) == []


def test_recovery_file_is_written_while_training_and_belongs_to_one(
    viewer, dock, running, finish, qtbot, monkeypatch, recovery_folder
):
    monkeypatch.setattr(recovery, "SECONDS_BETWEEN_WRITES", 0.1)
    stand_in = running()
    qtbot.waitUntil(lambda: len(files(recovery_folder)) == 3)
    written = next(path for path in files(recovery_folder) if path.name == "model.safetensors")
    made = int(written.read_text())
    qtbot.waitUntil(lambda: int(written.read_text()) > made)
    assert recovery.recovered() == []  # in use: other viewers leave it alone
    assert recovered_elsewhere(recovery_folder) == "[]"
    dock.stop_button.click()
    finish(dock)
    assert files(recovery_folder) == []  # a training that ends in order needs none
    assert models() == [stand_in.denoiser]


def recovered_elsewhere(folder):
    """What another process is offered."""
    code = (
        "import sys, pathlib; from napari_direct_denoiser._napari.train import recovery as r;"
        "r.recovery_folder = lambda: pathlib.Path(sys.argv[1]); print(r.recovered())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_recovery_file_of_a_crashed_process_is_offered(recovery_folder):
    code = """
import os, pathlib, sys
from napari_direct_denoiser._napari.train import recovery
class Model:
    def save(self, path): path.write_text("weights")
recovery.recovery_folder = lambda: pathlib.Path(sys.argv[1])
assert recovery.RecoveryFile("cells").write(Model(), 7)
os._exit(1)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(recovery_folder)]
    assert subprocess.run(command, check=False).returncode == 1
    (found,) = recovery.recovered()
    assert (found.name, found.steps, found.model.read_text()) == ("cells", 7, "weights")
    recovery.discard(found.folder)
    assert list(recovery_folder.iterdir()) == []


def test_a_recovery_file_that_cannot_be_written_does_not_end_the_training(
    dock, running, finish, qtbot, monkeypatch, recovery_folder
):
    recovery_folder.parent.mkdir(exist_ok=True)
    recovery_folder.write_text("no folder")
    monkeypatch.setattr(recovery, "SECONDS_BETWEEN_WRITES", 0.05)
    stand_in = running()
    made = stand_in.made
    qtbot.waitUntil(lambda: stand_in.made > made + 5)
    dock.stop_button.click()
    assert "Stopped" in finish(dock)
    assert models() == [stand_in.denoiser]


@pytest.mark.slow
def test_no_file_is_left_after_training(viewer, dock, engine, finish, rng, monkeypatch, tmp_path, recovery_folder):
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    viewer.add_image(noisy_image(rng), name="cells")
    dock.advanced["max_steps"].value = 2
    dock.train_button.click()
    finish(dock)
    dock.parent().destroyOnClose()
    assert list(tmp_path.iterdir()) == []
    assert files(recovery_folder) == []
