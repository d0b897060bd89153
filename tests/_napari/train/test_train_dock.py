"""The Train dock in the real viewer. The engine is real where a test does not say otherwise (fixture `engine`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QFileDialog, QLineEdit

from napari_direct_denoiser import load, train
from napari_direct_denoiser._napari import train_runs, workers
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train.runs import Stepped
from napari_direct_denoiser._napari.train.widget import TrainWidget
from napari_direct_denoiser.errors import DenoiserError, TrainingError

PLUGIN = "napari-direct-denoiser"


def noisy_image(rng, shape=(2, 64, 64)):
    bright = 10 + 40 * np.linspace(0, 1, shape[-2])[:, None] ** 2
    return (100 + 2 * rng.poisson(bright * np.ones(shape)) + rng.normal(0, 3, shape)).astype(np.float32)


def check(layers, *names):
    """Check layers in a list, as a person does by clicks."""
    for name in names:
        layers.findItems(name, Qt.MatchFlag.MatchExactly)[0].setCheckState(Qt.CheckState.Checked)


def errors_shown():
    return [note.message for note in notification_manager.records if str(note.severity) == "error"]


class StandIn:
    """A denoiser that trains for `steps` steps of 20 ms, and whose direct pass adds the number of steps made."""

    noise_fit = None
    findings = ()
    provenance = SimpleNamespace(history=())

    def __init__(self, steps: int = 20, error: Exception | None = None, error_at: int = 0) -> None:
        self.steps, self.error, self.error_at = steps, error, error_at
        self.made = 0
        self.threads: set[str] = set()
        self.closed = False
        self.given: tuple[Any, ...] = ()
        self.saved: list[Any] = []

    def train_steps(self, cancelled: Callable[[], bool]) -> Iterator[Any]:
        try:
            for step in range(1, self.steps + 1):
                self.threads.add(threading.current_thread().name)
                if self.error is not None and step > self.error_at:
                    raise self.error
                time.sleep(0.02)
                self.made = step
                yield SimpleNamespace(
                    step=step,
                    total_steps=self.steps,
                    fraction=step / self.steps,
                    elapsed_seconds=0.02 * step,
                    remaining_seconds=0.02 * (self.steps - step),
                    neg_elbo=1 / step,
                    direct_loss=2 / step,
                    validation_neg_elbo=None,
                    validation_direct_loss=None,
                    stopped="finished" if step == self.steps else None,
                )
        finally:
            self.closed = True

    def denoise_steps(self, image, outputs, *, axes):
        assert axes == "YX"
        self.threads.add(threading.current_thread().name)
        yield SimpleNamespace(done=1, total=1)
        return {output: image.astype(np.float32) + self.made for output in outputs}

    def save(self, path):
        if path.name == "full.safetensors":
            raise DenoiserError("Expected to write full.safetensors, found: No space left on device: make room")
        self.saved.append(path)

    def summary(self) -> dict[str, Any]:
        return {"preset": "quick", "loss": "l2"}


@pytest.fixture
def engine(monkeypatch) -> Callable[..., StandIn]:
    """Put a stand-in in the place of the engine; call it again for another."""

    def use(**keywords: Any) -> StandIn:
        stand_in = StandIn(**keywords)

        def make(*given: Any) -> StandIn:
            stand_in.given = given
            return stand_in

        monkeypatch.setattr(workers, "make_denoiser", make)
        return stand_in

    return use


@pytest.fixture(autouse=True)
def no_notifications():
    notification_manager.records.clear()


@pytest.fixture
def dock(train_dock):
    return train_dock


@pytest.fixture
def running(dock, engine, viewer, qtbot, rng, monkeypatch):
    """A training of a stand-in, under way on the layer cells, with frequent previews and words."""
    monkeypatch.setattr(train_runs, "_SECONDS_OF_PACE", 0.1)
    monkeypatch.setattr(train_runs, "_SECONDS_BETWEEN_PREVIEWS", 0.1)

    def start(**keywords: Any) -> StandIn:
        stand_in = engine(steps=10_000, **keywords)
        viewer.add_image(noisy_image(rng, (4, 64, 64)), name="cells", scale=(1, 2, 2), translate=(3, 4, 5), rotate=20)
        dock.train_button.click()
        qtbot.waitUntil(lambda: dock.progress.value() > 0 and dock.models.training is not None)
        return stand_in

    return start


# What is missing is said while a person chooses.


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


def test_active_layer_is_preselected(viewer, rng):
    viewer.add_image(noisy_image(rng), name="first")
    viewer.add_image(noisy_image(rng), name="second")
    viewer.layers.selection.active = viewer.layers["first"]
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
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
    assert (images[0].shape, axes) == ((64, 80, 3), "YXT")


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


def test_colour_image_is_split_by_a_button(viewer, dock):
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), name="photo", rgb=True)
    assert dock.train_button.text() == "Train: split the channels"
    assert not dock.train_button.isEnabled()
    assert dock.data.split_button.isVisibleTo(dock)
    dock.data.split_button.click()
    assert dock.layer_choice.currentText() == "photo red"
    assert dock.train_button.isEnabled()
    assert not dock.data.split_button.isVisibleTo(dock)


def test_channels_are_split_by_a_button(viewer, dock, rng):
    viewer.add_image(noisy_image(rng, (3, 64, 64)), name="cells", axis_labels=("c", "y", "x"))
    assert dock.train_button.text() == "Train: split the channels"
    dock.data.split_button.click()
    assert dock.layer_choice.currentText() == "cells C=0"
    assert dock.data.axes_row.words.text() == "64 x 64 = Y X, 1 plane"
    assert dock.train_button.isEnabled()


def test_minutes_and_memory_are_estimated_beforehand(viewer, dock, rng):
    viewer.add_image(noisy_image(rng))
    dock.advanced["device"].value = "cpu"
    assert dock.ready.text() == "About 5 min, 0.4 GB of memory."
    dock.form["max_minutes"].value = 0.5
    assert dock.ready.text() == "About 30 s, 0.4 GB of memory."
    dock.form["max_minutes"].value = 0
    dock.form["preset"].value = "paper"
    assert "days, 1.9 GB" in dock.ready.text()


# What is trained on.


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
    assert axes == "TYX"
    assert [image.shape for image in images] == [(2, 64, 64), (3, 64, 80), (1, 64, 70)]
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
def test_images_of_two_to_four_axes_are_trained_on(viewer, dock, finish, rng, shape):
    viewer.add_image(noisy_image(rng, shape), name="cells")
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    assert "1 steps" in finish(dock)
    denoised = MODELS.all[0].denoiser.denoise(viewer.layers["cells"].data)
    assert denoised.shape == shape
    assert viewer.layers["cells preview"].data.shape == (1,) * (len(shape) - 2) + (64, 64)


def test_lazy_and_multiscale_layers_are_trained_on(viewer, dock, engine, finish, rng):
    stand_in = engine(steps=1)
    pixels = noisy_image(rng, (2, 128, 128))
    viewer.add_image(da.from_array(pixels, chunks=64), name="lazy")
    viewer.add_image([pixels, pixels[:, ::2, ::2]], name="pyramid", multiscale=True)
    for name in ("lazy", "pyramid"):
        dock.layer_choice.setCurrentText(name)
        dock.train_button.click()
        finish(dock)
        assert type(stand_in.given[0][0]) is np.ndarray
        np.testing.assert_array_equal(stand_in.given[0][0], pixels)


# While it trains.


def test_progress_losses_and_time_left_are_shown(dock, running, qtbot):
    running()
    qtbot.waitUntil(lambda: "left" in dock.progress.text())
    assert dock.plot.isVisibleTo(dock)
    assert "of 10,000" in dock.status.text()
    assert len(dock.plot.neg_elbo.steps) > 0


def test_stop_keeps_the_model(dock, running, finish):
    stand_in = running()
    dock.stop_button.click()
    assert "Stopped" in finish(dock, 2000)
    assert [model.denoiser for model in MODELS.all] == [stand_in]
    assert dock.models.model is MODELS.all[0]
    assert stand_in.closed
    assert "MainThread" not in stand_in.threads
    assert not dock.stop_button.isEnabled()


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


def test_live_preview_sharpens_and_lies_over_the_plane_in_view(viewer, dock, running, qtbot):
    running()
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers)
    cells, preview = viewer.layers["cells"], viewer.layers["cells preview"]
    assert viewer.layers.selection.active == cells
    for plane in (3, 0):
        viewer.dims.set_current_step(0, plane)
        assert not preview.visible  # it shows another plane
        expected = cells.data_to_world([plane, 10, 20])

        def over_it(expected=expected) -> bool:
            return preview.visible and np.allclose(preview.data_to_world([0, 10, 20]), expected)

        qtbot.waitUntil(over_it)
        added = preview.data[0] - cells.data[plane]
        assert added.std() < 1e-3  # it is this plane
        qtbot.waitUntil(lambda plane=plane, added=added: (preview.data[0] - cells.data[plane]).mean() > added.mean())
        assert preview.get_value(expected, world=True) is not None  # the plane is seen where the slider is


def test_deleting_the_preview_turns_it_off(viewer, dock, running, qtbot):
    running()
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers)
    viewer.layers.remove("cells preview")
    assert not dock.preview_box.isChecked()
    viewer.dims.set_current_step(0, 3)
    qtbot.wait(200)
    assert "cells preview" not in viewer.layers
    dock.preview_box.setChecked(True)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=20_000)
    dock.preview_box.setChecked(False)
    assert "cells preview" not in viewer.layers


def test_of_a_huge_plane_the_part_in_view_is_previewed(viewer, dock, engine, finish, rng):
    engine(steps=2)
    huge = viewer.add_image(noisy_image(rng, (64, 4096)), name="huge")
    dock.train_button.click()
    finish(dock)
    preview = viewer.layers["huge preview"]
    first = round(preview.data_to_world([0, 0])[1])
    assert preview.data.shape == (64, 768)
    assert abs(first + 384 - 2048) < 64
    np.testing.assert_allclose(preview.data, huge.data[:, first : first + 768] + 2)


def test_layer_renamed_and_deleted_while_training(viewer, dock, running, finish, qtbot):
    running()
    viewer.layers["cells"].name = "renamed"
    viewer.layers.clear()
    qtbot.wait(100)
    dock.stop_button.click()
    assert "Stopped" in finish(dock, 2000)
    assert MODELS.all[0].name == "cells, quick, l2"
    assert not errors_shown()


def test_updates_come_at_most_ten_times_a_second(viewer, dock, engine, finish, rng):
    engine(steps=50)  # 1 s
    dock.preview_box.setChecked(False)
    updates = []
    dock.job.updated.connect(updates.append)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    finish(dock)
    assert 3 < len(updates) <= 14
    assert isinstance(updates[-1], Stepped)
    assert updates[-1].record.step == 50


def test_early_stop_says_so(viewer, dock, engine, finish, rng, monkeypatch):
    stand_in = engine(steps=3)
    steps = stand_in.train_steps

    def ends_early(cancelled):
        for record in steps(cancelled):
            record.stopped = "no better validation since step 1" if record.stopped else None
            yield record

    monkeypatch.setattr(stand_in, "train_steps", ends_early)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    assert "Ended early: no better validation since step 1" in finish(dock)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("no"), TrainingError("Loss is NaN")])
def test_error_in_training_is_shown_and_the_next_run_works(viewer, dock, engine, finish, rng, error):
    engine(error=error)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    assert str(error) in finish(dock)
    assert len(errors_shown()) == 1
    assert not MODELS.all
    engine(steps=3)
    dock.train_button.click()
    assert "Done" in finish(dock)
    assert len(MODELS.all) == 1


def test_error_after_some_steps_keeps_the_last_good_model(viewer, dock, engine, finish, rng):
    stand_in = engine(error=TrainingError("Loss is NaN"), error_at=10)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    assert "Loss is NaN" in finish(dock)
    assert MODELS.all[0].denoiser is stand_in


def test_a_worker_told_to_quit_by_napari_counts_as_stopped(dock, running, finish):
    running()
    dock.job._worker.quit()
    assert "Stopped" in finish(dock, 2000)
    assert len(MODELS.all) == 1


@pytest.mark.parametrize("paused", [False, True], ids=["training", "paused"])
@pytest.mark.parametrize("close", ["dock", "viewer", "napari"])
def test_closing_stops_the_worker_and_its_thread_and_keeps_the_model(viewer, dock, running, qtbot, close, paused):
    stand_in = running()
    if paused:
        dock.pause_button.click()
        qtbot.waitUntil(lambda: "Paused" in dock.status.text())
    start = time.monotonic()
    if close == "dock":
        dock.parent().destroyOnClose()  # the cross in the title of the dock
    elif close == "viewer":
        viewer.close()
    else:
        dock.job.shutdown()  # what aboutToQuit calls
    assert stand_in.closed
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert time.monotonic() - start < 10  # and not after the minutes that training was given
    if close != "napari":
        assert [model.denoiser for model in MODELS.all] == [stand_in]
    if close != "viewer":
        viewer.layers.clear()  # nothing of the dock listens any more
        viewer.theme = "light"


def test_closing_while_the_real_engine_trains_leaves_no_thread(viewer, dock, qtbot, rng):
    before = set(threading.enumerate())
    viewer.add_image(noisy_image(rng), name="cells")
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.progress.maximum() > 0 and dock.progress.value() > 0, timeout=60_000)
    dock.parent().destroyOnClose()
    assert QThreadPool.globalInstance().waitForDone(1000)
    qtbot.waitUntil(lambda: not {t for t in threading.enumerate() if t.is_alive() and t not in before}, timeout=20_000)
    model = MODELS.all[0].denoiser
    assert model.provenance.steps > 0
    assert np.isfinite(model.denoise(viewer.layers["cells"].data)).all()


# Models: in the list, in files, trained further.


def test_stopping_the_real_engine_leaves_a_model_that_denoises(viewer, dock, denoise_dock, finish, qtbot, rng):
    viewer.add_image(noisy_image(rng), name="cells")
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0 and dock.progress.maximum() > 0, timeout=60_000)
    dock.stop_button.click()
    finish(dock, 10_000)
    denoise_dock.layer_choice.setCurrentText("cells")
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    assert np.isfinite(viewer.layers["cells direct"].data).all()


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


def test_a_file_is_replaced_only_if_a_person_says_so(dock, viewer, engine, finish, rng, file_dialog, tmp_path):
    stand_in = engine(steps=1)
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    finish(dock)
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    for written in ("model", "model.safetensors"):  # also where the suffix is added
        asked = file_dialog(tmp_path / written, replace=False)
        dock.models.save_button.click()
        assert asked == ["model.safetensors is there already. Replace it?"]
    assert stand_in.saved == []
    file_dialog(tmp_path / "model", replace=True)
    dock.models.save_button.click()
    assert stand_in.saved == [path]


def test_a_place_that_cannot_be_written_to_is_refused_at_once(dock, running, finish, file_dialog, tmp_path):
    stand_in = running()
    file_dialog(tmp_path / "nowhere" / "model")
    dock.models.save_button.click()
    assert "existing folder" in dock.status.text()
    assert dock.job.running
    dock.stop_button.click()
    finish(dock, 2000)
    assert stand_in.saved == []


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
    assert second.model.normalization == first.model.normalization
    assert dock.plot.neg_elbo.steps == steps
    assert dock.models.model is MODELS.all[1]


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


def test_nothing_is_written_that_nobody_asked_for(viewer, dock, finish, rng, monkeypatch, tmp_path):
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    viewer.add_image(noisy_image(rng), name="cells")
    dock.advanced["max_steps"].value = 2
    dock.train_button.click()
    finish(dock)
    dock.parent().destroyOnClose()
    assert list(tmp_path.iterdir()) == []


# Docks beside each other, and by themselves.


def test_two_docks_share_models_and_nothing_else(viewer, dock, engine, finish, qtbot, rng):
    other = TrainWidget(viewer)
    viewer.window.add_dock_widget(other, name="other")
    viewer.add_image(noisy_image(rng), name="first")
    viewer.add_image(noisy_image(rng), name="second")
    dock.layer_choice.setCurrentText("first")
    dock.form["max_minutes"].value = 3
    dock.noise.form["noise"].value = "gaussian"
    dock.advanced["structured"].value = True
    assert other.layer_choice.currentText() == "second"
    assert other.settings() != dock.settings()
    assert other.settings().max_minutes is None
    engine(steps=2)
    dock.train_button.click()
    finish(dock)
    assert other.models.choice.count() == 1
    engine(steps=2)
    other.train_button.click()
    finish(other)
    assert [model.name for model in MODELS.all] == ["first, quick, l2", "second, quick, l2"]
    assert dock.models.model is MODELS.all[0]  # its own, whatever the other did
    assert other.models.model is MODELS.all[1]
    other.parent().destroyOnClose()
    dock.layer_choice.setCurrentText("second")
    assert dock.train_button.isEnabled()


def test_every_control_is_explained(dock):
    controls = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    found = [child for kind in controls for child in dock.findChildren(kind)]
    inner = [child for child in found if isinstance(child.parent(), QAbstractSpinBox | QComboBox)]
    silent = [child for child in found if child not in inner and not child.toolTip()]
    assert len(found) > len(inner)
    assert not silent


def test_dock_is_no_wider_than_a_small_screen_allows(viewer, dock, rng):
    viewer.add_image(noisy_image(rng), name="a name that is far too long for any dock " * 3)
    for kind in ("auto", "poisson", "gaussian", "calibration", "file"):
        dock.noise.form["noise"].value = kind
        assert dock.minimumSizeHint().width() <= 400
