"""The comparison of HDN with the direct pass: pictures in a grid, words, plot, and what is left behind."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser._napari.compare.views import camera_of, grid_of
from napari_direct_denoiser._napari.shared.layers import METADATA_KEY
from napari_direct_denoiser._napari.shared.open_dock import compare_hdn_with_direct
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.evaluation.compare import rms

pytestmark = pytest.mark.gui

MADE = ["direct", "HDN mean of 3", "one HDN sample", "std"]


def names(layers):
    return [layer.name for layer in layers]


def cells(viewer):
    """Names of the visible layers in the order of their cells."""
    grid, layers = grid_of(viewer), viewer.layers
    held = layers if hasattr(viewer, "canvas") else len(layers)
    places = {layer.name: grid.position(layers.index(layer), held) for layer in layers if layer.visible}
    return sorted(places, key=places.get)


def state(viewer):
    grid, camera = grid_of(viewer), camera_of(viewer)
    return {
        "layers": [(layer.name, layer.visible, tuple(layer.contrast_limits)) for layer in viewer.layers],
        "titles": [layer.name_overlay.visible for layer in viewer.layers if hasattr(layer, "name_overlay")],
        "grid": (grid.enabled, tuple(grid.shape), grid.stride, grid.spacing),
        "camera": (tuple(camera.center), camera.zoom),
        "active": viewer.layers.selection.active,
        "ndisplay": viewer.dims.ndisplay,
    }


@pytest.fixture
def stack(viewer, noisy, truth):
    """A rotated stack and its truth, the third plane in view."""
    common = {"scale": (2, 0.5, 0.5), "translate": (1, 2, 3), "rotate": 20}
    viewer.add_image(truth, name="cells truth", visible=False, **common)
    layer = viewer.add_image(noisy, name="cells", **common)
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    return layer


@pytest.fixture
def few_samples(compare_dock):
    compare_dock.against.samples.setItemData(0, (1, 3))


@pytest.mark.window
def test_one_call_shows_all_pictures_beside_each_other_and_says_which_is_better(
    viewer, noisy, truth, stack, compare_dock, few_samples, untrained, finish, errors_shown, qtbot
):
    model = MODELS.add("a model", untrained)
    before = state(viewer)
    compare_hdn_with_direct(viewer, stack, model)  # as from the Train dock
    finish(compare_dock)
    assert cells(viewer) == ["cells", *MADE, "cells truth"]
    made = [viewer.layers[name] for name in MADE]
    for layer in made:  # each lies exactly over its plane
        assert layer.data.shape == (1, 24, 32)
        assert layer.axis_labels == ("t", "y", "x")
        np.testing.assert_allclose(layer.data_to_world((0, 5, 7)), stack.data_to_world((2, 5, 7)))
    np.testing.assert_allclose(made[0].data[0], untrained.denoise(noisy[2]), atol=1e-3)
    np.testing.assert_allclose(made[3].data[0], untrained.std(noisy[2]), rtol=1e-3)
    limits = {tuple(layer.contrast_limits) for layer in (stack, *made[:3], viewer.layers["cells truth"])}
    assert len(limits) == 1
    assert tuple(made[3].contrast_limits) not in limits
    curve, dot = compare_dock.against.plot.item.listDataItems()
    error = rms(made[0].data[0] - truth[2])
    assert dot.getOriginalDataset()[1] == pytest.approx([error], rel=1e-4)
    assert len(curve.getOriginalDataset()[0]) == 2
    assert f"{error:.3g}" in compare_dock.against.words.text()
    assert "times as fast" in compare_dock.against.words.text()
    compare_dock.against.leave_button.click()
    qtbot.waitUntil(lambda: state(viewer) == before)  # names of layers disappear a moment later
    assert not errors_shown()


@pytest.mark.window
def test_map_of_disagreement_is_off_at_first_and_two_sided(viewer, stack, compare_dock, few_samples, plus_one, finish):
    compare_dock.against.run_button.click()
    finish(compare_dock)
    panel = compare_dock.against
    disagreement = viewer.layers["(direct − mean) / std"]
    assert not disagreement.visible
    assert panel.about_disagreement.isHidden()
    low, high = disagreement.contrast_limits
    assert low == -high
    panel.disagreement.setChecked(True)
    assert cells(viewer)[-1] == disagreement.name
    assert "by design" in panel.about_disagreement.text()
    assert not panel.about_disagreement.isHidden()
    disagreement.visible = False  # in the layer list
    assert not panel.disagreement.isChecked()
    compare_dock.parent().destroyOnClose()  # the cross in the title of the dock
    assert names(viewer.layers) == ["cells truth", "cells"]
    assert not grid_of(viewer).enabled


def test_comparison_follows_the_slider(viewer, noisy, stack, compare_dock, few_samples, plus_one, finish, qtbot):
    compare_dock.against.run_button.click()
    finish(compare_dock)
    viewer.dims.set_point(0, stack.data_to_world((0, 0, 0))[0])
    direct = viewer.layers["direct"]
    qtbot.waitUntil(lambda: np.allclose(direct.data[0], noisy[0] + 1, atol=1e-3), timeout=20_000)
    finish(compare_dock)
    assert "times as fast" in compare_dock.against.words.text()
    np.testing.assert_allclose(direct.data_to_world((0, 5, 7)), stack.data_to_world((0, 5, 7)))
    assert len(viewer.layers) == 2 + len(MADE) + 1


def test_kept_layers_are_results_like_those_of_the_denoise_dock(
    viewer, noisy, compare_dock, few_samples, plus_one, finish
):
    viewer.add_image(noisy[0], name="cells")
    compare_dock.against.run_button.click()
    finish(compare_dock)
    compare_dock.against.keep.setChecked(True)
    compare_dock.look.buttons["profile"].click()  # another view takes its place
    assert not grid_of(viewer).enabled
    kept = ["cells direct", "cells HDN mean (N=3)", "cells HDN sample (N=1)", "cells std"]
    assert names(viewer.layers)[1:6] == [*kept, "cells (direct − mean) / std"]
    assert not any(layer.visible for layer in viewer.layers if layer.name in kept)
    assert names(compare_dock.results.layers) == kept[:2]
    facts = viewer.layers["cells direct"].metadata[METADATA_KEY]
    assert (facts["source"], facts["model"], facts["method"]) == ("cells", "a model", "direct")
    assert facts["seconds"] > 0


def test_stopped_comparison_keeps_its_pictures_until_it_is_left(viewer, compare_dock, held, finish, qtbot, noisy):
    viewer.add_image(noisy, name="cells")
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: bool(compare_dock.status.text()))
    compare_dock.stop_button.click()
    held.set()
    assert finish(compare_dock) == "Stopped."
    assert len(viewer.layers) == 1  # nothing was drawn yet
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    compare_dock.stop_button.click()
    finish(compare_dock)
    assert grid_of(viewer).enabled
    viewer.layers.remove("std")  # a picture that is removed ends the comparison
    assert names(viewer.layers) == ["cells"]
    assert not grid_of(viewer).enabled


def test_error_in_a_run_is_shown_and_the_next_works(
    viewer, compare_dock, few_samples, plus_one, finish, noisy, errors_shown, monkeypatch
):
    def fail(noisy):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    viewer.add_image(noisy, name="cells")
    with monkeypatch.context() as patch:
        patch.setattr(plus_one.model, "direct_with_std", fail)
        compare_dock.against.run_button.click()
        assert "mat1 and mat2" in finish(compare_dock)
    assert errors_shown() == [compare_dock.status.text()]
    assert len(viewer.layers) == 1
    compare_dock.against.run_button.click()
    finish(compare_dock)
    assert "times as fast" in compare_dock.against.words.text()
