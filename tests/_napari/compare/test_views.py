"""Views of layers, in a viewer model without a window: what they show, and that closing one restores the viewer."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_direct_denoiser._napari.compare import views
from napari_direct_denoiser._napari.compare.views import Blink, SideBySide, Wipe, camera_of, grid_of
from napari_direct_denoiser._napari.shared.layers import METADATA_KEY

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(qapp):
    return ViewerModel()


@pytest.fixture
def layers(viewer, rng):
    """Noisy, other (of no interest), result: under different limits and colours, the result hidden."""
    noisy = viewer.add_image(rng.poisson(20, (3, 40, 60)).astype(np.float32), name="noisy", contrast_limits=(5, 50))
    other = viewer.add_image(np.zeros((3, 40, 60), np.float32), name="other")
    result = viewer.add_image(
        np.full((3, 40, 60), 20, np.float32), name="result", colormap="magma", contrast_limits=(0, 1), visible=False
    )
    viewer.layers.selection.active = other
    return noisy, other, result


def state(viewer):
    grid, camera = grid_of(viewer), camera_of(viewer)
    return {
        "layers": [(layer.name, layer.visible) for layer in viewer.layers],
        "display": [
            (tuple(layer.contrast_limits), tuple(layer.contrast_limits_range), layer.colormap.name, layer.gamma)
            for layer in viewer.layers
        ],
        "titles": [
            (layer.name_overlay.visible, layer.name_overlay.font_size)
            for layer in viewer.layers
            if hasattr(layer, "name_overlay")
        ],
        "grid": (grid.enabled, tuple(grid.shape), grid.stride, grid.spacing),
        "camera": (tuple(camera.center), camera.zoom, camera.mouse_pan),
        "active": viewer.layers.selection.active,
        "callbacks": len(viewer.mouse_drag_callbacks),
    }


def opened(view, viewer, layers):
    return Wipe(viewer, layers, lambda part: None) if view is Wipe else view(viewer, layers)


@pytest.mark.parametrize("view", [SideBySide, Wipe, Blink])
def test_view_shows_its_layers_alike_and_leaves_nothing_behind(viewer, layers, view, qtbot):
    noisy, other, result = layers
    before = state(viewer)
    shown = opened(view, viewer, [noisy, result])
    assert not other.visible
    assert tuple(result.contrast_limits) == (5, 50)
    assert result.colormap.name == noisy.colormap.name
    result.contrast_limits = (10, 30)
    assert tuple(noisy.contrast_limits) == (10, 30)
    noisy.colormap = "green"
    assert result.colormap.name == "green"
    shown.close()
    qtbot.waitUntil(lambda: state(viewer) == before)  # names of layers disappear a moment later
    noisy.contrast_limits = (1, 2)
    assert tuple(result.contrast_limits) == (0, 1)


@pytest.mark.parametrize("view", [SideBySide, Wipe, Blink])
def test_view_closes_after_its_layers_are_gone_and_others_came(viewer, layers, view):
    noisy, other, result = layers
    shown = opened(view, viewer, [noisy, result])
    viewer.layers.remove(result)
    noisy.name = "renamed"
    new = viewer.add_image(np.ones((3, 40, 60)), name="new")
    shown.close()
    assert [layer.name for layer in viewer.layers] == ["renamed", "other", "new"]
    assert all(layer.visible for layer in (noisy, other, new))
    viewer.layers.clear()


def test_grid_has_the_layers_in_order_with_titles(viewer, layers):
    noisy, _, result = layers
    view = SideBySide(viewer, [result, noisy])
    grid = grid_of(viewer)
    assert grid.enabled
    held = viewer.layers if hasattr(viewer, "canvas") else len(viewer.layers)
    cells = [tuple(grid.position(viewer.layers.index(layer), held)) for layer in (result, noisy)]
    assert cells == [(0, 0), (1, 0)]  # the pictures are wider than high: below each other they are largest
    assert result.visible
    assert noisy.visible
    if hasattr(noisy, "name_overlay"):
        assert result.name_overlay.visible
        assert noisy.name_overlay.visible
    else:
        assert viewer.text_overlay.text == "result  |  noisy"
    view.close()


def test_layers_are_shown_in_any_order_and_the_list_is_restored_with_one_event_each(viewer, rng):
    layers = [viewer.add_image(np.zeros((4, 4)), name=str(number)) for number in range(9)]
    events = []
    viewer.layers.events.reordered.connect(lambda event: events.append([layer.name for layer in viewer.layers]))
    for _ in range(10):
        before = list(viewer.layers)
        shown = [layers[number] for number in rng.permutation(9)[: rng.integers(2, 9)]]
        events.clear()
        view = SideBySide(viewer, shown)
        assert viewer.layers[: len(shown)] == shown
        view.close()
        assert list(viewer.layers) == before
        assert len(events) <= 2


def test_map_keeps_its_own_colours_and_one_more_layer_gets_a_cell_while_visible(viewer, layers, qtbot):
    noisy, _, result = layers
    before = state(viewer)
    view = SideBySide(viewer, [noisy, result], maps=[result])
    assert (result.colormap.name, tuple(result.contrast_limits)) == ("magma", (0, 1))
    added = viewer.add_image(np.ones((3, 40, 60)), name="added", visible=False)
    view.add(added)
    cells = np.prod(grid_of(viewer).shape)
    added.visible = True
    assert np.prod(grid_of(viewer).shape) > cells
    viewer.layers.remove(added)
    assert np.prod(grid_of(viewer).shape) == cells
    view.close()
    qtbot.waitUntil(lambda: state(viewer) == before)


def test_blink_shows_one_and_then_the_other(viewer, layers, qtbot, monkeypatch):
    monkeypatch.setattr(views, "BLINK_MILLISECONDS", 20)
    noisy, _, result = layers
    view = Blink(viewer, [noisy, result])
    seen = [(noisy.visible, result.visible)]
    result.events.visible.connect(lambda: seen.append((noisy.visible, result.visible)))
    qtbot.waitUntil(lambda: len(seen) >= 3)
    assert seen[:3] == [(True, False), (False, True), (True, False)]
    view.close()


def test_wipe_cuts_the_left_layer_at_the_divider(viewer, layers):
    noisy, _, result = layers
    view = Wipe(viewer, [noisy, result], lambda part: None)
    assert viewer.layers[-1] == view.cut
    assert (noisy.visible, result.visible) == (False, True)
    np.testing.assert_array_equal(view.cut.data, noisy.data[..., :30])
    assert np.shares_memory(view.cut.data, noisy.data)
    view.move(0.2)
    np.testing.assert_array_equal(view.cut.data, noisy.data[..., :12])
    view.move(0)
    assert view.cut.data.shape == (3, 40, 1)
    view.move(1)
    assert view.cut.data.shape == noisy.data.shape
    view.close()


def test_wipe_of_lazy_and_multiscale_layers_reads_only_what_is_shown(viewer, rng):
    read = []
    pixels = rng.normal(size=(50, 40, 60))
    lazy = da.from_array(pixels, chunks=(1, 40, 60)).map_blocks(lambda block: read.append(0) or block, dtype=float)
    left = viewer.add_image(lazy, name="lazy", contrast_limits=(-1, 1))
    pyramid = viewer.add_image([pixels, pixels[:, ::2, ::2]], name="pyramid", multiscale=True, contrast_limits=(-1, 1))
    read.clear()
    view = Wipe(viewer, [left, pyramid], lambda part: None)
    view.move(0.25)
    assert isinstance(view.cut.data, da.Array)
    assert len(read) < 10
    view.close()
    view = Wipe(viewer, [pyramid, left], lambda part: None)
    view.move(0.5)
    assert [level.shape for level in view.cut.data] == [(50, 40, 30), (50, 20, 15)]
    view.close()


def test_divider_is_dragged_with_the_mouse_and_nothing_else_is(viewer, layers):
    noisy, _, result = layers
    noisy.scale = result.scale = (1, 0.5, 0.5)
    viewer.reset_view()
    moved = []
    view = Wipe(viewer, [noisy, result], moved.append)

    def drag(start, end):
        event = SimpleNamespace(button=1, type="mouse_press", position=(0, 5, start))
        steps = viewer.mouse_drag_callbacks[-1](viewer, event)
        held = next(steps, "no hold") is None
        if held:
            assert not camera_of(viewer).mouse_pan
            event.type, event.position = "mouse_move", (0, 5, end)
            next(steps)
            event.type = "mouse_release"
            assert next(steps, None) is None
        assert camera_of(viewer).mouse_pan
        return held

    divider = (30 - 0.5) * 0.5
    assert drag(divider, (15 - 0.5) * 0.5)
    assert moved == [pytest.approx(15 / 60)]
    far = divider + 2 * views.GRAB_PIXELS / camera_of(viewer).zoom
    assert not drag(far, 0)
    view.move(moved[-1])
    assert drag((15 - 0.5) * 0.5, -100)
    assert moved[-1] == 0
    view.close()


def test_layers_of_a_view_are_told_from_images(viewer, layers):
    noisy, _, result = layers
    view = Wipe(viewer, [noisy, result], lambda part: None)
    assert views.is_view(view.cut)
    assert METADATA_KEY in view.cut.metadata  # so that no dock takes it for its next input
    assert not views.is_view(noisy)
    view.close()
