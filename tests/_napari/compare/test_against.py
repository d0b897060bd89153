"""HDN against direct in the Compare dock: the layers, the plot, errors and Stop."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.evaluation.metrics import evaluate

pytestmark = pytest.mark.gui


def names(layers):
    return [layer.name for layer in layers]


def test_hdn_against_direct_shows_figure_1_of_the_plane_in_view(
    viewer, noisy, truth, compare_dock, untrained, finish, errors_shown
):
    common = {"scale": (2, 0.5, 0.5), "translate": (1, 2, 3), "rotate": 20}
    layer = viewer.add_image(noisy, name="cells", **common)
    viewer.add_image(truth, name="cells truth", visible=False, **common)
    compare_dock.layer_choice.setCurrentText("cells")
    compare_dock.against.samples.setItemData(0, (1, 3))
    MODELS.add("a model", untrained)
    viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    before = names(viewer.layers)
    compare_dock.against.run_button.click()
    assert "cells T=2" in finish(compare_dock)
    added = {layer.name.removeprefix("cells T=2 "): layer for layer in viewer.layers if layer.name not in before}
    means = ["HDN mean (N=1)", "HDN mean (N=3)"]
    assert list(added) == ["disagreement (N=3)", "HDN std (N=3)", *means, "direct"]
    # the result is visible, the maps are hidden
    assert [name for name, layer in added.items() if layer.visible] == ["HDN mean (N=3)", "direct"]
    direct = added["direct"]
    np.testing.assert_allclose(direct.data[0], untrained.denoise(noisy[2]), atol=1e-3)
    for each in added.values():  # each lies exactly over its plane
        assert each.data.shape == (1, 24, 32)
        assert each.axis_labels == ("t", "y", "x")
        np.testing.assert_allclose(each.data_to_world((0, 5, 7)), layer.data_to_world((2, 5, 7)))
    assert "times as long" in compare_dock.against.words.text()
    assert "standard errors" in compare_dock.against.words.text()
    curve, dot = compare_dock.against.plot.item.listDataItems()
    assert dot.getOriginalDataset()[1] == pytest.approx([evaluate(direct.data, truth[2:]).psnr], abs=1e-3)
    assert len(curve.getOriginalDataset()[0]) == 2
    assert not errors_shown()


def test_without_truth_the_distance_to_the_mean_of_most_samples_is_measured(
    viewer, compare_dock, plus_one, finish, noisy
):
    viewer.add_image(noisy[0], name="cells")
    compare_dock.against.run_button.click()
    assert "cells, the plane in view" in finish(compare_dock)
    curve, dot = compare_dock.against.plot.item.listDataItems()
    assert list(curve.getOriginalDataset()[1]) == pytest.approx([0, 0, 0], abs=1e-3)  # all add one
    assert list(dot.getOriginalDataset()[1]) == pytest.approx([0], abs=1e-3)
    # as the image is one plane, the layers are results of it
    assert names(compare_dock.results.layers) == [f"cells HDN mean (N={n})" for n in (1, 10, 100)] + ["cells direct"]


def test_error_in_a_run_is_shown_and_the_next_works(
    viewer, compare_dock, plus_one, finish, noisy, errors_shown, monkeypatch
):
    def fail(noisy):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    viewer.add_image(noisy, name="cells")
    with monkeypatch.context() as patch:
        patch.setattr(plus_one.model, "direct", fail)
        compare_dock.against.run_button.click()
        assert "mat1 and mat2" in finish(compare_dock)
    assert errors_shown() == [compare_dock.status.text()]
    assert len(viewer.layers) == 1
    compare_dock.against.run_button.click()
    assert "plane in view" in finish(compare_dock)


def test_stopped_run_shows_nothing(viewer, compare_dock, held, finish, qtbot, noisy):
    viewer.add_image(noisy, name="cells")
    compare_dock.against.run_button.click()
    qtbot.waitUntil(lambda: bool(compare_dock.status.text()))
    compare_dock.stop_button.click()
    held.set()
    assert finish(compare_dock) == "Stopped."
    assert len(viewer.layers) == 1
