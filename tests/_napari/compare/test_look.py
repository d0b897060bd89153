"""The Look tab of the Compare dock: one view at a time, the difference, the line profile."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from pyqtgraph import FillBetweenItem

from napari_direct_denoiser._napari.compare.look import LookPanel
from napari_direct_denoiser._napari.compare.views import grid_of

pytestmark = pytest.mark.gui


def names(layers):
    return [layer.name for layer in layers]


@pytest.fixture
def panel(qapp, truth, noisy):
    """The tab by itself, with a viewer model without a window, four layers, and the errors that it shows."""
    viewer, errors = ViewerModel(), []
    common = {"scale": (1, 0.5, 0.5), "contrast_limits": (0, 150)}
    images = {"noisy": noisy, "direct": truth + 1, "mean": truth - 1, "truth": truth}
    layers = [viewer.add_image(image, name=name, **common) for name, image in images.items()]
    layers[2].visible = False
    panel = LookPanel(viewer, errors.append)
    panel.offer(layers)
    yield SimpleNamespace(viewer=viewer, look=panel, layers=layers, errors=errors)
    panel.close_view()


def test_a_view_goes_on_without_a_layer_that_is_unchecked_and_closes_if_one_is_removed(
    viewer, layers, compare_dock, check
):
    look = compare_dock.look
    look.buttons["side"].click()
    assert grid_of(viewer).enabled
    check(layers[3], False)
    assert names(look.view.layers) == ["cells", "cells direct", "cells truth"]
    viewer.layers.remove(layers[2])
    assert look.view is None
    assert not grid_of(viewer).enabled


def test_views_take_turns_and_follow_the_choice_of_layers(panel):
    viewer, look, (noisy, direct, mean, truth) = panel.viewer, panel.look, panel.layers
    visible = [layer.visible for layer in viewer.layers]
    look.buttons["side"].click()
    assert look.view.layers == [noisy, direct, mean, truth]
    look.buttons["wipe"].click()
    assert not grid_of(viewer).enabled
    assert not look.buttons["side"].isChecked()
    assert viewer.layers[-1].name == "Wipe: noisy"
    look.slider.setValue(250)
    assert viewer.layers[-1].data.shape == (3, 24, 8)
    look.first.setCurrentText("truth")
    assert viewer.layers[-1].name == "Wipe: truth"
    look.second.setCurrentText("truth")
    assert "twice" in str(panel.errors[-1])
    assert look.view is None
    look.second.setCurrentText("direct")
    look.buttons["wipe"].click()
    look.first.setCurrentText("noisy")
    look.offer([noisy, truth])  # the second layer is no longer chosen
    assert look.view.images == [noisy, truth]
    look.offer(panel.layers)
    look.buttons["blink"].click()
    look.buttons["blink"].click()
    assert [layer.visible for layer in viewer.layers] == visible
    look.buttons["wipe"].click()
    viewer.layers.remove(viewer.layers[-1])  # the left part of the wipe
    look.offer(panel.layers)
    assert look.view is None
    assert not look.buttons["wipe"].isChecked()


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


def test_profile_follows_the_line_and_the_plane_in_view(panel, qtbot):
    viewer, look, (noisy, direct, _, truth) = panel.viewer, panel.look, panel.layers
    look.buttons["profile"].click()
    line = viewer.layers["Profile line"]
    assert line.mode == "add_line"

    def curves():
        return [curve.getOriginalDataset() for curve in look.plot.item.listDataItems()]

    viewer.dims.set_current_step(0, 1)
    line.add_lines(np.array([[10, 4], [10, 20]]))
    qtbot.waitUntil(lambda: len(curves()) == 4)
    distance, values = curves()[3]  # noisy, direct, mean, truth
    np.testing.assert_allclose(values, truth.data[1, 10, 4:21], rtol=1e-5)
    np.testing.assert_allclose(distance, np.arange(17) * 0.5)
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: np.allclose(curves()[3][1], truth.data[2, 10, 4:21]))
    line.add_lines(np.array([[2, 3], [12, 3]]))  # a new line replaces the old one
    qtbot.waitUntil(lambda: len(curves()[3][1]) == 11)
    np.testing.assert_allclose(curves()[3][1], truth.data[2, 2:13, 3], rtol=1e-5)
    assert len(line.data) == 1
    line.data = [np.array([[2, 28], [2, 40]])]  # beyond the edge there is nothing
    qtbot.waitUntil(lambda: len(curves()[3][1]) == 13)
    assert np.isfinite(curves()[3][1]).sum() == 4
    look.offer([noisy, direct, truth])  # the line stays
    qtbot.waitUntil(lambda: len(curves()) == 3)
    look.buttons["profile"].click()
    assert names(viewer.layers) == ["noisy", "direct", "mean", "truth"]
    look.buttons["profile"].click()
    viewer.layers.remove("Profile line")
    look.offer(panel.layers)
    assert not look.buttons["profile"].isChecked()
    assert not panel.errors


def test_profile_of_a_direct_result_has_a_band_of_two_standard_deviations(panel, result_of, qtbot):
    viewer, look, (_, direct, _, truth) = panel.viewer, panel.look, panel.layers
    direct.metadata = result_of("noisy")
    common = {"scale": (1, 0.5, 0.5)}
    for method, value in (("std", 3.0), ("sample_std", 7.0)):  # that of the direct pass goes first
        metadata = result_of("noisy", method)
        viewer.add_image(np.full(truth.data.shape, value, "f4"), name=method, metadata=metadata, **common)
    one_plane = np.full((1, *truth.data.shape[1:]), 9, "f4")
    viewer.add_image(one_plane, name="of a plane", metadata=result_of("noisy", "std"))
    look.buttons["profile"].click()
    viewer.layers["Profile line"].add_lines(np.array([[10, 4], [10, 20]]))
    qtbot.waitUntil(lambda: len(look.plot.item.listDataItems()) == 4)
    (band,) = [item for item in look.plot.item.items if isinstance(item, FillBetweenItem)]
    low, high = (curve.getOriginalDataset()[1] for curve in band.curves)
    plane = viewer.dims.current_step[0]
    np.testing.assert_allclose(low, direct.data[plane, 10, 4:21] - 6, rtol=1e-5)
    np.testing.assert_allclose(high, direct.data[plane, 10, 4:21] + 6, rtol=1e-5)
    assert "± 2 std" in look.plot.item.titleLabel.text
    direct.metadata = {}  # an image of unknown origin
    look.offer(panel.layers)
    qtbot.waitUntil(lambda: not [item for item in look.plot.item.items if isinstance(item, FillBetweenItem)])
    assert not panel.errors
