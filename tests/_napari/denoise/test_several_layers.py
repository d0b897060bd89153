"""Several layers with one press, and what a result tells of itself."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils import progress
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

pytestmark = pytest.mark.gui


def test_all_selected_layers_are_denoised_and_say_how(viewer, dock, plus_one, make_noisy, qtbot):
    names = ["one", "two", "three"]
    layers = [viewer.add_image(make_noisy(seed=seed), name=name) for seed, name in enumerate(names)]
    assert dock.direct_button.text() == "Denoise"
    viewer.layers.selection = {layers[1]}
    viewer.layers.selection = {layers[0], layers[2]}
    assert dock.layer_choice.currentText() == "three"
    dock.layer_choice.setCurrentText("two")  # not among the selected ones: it alone is meant
    assert dock.direct_button.text() == "Denoise"
    dock.layer_choice.setCurrentText("three")
    assert (dock.direct_button.text(), dock.sample_button.text()) == ("Denoise 2 layers", "Draw 50 samples of 2 layers")
    dock.direct_form["direct_std"].value = False
    bars = len(progress._all_instances)
    dock.direct_button.click()
    qtbot.waitUntil(lambda: len(progress._all_instances) == bars + 1)  # in the activity dock
    qtbot.waitUntil(lambda: "“one direct”, “three direct”" in dock.status.text(), timeout=20_000)
    assert not dock.job.running
    qtbot.waitUntil(lambda: len(progress._all_instances) == bars)
    for layer in (layers[0], layers[2]):
        result = viewer.layers[f"{layer.name} direct"]
        np.testing.assert_allclose(result.data, layer.data + 1, rtol=1e-6)
        known = result.metadata["napari_direct_denoiser"]
        assert known["source"] == layer.name
        assert known["versions"].keys() == {"napari-direct-denoiser", "torch", "napari"}
    dock.methods_button.click()
    assert QApplication.clipboard().text() == known["methods"]
    assert "in one pass of a Direct Denoiser" in known["methods"]
    assert "“three direct”" in dock.status.text()
    viewer.layers.selection = {layers[1]}
    dock.methods_button.click()
    assert "“a model”" in dock.status.text()


def test_results_come_one_by_one_and_the_run_lasts_until_the_last(viewer, dock, plus_one, make_noisy, qtbot, finish):
    viewer.add_image(make_noisy(), name="cells")
    turns, came = [0], []
    clock = QTimer()
    clock.timeout.connect(lambda: turns.append(turns[-1] + 1))
    clock.start(0)
    viewer.layers.events.inserted.connect(lambda event: came.append((event.value.name, turns[-1], dock.job.running)))
    dock.direct_button.click()
    assert "Added “cells direct”, “cells std”" in finish(dock)
    clock.stop()
    names, when, running = zip(*came, strict=True)
    assert names == ("cells std", "cells direct")
    assert when[0] < when[1]
    assert all(running)
    assert dock.direct_button.isEnabled()


def test_the_error_of_a_layer_names_it_and_what_was_done_before(viewer, dock, plus_one, qtbot, make_noisy):
    good = viewer.add_image(make_noisy(), name="good")
    bad = viewer.add_image(np.full((64, 64), np.nan, np.float32), name="bad")
    viewer.layers.selection = {good, bad}
    dock.direct_form["direct_std"].value = False
    dock.direct_button.click()
    qtbot.waitUntil(lambda: "Layer 2 of 2: “bad”:" in dock.status.text())
    assert "Added “good direct”" in dock.status.text()
    assert not dock.job.running


def test_zarr_folders_of_several_layers_go_to_one_place(viewer, dock, plus_one, folder, qtbot, make_noisy, notes):
    layers = [viewer.add_image(make_noisy(), name=name) for name in ("a", "b", "a?", "a!")]
    dock.where["result"].value = "zarr folder"
    dock.direct_form["direct_std"].value = False
    viewer.layers.selection = set(layers[2:])
    dock.direct_button.click()
    assert "different names" in notes("error").pop()
    viewer.layers.selection = set(layers[:2])
    dock.direct_button.click()
    qtbot.waitUntil(lambda: "“b direct”" in dock.status.text(), timeout=20_000)
    assert sorted(path.name for path in folder.iterdir()) == ["a direct.zarr", "b direct.zarr"]
