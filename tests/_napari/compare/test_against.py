"""The comparison of HDN with the direct pass: pictures in a grid, words, plot, and what is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QTimer

from napari_direct_denoiser._napari.compare.views import SideBySide, camera_of, grid_of
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
    assert not grid_of(viewer).enabled
    qtbot.waitUntil(lambda: names(viewer.layers) == ["cells"])  # the others leave one by one


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


def after_first_layer(viewer, do):
    """Do something in the event after that in which a comparison adds its first layer."""
    came = []

    def on_inserted(event):
        came.append(event.value.name)
        if len(came) == 1:
            QTimer.singleShot(0, do)

    viewer.layers.events.inserted.connect(on_inserted)
    return came


@pytest.fixture
def turns():
    """Numbers of the turns of the event loop: the last is that of now."""
    numbers, clock = [0], QTimer()
    clock.timeout.connect(lambda: numbers.append(numbers[-1] + 1))
    clock.start(0)
    yield numbers
    clock.stop()


def test_layers_come_and_leave_one_by_one(viewer, stack, compare_dock, few_samples, plus_one, finish, turns, qtbot):
    came, shown, left = [], [], []
    canvas = viewer.canvas if hasattr(viewer, "canvas") else viewer

    def on_inserted(event):
        layer = event.value
        came.append((turns[-1], layer.visible))
        layer.events.visible.connect(lambda: shown.append((turns[-1], layer.name, tuple(canvas.grid.shape))))
        if hasattr(layer, "name_overlay"):
            layer.name_overlay.events.visible.connect(lambda: shown.append((turns[-1], f"name of {layer.name}", ())))

    viewer.layers.events.inserted.connect(on_inserted)
    viewer.layers.events.removed.connect(lambda event: left.append(turns[-1]))
    compare_dock.against.run_button.click()
    finish(compare_dock)
    assert len(came) == len(MADE) + 1
    assert len({turn for turn, _ in came}) == len(came)  # no two in one turn of the event loop
    assert not any(visible for _, visible in came)
    assert cells(viewer) == ["cells", *MADE, "cells truth"]
    pictures = [shape for _, name, shape in shown if not name.startswith("name of")]
    assert len(pictures) == len(MADE)
    assert len(set(pictures)) == 1  # of the grid: none changes its place
    assert len({turn for turn, *_ in shown}) == len(shown)
    shown.clear()
    compare_dock.against.leave_button.click()
    assert not grid_of(viewer).enabled
    assert not any(layer.visible for layer in viewer.layers if layer.name not in ("cells", "cells truth"))
    qtbot.waitUntil(lambda: names(viewer.layers) == ["cells truth", "cells"])
    assert len(set(left)) == len(left) == len(MADE) + 1


@pytest.mark.parametrize(
    ("how", "picture"),
    [
        ("leave", "std"),
        ("delete a picture", "direct"),
        pytest.param("close the dock", "direct", marks=pytest.mark.window),
    ],
)
def test_comparison_that_ends_while_its_pictures_appear_leaves_nothing(
    viewer, stack, compare_dock, few_samples, plus_one, qtbot, how, picture
):
    before = state(viewer)
    end = {
        "leave": compare_dock.leave,
        "delete a picture": lambda: viewer.layers.remove(picture),
        "close the dock": lambda: compare_dock.parent().destroyOnClose(),
    }[how]
    ended = []

    def on_visible():
        if not ended:
            ended.append(cells(viewer))
            QTimer.singleShot(0, end)

    def on_inserted(event):
        if event.value.name == picture:
            event.value.events.visible.connect(on_visible)

    viewer.layers.events.inserted.connect(on_inserted)
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: bool(ended), timeout=20_000)
    qtbot.waitUntil(lambda: state(viewer) == before)
    assert ended[0][-1] == picture  # others were still to come
    qtbot.wait(200)  # for pictures that must not come
    assert state(viewer) == before


def test_next_comparison_waits_until_the_layers_of_the_last_have_left(
    viewer, stack, compare_dock, few_samples, plus_one, finish, qtbot
):
    before = state(viewer)
    for _ in range(3):  # at once: the layers of the last are still there
        compare_dock.against.run_button.click()
        finish(compare_dock)
        assert cells(viewer) == ["cells", *MADE, "cells truth"]
        assert len(viewer.layers) == 2 + len(MADE) + 1
    compare_dock.against.leave_button.click()
    qtbot.waitUntil(lambda: state(viewer) == before)


@pytest.mark.window
def test_dock_that_is_closed_while_layers_leave_leaves_none(
    viewer, stack, compare_dock, few_samples, plus_one, finish, qtbot
):
    before = state(viewer)
    compare_dock.against.run_button.click()
    finish(compare_dock)
    compare_dock.against.leave_button.click()
    compare_dock.parent().destroyOnClose()
    assert names(viewer.layers) == ["cells truth", "cells"]
    qtbot.waitUntil(lambda: state(viewer) == before)


@pytest.mark.window
def test_viewer_that_is_closed_while_layers_leave_raises_no_error(
    viewer, stack, compare_dock, few_samples, plus_one, finish, qtbot, errors_shown
):
    compare_dock.against.run_button.click()
    finish(compare_dock)
    left = []

    def on_removed(event):
        left.append(event.value)
        if len(left) == 2:
            QTimer.singleShot(0, viewer.close)

    viewer.layers.events.removed.connect(on_removed)
    compare_dock.against.leave_button.click()
    qtbot.waitUntil(lambda: len(left) >= 2)
    qtbot.wait(300)
    assert not errors_shown()


@pytest.mark.parametrize("how", ["leave", "delete the noisy layer", "delete a picture"])
def test_comparison_that_ends_between_its_layers_leaves_nothing(
    viewer, stack, compare_dock, few_samples, plus_one, finish, qtbot, how
):
    before = state(viewer)
    end = {
        "leave": compare_dock.against.leave_button.click,
        "delete the noisy layer": lambda: viewer.layers.remove(stack),
        "delete a picture": lambda: viewer.layers.remove(viewer.layers[-1]),
    }[how]
    came = after_first_layer(viewer, end)
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: bool(came), timeout=20_000)
    finish(compare_dock)
    qtbot.wait(200)  # for layers that must not come
    assert came == ["direct"]
    if how == "delete the noisy layer":
        assert names(viewer.layers) == ["cells truth"]
    else:
        assert state(viewer) == before
    assert not grid_of(viewer).enabled
    assert compare_dock.comparison is None
    assert compare_dock.against.leave_button.isHidden()


@pytest.mark.window
def test_dock_that_is_closed_between_the_layers_of_a_comparison_leaves_nothing(
    viewer, stack, compare_dock, few_samples, plus_one, qtbot
):
    before = state(viewer)
    came = after_first_layer(viewer, lambda: compare_dock.parent().destroyOnClose())
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: bool(came), timeout=20_000)
    qtbot.wait(200)  # for layers that must not come
    assert came == ["direct"]
    assert state(viewer) == before


def test_viewer_draws_after_a_comparison_was_left(make_napari_viewer_proxy, noisy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    cells = viewer.add_image(noisy, name="cells")
    made = [viewer.add_image(noisy[:1], name=str(number)) for number in range(2)]
    view = SideBySide(viewer, [cells, *made])
    qtbot.wait(300)
    assert cells.name_overlay.visible
    view.close()
    for layer in made:
        viewer.layers.remove(layer)  # OpenGL would end the process at the next drawing, were the names hidden now
    qtbot.wait(300)
    assert not cells.name_overlay.visible
    assert viewer.screenshot(flash=False).std() > 0
    view = SideBySide(viewer, [cells])
    view.close()
    viewer.window.close()
    qtbot.wait(200)  # no error from a name that is hidden after the window is gone
