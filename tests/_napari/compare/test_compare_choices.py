"""The Compare dock: its choices of layers, its controls, and closing it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QSlider, QTabBar

from napari_direct_denoiser._napari.compare.views import grid_of
from napari_direct_denoiser._napari.shared.session import MODELS

pytestmark = pytest.mark.gui


def names(layers):
    return [layer.name for layer in layers]


def test_noisy_its_results_and_its_truth_are_found(viewer, layers, compare_dock, check):
    assert compare_dock.layer_choice.currentText() == "cells"
    assert compare_dock.truth_choice.currentText() == "cells truth"
    assert names(compare_dock.results.layers) == ["cells direct", "cells mean"]
    viewer.layers.selection.active = layers[0]  # to change its contrast, for example
    assert compare_dock.layer_choice.currentText() == "cells"
    layers[2].name = "renamed"
    assert names(compare_dock.results.layers) == ["renamed", "cells mean"]
    assert "renamed" in [compare_dock.look.second.itemText(index) for index in range(compare_dock.look.second.count())]
    check(layers[3], False)
    viewer.add_image(layers[1].data, name="another")
    assert names(compare_dock.results.layers) == ["renamed"]
    compare_dock.truth_choice.setCurrentText("none")
    viewer.layers.remove(layers[2])
    assert compare_dock.truth_choice.layer is None
    viewer.layers.clear()
    assert not compare_dock.measure.measure_button.isEnabled()
    assert "Open an image" in compare_dock.status.text()


def test_maps_are_no_results_those_of_version_0_1_too(viewer, noisy, result_of, compare_dock):
    viewer.add_image(noisy, name="cells")
    for method in ("std", "deviation", "difference", "disagreement", "median"):
        viewer.add_image(np.abs(noisy), name=method, metadata=result_of("cells", method, 10))
    compare_dock.layer_choice.setCurrentText("cells")
    assert [compare_dock.results.item(row).text() for row in range(compare_dock.results.count())] == ["median"]
    assert names(compare_dock.results.layers) == ["median"]


@pytest.mark.window
@pytest.mark.parametrize("view", ["side", "profile"])
def test_closing_the_dock_stops_the_worker_and_undoes_the_view(viewer, layers, compare_dock, held, view):
    before = [(layer.name, layer.visible) for layer in viewer.layers]
    compare_dock.against.run_button.click()
    compare_dock.look.buttons[view].click()
    compare_dock.parent().destroyOnClose()  # the cross in the title of the dock
    held.set()
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before
    assert not grid_of(viewer).enabled
    viewer.layers.clear()  # no callback of the dock is left
    viewer.theme = "light"
    MODELS.clear()


@pytest.mark.window
def test_closing_the_viewer_while_a_view_is_open_raises_no_error(viewer, layers, compare_dock):
    compare_dock.look.buttons["wipe"].click()
    viewer.close()


@pytest.mark.window
def test_closing_the_viewer_while_it_compares_ends_the_thread(viewer, layers, compare_dock, held, errors_shown):
    compare_dock.against.run_button.click()
    assert compare_dock.job.running
    viewer.close()
    held.set()
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert not compare_dock.job.running
    assert not errors_shown()


def test_every_control_has_a_tooltip(compare_dock):
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
