"""Alternatives in the Compare dock: the layers of a region in view, words, and what is left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser._napari.compare.alternatives import region_in_view
from napari_direct_denoiser._napari.compare.views import camera_of, canvas_size, grid_of
from napari_direct_denoiser._napari.shared.layers import METADATA_KEY

pytestmark = pytest.mark.gui


@pytest.fixture
def big(viewer, rng):
    """A rotated stack, larger than a region, the third plane in view."""
    image = rng.normal(100, 4, (3, 300, 400)).astype("f4")
    layer = viewer.add_image(image, name="cells", scale=(2, 0.5, 0.5), translate=(1, 2, 3), rotate=20)
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    viewer.reset_view()
    return layer


@pytest.fixture
def two_kinds(plus_one, monkeypatch):
    """The only model of the session. Its samples are flat, and a third of them has a square around its middle."""

    def sample(noisy, generators):
        height, width = noisy.shape[-2:]
        square = torch.zeros(1, height, width)
        square[:, height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 50
        drawn = [(torch.rand(2, generator=generator) * torch.tensor([1, 0.1])).tolist() for generator in generators]
        return torch.stack([100 + little + (first < 1 / 3) * square for first, little in drawn])

    monkeypatch.setattr(plus_one.model, "sample", sample)
    return plus_one


def state(viewer):
    camera = camera_of(viewer)
    return {
        "layers": [(layer.name, layer.visible, tuple(layer.contrast_limits)) for layer in viewer.layers],
        "grid": (grid_of(viewer).enabled, tuple(grid_of(viewer).shape)),
        "camera": (tuple(camera.center), camera.zoom),
        "active": viewer.layers.selection.active,
    }


@pytest.mark.window
def test_alternatives_lie_over_the_region_in_view_and_leaving_restores_the_viewer(
    viewer, big, compare_dock, two_kinds, finish, errors_shown, qtbot
):
    before = state(viewer)
    compare_dock.against.alternatives_button.click()
    finish(compare_dock)
    words = compare_dock.against.words.text()
    assert words.startswith("2 alternatives, in ")
    _, *made = (layer for layer in viewer.layers if layer.visible)
    shares = [int(layer.name.split("(")[1].split(" %")[0].rstrip("%)")) for layer in made]
    assert [layer.name.split(" (")[0] for layer in made] == ["alternative 1", "alternative 2"]
    assert sum(shares) == 100
    assert shares[0] == pytest.approx(67, abs=20)
    assert all(f"{share}%" in words for share in shares)
    for layer in made:
        assert layer.data.shape == (1, 256, 256)  # the middle of what is in view
        np.testing.assert_allclose(layer.data_to_world((0, 5, 7)), big.data_to_world((2, 22 + 5, 72 + 7)))
    assert np.ptp(made[0].data) == pytest.approx(0, abs=1e-3)
    assert np.ptp(made[1].data) == pytest.approx(50, abs=1e-3)
    assert grid_of(viewer).enabled
    assert camera_of(viewer).zoom != before["camera"][1]
    assert tuple(made[0].contrast_limits) == tuple(big.contrast_limits)
    compare_dock.against.leave_button.click()
    qtbot.waitUntil(lambda: state(viewer) == before)  # its layers leave one by one
    assert not errors_shown()


def test_samples_that_scatter_around_one_image_are_no_alternatives(viewer, compare_dock, untrained, plus_one, finish):
    viewer.add_image(np.linspace(0, 99, 64 * 64, dtype="f4").reshape(64, 64), name="cells")
    compare_dock.against.alternatives_button.click()
    finish(compare_dock)
    assert compare_dock.against.words.text().startswith("No distinct alternatives")
    assert [layer.name for layer in viewer.layers] == ["cells", "sample 1"]


def test_alternatives_follow_the_slider_and_may_be_kept(viewer, big, compare_dock, two_kinds, finish, qtbot):
    compare_dock.against.alternatives_button.click()
    finish(compare_dock)
    viewer.dims.set_point(0, big.data_to_world((0, 0, 0))[0])
    here = big.data_to_world((0, 22, 72))
    qtbot.waitUntil(
        lambda: len(viewer.layers) > 1 and np.allclose(viewer.layers[1].data_to_world((0, 0, 0)), here), timeout=20_000
    )
    finish(compare_dock)
    made = viewer.layers[1:]
    assert len(made) == 2
    compare_dock.against.keep.setChecked(True)
    compare_dock.against.leave_button.click()
    assert not grid_of(viewer).enabled
    assert [layer.visible for layer in viewer.layers] == [True, False, False]
    assert [layer.name.split(" (")[0] for layer in made] == ["cells T=0 alternative 1", "cells T=0 alternative 2"]
    facts = made[0].metadata[METADATA_KEY]
    assert (facts["source"], facts["model"], facts["method"]) == ("cells", "a model", "sample")
    assert not compare_dock.results.layers  # a region is not compared with the whole


def test_run_stops_if_its_layer_is_removed(viewer, noisy, compare_dock, held, finish, qtbot, errors_shown):
    layer = viewer.add_image(noisy, name="cells")
    viewer.add_image(noisy, name="others")
    compare_dock.layer_choice.choose(layer)
    compare_dock.against.alternatives_button.click()
    qtbot.waitUntil(lambda: bool(compare_dock.status.text()))
    viewer.layers.remove(layer)
    held.set()
    assert finish(compare_dock) == "Stopped."
    assert [left.name for left in viewer.layers] == ["others"]
    assert not errors_shown()


def test_region_is_what_is_in_view_at_most_256_pixels_and_inside_the_plane(viewer):
    layer = viewer.add_image(np.zeros((2, 300, 1000), "f4"), scale=(1, 0.5, 0.5))
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0, 50, 200), min(canvas_size(viewer)) / 50
    rows, columns = region_in_view(viewer, layer, "TYX")
    sides = rows.stop - rows.start, columns.stop - columns.start
    assert min(sides) == pytest.approx(100, abs=1)
    assert (rows.start + rows.stop - 1) / 2 == pytest.approx(100, abs=1)
    assert (columns.start + columns.stop - 1) / 2 == pytest.approx(400, abs=1)
    camera.center, camera.zoom = (0, 900, -900), 1e-3
    assert region_in_view(viewer, layer, "TYX") == (slice(44, 300), slice(0, 256))
    camera.zoom = 1e3
    assert region_in_view(viewer, layer, "TYX") == (slice(268, 300), slice(0, 32))
