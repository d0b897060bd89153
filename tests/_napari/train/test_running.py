"""What the Train dock shows while it trains, and how it ends."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import QPoint
from stand_in import errors_shown, noisy_image

from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train import preview
from napari_direct_denoiser._napari.train.runs import Stepped
from napari_direct_denoiser.errors import TrainingError

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(light_viewer):
    return light_viewer


@pytest.fixture
def dock(light_dock):
    return light_dock


def test_progress_losses_and_time_left_are_shown(dock, running, qtbot):
    running()
    qtbot.waitUntil(lambda: "left" in dock.progress.text())
    assert "of 10,000" in dock.status.text()
    losses, fold = dock.view.losses, dock.view.losses_section
    assert fold.isVisibleTo(dock)
    assert not fold.isExpanded()
    qtbot.waitUntil(lambda: np.size(losses.neg_elbo.train.getData()[0]) > 1)


def test_the_losses_are_in_view_once_their_fold_is_opened(dock, running, qtbot):
    running()
    dock.resize(400, 420)
    dock.show()
    losses = dock.view.losses
    dock.view.losses_section.toggleButton().click()

    def in_view() -> bool:
        return losses.height() > 100 and dock.rect().contains(losses.rect().translated(losses.mapTo(dock, QPoint())))

    qtbot.waitUntil(in_view)


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


def test_early_stop_says_so(viewer, dock, engine, finish, rng):
    engine(steps=3, stopped="no better validation since step 1")
    viewer.add_image(noisy_image(rng))
    dock.train_button.click()
    assert "Ended early: no better validation since step 1" in finish(dock)


@pytest.mark.parametrize("error", [OSError("the share is gone"), RuntimeError("no memory"), IndexError("plane 9")])
def test_a_preview_that_fails_does_not_end_the_training(viewer, dock, engine, finish, qtbot, rng, monkeypatch, error):
    monkeypatch.setattr(preview, "SECONDS_BETWEEN_PREVIEWS", 0.05)
    stand_in = engine(steps=10_000)
    broken = threading.Event()
    failed = []

    def read(block):
        if broken.is_set():
            failed.append(error)
            raise error
        return block

    lazy = da.from_array(noisy_image(rng), chunks=(1, 64, 64)).map_blocks(read, dtype=np.float32)
    viewer.add_image(lazy, name="cells", contrast_limits=(0, 200))
    dock.train_button.click()
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers)
    broken.set()
    qtbot.waitUntil(lambda: len(failed) > 2)
    made = stand_in.made
    qtbot.waitUntil(lambda: stand_in.made > made + 5)
    broken.clear()
    assert dock.job.running
    dock.stop_button.click()
    assert "Stopped" in finish(dock)
    assert not errors_shown()
    assert [model.denoiser for model in MODELS.all] == [stand_in.denoiser]


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
    assert MODELS.all[0].denoiser is stand_in.denoiser
