"""The Compare dock in the real viewer. The engine is real where a test does not say otherwise."""

from __future__ import annotations

import csv
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QFileDialog, QSlider, QTabBar

from napari_direct_denoiser import Denoiser, GaussianNoise, TrainSettings
from napari_direct_denoiser._napari.compare.views import grid_of
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.evaluation.metrics import evaluate

PLUGIN = "napari-direct-denoiser"
SIGMA = 4.0


class KnownModel:
    """A denoiser that adds one in `steps` steps of 20 ms, with Gaussian noise."""

    model = SimpleNamespace(noise=GaussianNoise(SIGMA), device="cpu")

    def __init__(self, steps=1, error=None):
        self.steps, self.error = steps, error

    def denoise_steps(self, image, outputs, **_):
        if self.error is not None:
            raise self.error
        for done in range(1, self.steps + 1):
            time.sleep(0.02)
            yield SimpleNamespace(done=done, total=self.steps)
        return {output: image.astype(np.float32) + 1 for output in outputs}


@pytest.fixture(autouse=True)
def no_notifications():
    notification_manager.records.clear()


@pytest.fixture
def compare_dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Compare")[1]


@pytest.fixture
def truth(rng):
    return (50 + 20 * rng.normal(size=(3, 1, 1)) + np.linspace(0, 30, 24)[:, None] + np.linspace(0, 50, 32)).astype(
        "f4"
    )


@pytest.fixture
def noisy(truth, rng):
    return (truth + rng.normal(0, SIGMA, truth.shape)).astype("f4")


def result_of(source, method="direct", samples=None, seconds=0.5):
    facts = {"source": source, "model": "a model", "method": method, "samples": samples, "seconds": seconds}
    return {"napari_direct_denoiser": facts}


@pytest.fixture
def layers(viewer, truth, noisy):
    """The truth, the noisy image, and two results of it, all alike in space."""
    common = {"scale": (1, 0.5, 0.5), "axis_labels": ("t", "y", "x"), "contrast_limits": (0, 150)}
    return (
        viewer.add_image(truth, name="cells truth", **common),
        viewer.add_image(noisy, name="cells", **common),
        viewer.add_image(truth + 1, name="cells direct", metadata=result_of("cells"), **common),
        viewer.add_image(
            truth - 1, name="cells mean", metadata=result_of("cells", "mean", 10, 5.0), visible=False, **common
        ),
    )


def check(dock, layer, checked):
    (item,) = dock.results.findItems(layer.name, Qt.MatchFlag.MatchExactly)
    item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)


def errors_shown():
    return [note.message for note in notification_manager.records if note.severity == "error"]


def names(layers):
    return [layer.name for layer in layers]


# What is chosen.


def test_noisy_its_results_and_its_truth_are_found(viewer, layers, compare_dock):
    assert compare_dock.layer_choice.currentText() == "cells"
    assert compare_dock.truth_choice.currentText() == "cells truth"
    assert names(compare_dock.results.layers) == ["cells direct", "cells mean"]
    viewer.layers.selection.active = layers[0]  # to change its contrast, say
    assert compare_dock.layer_choice.currentText() == "cells"
    layers[2].name = "renamed"
    assert names(compare_dock.results.layers) == ["renamed", "cells mean"]
    assert "renamed" in [compare_dock.look.second.itemText(index) for index in range(compare_dock.look.second.count())]
    check(compare_dock, layers[3], False)
    viewer.add_image(layers[1].data, name="another")
    assert names(compare_dock.results.layers) == ["renamed"]
    compare_dock.truth_choice.setCurrentText("none")
    viewer.layers.remove(layers[2])
    assert compare_dock.truth_choice.layer is None
    viewer.layers.clear()
    assert not compare_dock.measure.measure_button.isEnabled()
    assert "Open an image" in compare_dock.status.text()


# The table.


def test_table_with_truth_is_measured_copied_and_saved(
    layers, truth, noisy, compare_dock, finish, monkeypatch, tmp_path
):
    compare_dock.measure.measure_button.click()
    assert "3 images" in finish(compare_dock)
    table = compare_dock.measure.table
    assert [row.method for row in table.rows] == ["noisy", "direct", "mean"]
    assert table.rows[0].psnr == pytest.approx(evaluate(noisy, truth).psnr)
    direct = table.rows[1]
    assert (direct.psnr, direct.ssim) == (
        pytest.approx(evaluate(truth + 1, truth).psnr, abs=1e-3),
        pytest.approx(evaluate(truth + 1, truth).ssim, abs=1e-4),
    )
    assert direct.megapixels_per_second == pytest.approx(3 * 24 * 32 / 1e6 / 0.5)
    heads = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount())]
    assert heads == ["Method", "N", "s", "MP/s", "PSNR", "SSIM"]
    shown = [[table.item(line, column).text() for column in range(4)] for line in range(3)]
    assert shown == [["noisy", "", "", ""], ["direct", "", "0.5", "0.0046"], ["mean", "10", "5", "0.00046"]]
    compare_dock.measure.copy_button.click()
    copied = list(csv.DictReader(QApplication.clipboard().text().splitlines(), delimiter="\t"))
    assert [row["name"] for row in copied] == ["cells", "cells direct", "cells mean"]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "table"), ""))
    compare_dock.measure.save_button.click()
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == copied
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "table.csv"), ""))
    compare_dock.measure.save_button.click()
    assert "create it first" in compare_dock.status.text()


def test_table_without_truth_says_what_residuals_say(viewer, layers, compare_dock, finish):
    MODELS.add("a model", KnownModel())
    flat = viewer.add_image(np.full((3, 24, 32), 65, "f4"), name="too smooth")
    compare_dock.truth_choice.setCurrentText("none")
    check(compare_dock, flat, True)
    check(compare_dock, layers[3], False)
    compare_dock.measure.measure_button.click()
    finish(compare_dock)
    direct, smooth = compare_dock.measure.table.rows
    assert (smooth.name, smooth.method, smooth.seconds) == ("too smooth", "too smooth", None)
    assert direct.chi_square == pytest.approx((SIGMA**2 + 1) / SIGMA**2, abs=0.1)
    assert abs(direct.residual_correlation_x) < 0.15
    assert smooth.chi_square > 5
    assert smooth.residual_correlation_y > 0.5
    assert direct.rms_from_direct == 0
    heads = [compare_dock.measure.table.horizontalHeaderItem(column) for column in range(7)]
    assert [head.text() for head in heads] == ["Method", "N", "s", "MP/s", "corr.", "χ²", "Δ"]
    assert "Well below 1: noise kept" in heads[5].toolTip()


def test_lazy_and_multiscale_layers_are_read_plane_by_plane_in_the_worker(viewer, truth, noisy, compare_dock, finish):
    readers = []

    def read(block):
        readers.append((threading.current_thread().name, block.shape))
        return block

    lazy = da.from_array(noisy, chunks=(1, 24, 32)).map_blocks(read, dtype="f4")
    viewer.add_image(lazy, name="cells", contrast_limits=(0, 150))
    result = viewer.add_image(
        [truth + 1, truth[:, ::2, ::2]], name="pyramid", multiscale=True, metadata=result_of("cells")
    )
    compare_dock.layer_choice.setCurrentText("cells")
    check(compare_dock, result, True)
    readers.clear()
    compare_dock.measure.measure_button.click()
    finish(compare_dock)
    assert len(readers) == 3
    assert {shape for _, shape in readers} == {(1, 24, 32)}
    assert "MainThread" not in {thread for thread, _ in readers}
    assert compare_dock.measure.table.rows[0].method == "direct"


@pytest.mark.parametrize("wrong", ["result", "truth", "colour", "flat truth", "nothing"])
def test_what_does_not_fit_is_refused_with_words_and_the_next_run_works(viewer, layers, compare_dock, finish, wrong):
    if wrong == "nothing":
        for layer in layers[2:]:
            check(compare_dock, layer, False)
        words = "found none"
    elif wrong in ("result", "colour"):
        colour = wrong == "colour"
        added = viewer.add_image(np.zeros((3, 24, 32) if colour else (3, 24, 31)), name="odd", rgb=False)
        if colour:
            viewer.layers.remove(added)
            added = viewer.add_image(np.zeros((24, 32, 3), "u1"), name="odd", rgb=True)
        check(compare_dock, added, True)
        words = "odd"
    else:
        shape = (3, 24, 31) if wrong == "truth" else (3, 24, 32)
        viewer.add_image(np.zeros(shape), name="odd")
        compare_dock.truth_choice.setCurrentText("odd")
        words = "odd" if wrong == "truth" else "contrast"
    compare_dock.measure.measure_button.click()
    said = finish(compare_dock)
    assert words in said
    assert errors_shown() == [said]
    compare_dock.truth_choice.setCurrentText("none")
    for layer in viewer.layers:
        if layer.name == "odd":
            viewer.layers.remove(layer)
            break
    check(compare_dock, layers[2], True)
    compare_dock.measure.measure_button.click()
    assert "Measured" in finish(compare_dock)


# HDN against direct.


def test_hdn_against_direct_shows_figure_1_of_the_plane_in_view(viewer, noisy, truth, compare_dock, finish):
    common = {"scale": (2, 0.5, 0.5), "translate": (1, 2, 3), "rotate": 20, "axis_labels": ("t", "y", "x")}
    layer = viewer.add_image(noisy, name="cells", **common)
    viewer.add_image(truth, name="cells truth", visible=False, **common)
    compare_dock.layer_choice.setCurrentText("cells")
    compare_dock.against.samples.setItemData(0, (1, 3))
    settings = TrainSettings(noise=f"gaussian:{SIGMA}", device="cpu")
    denoiser = Denoiser.for_images([np.tile(noisy, (1, 3, 3))], settings, axes="TYX")
    MODELS.add("a model", denoiser)
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    before = names(viewer.layers)
    compare_dock.against.run_button.click()
    assert "cells T=2" in finish(compare_dock)
    added = {layer.name: layer for layer in viewer.layers if layer.name not in before}
    assert list(added) == [
        f"cells T=2 {what}"
        for what in ("HDN mean (N=1)", "HDN mean (N=3)", "direct", "HDN deviation (N=3)", "disagreement (N=3)")
    ]
    direct = added["cells T=2 direct"]
    np.testing.assert_allclose(direct.data[0], denoiser.denoise(noisy[2]), atol=1e-3)
    for each in added.values():  # each lies exactly over its plane
        assert each.data.shape == (1, 24, 32)
        np.testing.assert_allclose(each.data_to_world((0, 5, 7)), layer.data_to_world((2, 5, 7)))
    assert names(each for each in added.values() if each.visible) == [
        "cells T=2 HDN deviation (N=3)",
        "cells T=2 disagreement (N=3)",
    ]
    assert "times as long" in compare_dock.against.words.text()
    assert "standard errors" in compare_dock.against.words.text()
    means, pass_ = compare_dock.against.plot.item.listDataItems()
    expected = evaluate(direct.data, truth[2:]).psnr
    assert pass_.getOriginalDataset()[1] == pytest.approx([expected], abs=1e-3)
    assert len(means.getOriginalDataset()[0]) == 2
    assert not errors_shown()


def test_hdn_against_direct_without_truth_measures_distance_to_the_final_mean(viewer, compare_dock, finish, noisy):
    MODELS.add("a model", KnownModel(steps=1))
    viewer.add_image(noisy[0], name="cells")
    compare_dock.against.run_button.click()
    assert "cells, the plane in view" in finish(compare_dock)
    means, direct = compare_dock.against.plot.item.listDataItems()
    assert list(means.getOriginalDataset()[1]) == pytest.approx([0, 0, 0], abs=1e-3)  # all add one
    assert list(direct.getOriginalDataset()[1]) == pytest.approx([0], abs=1e-3)
    # its results fit the image, which has no other plane
    assert names(compare_dock.results.layers) == [f"cells HDN mean (N={n})" for n in (1, 10, 100)] + ["cells direct"]


def test_error_in_a_run_is_shown_and_the_next_works(viewer, compare_dock, finish, noisy):
    stand_in = KnownModel(steps=1, error=RuntimeError("not enough memory"))
    MODELS.add("a model", stand_in)
    viewer.add_image(noisy, name="cells")
    compare_dock.against.run_button.click()
    assert "not enough memory" in finish(compare_dock)
    assert errors_shown() == [compare_dock.status.text()]
    assert len(viewer.layers) == 1
    stand_in.error = None
    compare_dock.against.run_button.click()
    assert "plane in view" in finish(compare_dock)


def test_stopped_run_shows_nothing(viewer, compare_dock, finish, qtbot, noisy):
    MODELS.add("a model", KnownModel(steps=10_000))
    viewer.add_image(noisy, name="cells")
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: "Drawing" in compare_dock.status.text() or compare_dock.job.running)
    compare_dock.stop_button.click()
    assert finish(compare_dock, 5000) == "Stopped."
    assert len(viewer.layers) == 1


# Looking.


def test_views_take_turns_and_end_with_their_layers(viewer, layers, compare_dock):
    look = compare_dock.look
    visible = [layer.visible for layer in viewer.layers]
    look.buttons["side"].click()
    assert grid_of(viewer).enabled
    assert names(look.view.layers) == ["cells", "cells direct", "cells mean", "cells truth"]
    check(compare_dock, layers[3], False)  # goes on without it
    assert names(look.view.layers) == ["cells", "cells direct", "cells truth"]
    look.buttons["wipe"].click()
    assert not grid_of(viewer).enabled
    assert not look.buttons["side"].isChecked()
    assert viewer.layers[-1].name == "Wipe: cells"
    look.slider.setValue(250)
    assert viewer.layers[-1].data.shape == (3, 24, 8)
    look.first.setCurrentText("cells truth")
    assert viewer.layers[-1].name == "Wipe: cells truth"
    look.second.setCurrentText("cells truth")
    assert "twice" in compare_dock.status.text()
    assert look.view is None
    look.second.setCurrentText("cells direct")
    look.buttons["wipe"].click()
    look.first.setCurrentText("cells")
    check(compare_dock, layers[2], False)  # what was second is no longer chosen
    assert names(look.view.layers[:2]) == ["cells", "cells truth"]
    check(compare_dock, layers[2], True)
    look.buttons["blink"].click()
    look.buttons["blink"].click()
    assert [layer.visible for layer in viewer.layers] == visible
    look.buttons["wipe"].click()
    viewer.layers.remove(viewer.layers[-1])  # the cut-out itself
    assert look.view is None
    assert not look.buttons["wipe"].isChecked()
    look.buttons["side"].click()
    viewer.layers.remove(layers[2])
    assert look.view is None
    assert not grid_of(viewer).enabled
    assert [layer.visible for layer in viewer.layers] == [visible[0], visible[1], visible[3]]


def test_difference_is_lazy_diverging_and_symmetric(viewer, layers, compare_dock, finish):
    compare_dock.look.first.setCurrentText("cells direct")
    compare_dock.look.second.setCurrentText("cells mean")
    compare_dock.look.buttons["side"].click()
    compare_dock.look.difference_button.click()
    assert "Added" in finish(compare_dock)
    difference = viewer.layers["cells direct − cells mean"]
    assert isinstance(difference.data, da.Array)
    np.testing.assert_allclose(difference.data.compute(), 2, atol=1e-4)
    low, high = difference.contrast_limits
    assert -low == high == pytest.approx(2, abs=1e-3)
    assert difference.colormap.name == "PiYG"
    np.testing.assert_allclose(difference.scale, layers[2].scale)
    assert difference.name not in names(compare_dock.results.layers)
    assert not grid_of(viewer).enabled


def test_profile_follows_the_line_and_the_plane_in_view(viewer, layers, truth, compare_dock, qtbot):
    compare_dock.look.buttons["profile"].click()
    line = compare_dock.look.view
    plot = compare_dock.look.plot
    assert line.shapes.mode == "add_line"

    def curves():
        return [curve.getOriginalDataset() for curve in plot.item.listDataItems()]

    viewer.dims.set_current_step(0, 1)
    line.shapes.add_lines(np.array([[10, 4], [10, 20]]))
    qtbot.waitUntil(lambda: len(curves()) == 4)
    distance, values = curves()[3]  # noisy, direct, mean, truth
    np.testing.assert_allclose(values, truth[1, 10, 4:21], rtol=1e-5)
    np.testing.assert_allclose(distance, np.arange(17) * 0.5)
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: np.allclose(curves()[3][1], truth[2, 10, 4:21]))
    line.shapes.add_lines(np.array([[2, 3], [12, 3]]))  # a new line takes the place of the old one
    qtbot.waitUntil(lambda: len(curves()[3][1]) == 11)
    np.testing.assert_allclose(curves()[3][1], truth[2, 2:13, 3], rtol=1e-5)
    assert len(line.shapes.data) == 1
    line.shapes.data = [np.array([[2, 28], [2, 40]])]  # beyond the edge there is nothing
    qtbot.waitUntil(lambda: len(curves()[3][1]) == 13)
    assert np.isfinite(curves()[3][1]).sum() == 4
    check(compare_dock, layers[3], False)  # the line stays
    qtbot.waitUntil(lambda: len(curves()) == 3)
    viewer.layers.remove(layers[2])
    qtbot.waitUntil(lambda: len(curves()) == 2)
    compare_dock.look.buttons["profile"].click()
    assert "Profile line" not in viewer.layers
    assert names(viewer.layers) == ["cells truth", "cells", "cells mean"]
    compare_dock.look.buttons["profile"].click()
    viewer.layers.remove("Profile line")
    assert compare_dock.look.view is None


# The dock by itself.


@pytest.mark.parametrize("view", ["side", "wipe", "profile"])
def test_closing_the_dock_stops_the_worker_and_undoes_the_view(viewer, layers, compare_dock, qtbot, view):
    stand_in = KnownModel(steps=10_000)
    MODELS.add("a model", stand_in)
    before = [(layer.name, layer.visible) for layer in viewer.layers]
    compare_dock.against.run_button.click()
    compare_dock.look.buttons[view].click()
    compare_dock.parent().destroyOnClose()  # the cross in the title of the dock
    assert QThreadPool.globalInstance().waitForDone(2000)
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before
    assert not grid_of(viewer).enabled
    viewer.layers.clear()  # nothing of the dock listens any more
    viewer.theme = "light"
    MODELS.clear()


def test_closing_the_viewer_while_looking_is_quiet(viewer, layers, compare_dock):
    compare_dock.look.buttons["wipe"].click()
    viewer.close()


def test_every_control_is_explained(compare_dock):
    found = [
        child
        for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QSlider)
        for child in compare_dock.findChildren(kind)
    ]
    controls = [child for child in found if not isinstance(child.parent(), QComboBox | QTabBar)]
    controls = [child for child in controls if child.metaObject().className() != "QTableCornerButton"]
    assert len(controls) > 15
    assert not [child for child in controls if not child.toolTip()]
    table, tabs = compare_dock.measure.table, compare_dock.tabs
    assert all(table.horizontalHeaderItem(column).toolTip() for column in range(table.columnCount()))
    assert all(tabs.tabToolTip(index) for index in range(tabs.count()))


def test_dock_opens_without_torch():
    code = "import sys, napari_direct_denoiser._napari.compare.widget;assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
