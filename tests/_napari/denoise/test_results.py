"""Results of the Denoise dock: their pixels, their place, their names, and progress."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.prediction.statistics import mode

pytestmark = pytest.mark.gui


@pytest.mark.window
def test_one_click_denoises_every_plane_and_overlays(
    viewer, dock, denoiser, direct, make_noisy, notes, assert_lies_over
):
    for shape in ((64, 72), (1, 64, 72), (2, 3, 64, 72)):
        n = len(shape)
        noisy = viewer.add_image(
            make_noisy(shape),
            name=f"cells {n}",
            scale=(2.0, 3.0, 0.5, 0.25)[-n:],
            translate=(1, 2, 3, 4)[-n:],
            rotate=20,
            shear=[0.1] * (n * (n - 1) // 2),
            affine=np.diag([1.0] * (n - 1) + [1.5, 1]),
            units=("second", "micrometer", "micrometer", "micrometer")[-n:],
            axis_labels=("t", "z", "y", "x")[-n:],
            contrast_limits=(90, 150),
            colormap="green",
        )
        said = direct()
        result = viewer.layers[f"cells {n} direct"]
        assert f"Added “cells {n} direct”, “cells {n} std”" in said
        assert dock.progress.text() == "done"
        assert_lies_over(result, noisy)
        for key in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(result, key), getattr(noisy, key))
        assert result.axis_labels == noisy.axis_labels
        assert tuple(result.contrast_limits) == (90, 150)
        assert result.colormap.name == "green"
        assert result.data.dtype == np.float32
        np.testing.assert_array_equal(result.data, denoiser.denoise(noisy.data))
        std = viewer.layers[f"cells {n} std"]
        assert_lies_over(std, noisy)
        np.testing.assert_array_equal(std.data, denoiser.std(noisy.data))
        assert std.colormap.name == "magma"
        assert 0 == std.contrast_limits[0] < np.quantile(std.data, 0.9) < std.contrast_limits[1] <= std.data.max()
        assert std.metadata["napari_direct_denoiser"]["samples"] is None
        facts = result.metadata["napari_direct_denoiser"]
        known = ("source", "model", "method", "samples")
        assert [facts[name] for name in known] == [f"cells {n}", "a model", "direct", None]
        assert facts["seconds"] > 0
    assert not notes("warning")
    assert not notes("error")


def test_all_outputs_come_from_one_run_and_overlay(
    viewer, dock, denoiser, sample, make_noisy, notes, shown, assert_lies_over
):
    noisy = viewer.add_image(
        make_noisy((2, 64, 72)),
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=30,
        shear=np.array([[1, 0, 0], [0, 1, 0], [0, 0.1, 1]]),
        affine=np.diag([1, 1.5, 1, 1]),
        units=("second", "micrometer", "micrometer"),
        axis_labels=("t", "y", "x"),
        contrast_limits=(90, 150),
        colormap="green",
    )
    sample(samples=6, mean=True, median=True, mode=True, std=True, single_samples=4, seed=3)
    assert dock.sample_button.text() == "Draw 6 samples"
    drawn = denoiser.sample(noisy.data, 6, seed=3)
    names = ["cells", "cells HDN sample (N=4)", "cells HDN std (N=6)", "cells HDN mode (N=6)"]
    names += ["cells HDN median (N=6)", "cells HDN mean (N=6)"]
    assert [layer.name for layer in viewer.layers] == names
    expected = {"mean": drawn.mean(0), "median": np.median(drawn, 0), "std": drawn.std(0)}
    expected["mode"] = mode(drawn.reshape(6, -1, 72)).reshape(drawn.shape[1:])
    for output, image in expected.items():
        result = viewer.layers[f"cells HDN {output} (N=6)"]
        np.testing.assert_allclose(result.data, image, atol=1e-3)
        assert_lies_over(result, noisy)
    assert tuple(viewer.layers["cells HDN mean (N=6)"].contrast_limits) == (90, 150)
    std = viewer.layers["cells HDN std (N=6)"]
    assert std.colormap.name != "green"
    assert std.contrast_limits[0] == 0
    assert np.quantile(std.data, 0.9) < std.contrast_limits[1] <= std.data.max()
    single = viewer.layers["cells HDN sample (N=4)"]
    np.testing.assert_allclose(single.data, drawn[:4], atol=1e-3)
    assert_lies_over(single, noisy, leading=1)
    assert single.axis_labels == ("sample", "t", "y", "x")
    assert viewer.dims.ndim == 4
    viewer.dims.set_point(0, 3)  # the slider of the samples
    assert shown(single).shape == (64, 72)
    assert not notes("warning")


def test_the_plane_in_view_of_a_layer_without_axis_labels(viewer, dock, denoiser, direct, sample, make_noisy):
    place = {"scale": (2, 3, 0.5, 0.5), "translate": (5, 6, 7, 8), "rotate": 10}
    noisy = viewer.add_image(make_noisy((2, 4, 64, 64)), name="cells", **place)
    dock.where["planes"].value = "in view"
    dock.direct_form["direct_std"].value = False
    viewer.dims.set_point((0, 1), tuple(noisy.data_to_world((1, 2, 0, 0))[:2]))
    direct()
    sample(samples=3, std=False, single_samples=3)
    assert len(viewer.layers) == 4  # the unchecked outputs are not added
    mean, single = (viewer.layers[f"cells T=1 Z=2 HDN {output} (N=3)"] for output in ("mean", "sample"))
    assert mean.data.shape == (1, 1, 64, 64)
    np.testing.assert_allclose(mean.data_to_world((0, 0, 5, 6)), noisy.data_to_world((1, 2, 5, 6)))
    np.testing.assert_allclose(single.data_to_world((2, 0, 0, 5, 6))[1:], noisy.data_to_world((1, 2, 5, 6)))
    assert viewer.layers["cells T=1 Z=2 direct"].axis_labels == ("t", "z", "y", "x")
    assert single.axis_labels == ("sample", "t", "z", "y", "x")
    # the same samples as this plane has in a run of all planes
    drawn = denoiser.sample(noisy.data, 3)
    np.testing.assert_allclose(mean.data[0, 0], drawn.mean(0)[1, 2], atol=1e-3)


def test_progress_counts_all_planes_and_the_layer_may_change_during_a_run(
    viewer, dock, plus_one, finish, qtbot, make_noisy
):
    layer = viewer.add_image(make_noisy((40, 64, 64)), name="cells", scale=(1, 2, 2))
    updates = []
    dock.job.updated.connect(updates.append)
    dock.direct_button.click()
    qtbot.waitUntil(lambda: "left" in dock.progress.text() or not dock.job.running)
    assert "left" in dock.progress.text()
    finish(dock)
    fractions = [update.fraction for update in updates if update.words.startswith("Plane")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert min(fractions) < 0.6
    assert updates[-1].words == "Plane 40 of 40 …"
    assert dock.layer_choice.layer == layer  # a result is not the next input
    dock.direct_button.click()
    layer.name = "renamed"
    viewer.layers.clear()
    finish(dock)
    np.testing.assert_array_equal(viewer.layers["cells direct"].scale, (1, 2, 2))


@pytest.mark.window
def test_a_result_is_saved_by_napari_and_opens_again(viewer, dock, direct, plus_one, tmp_path, npe2pm, make_noisy):
    viewer.add_image(make_noisy((5, 64, 64)), name="cells")
    direct()
    result = viewer.layers["cells direct"]
    with npe2pm.tmp_plugin(package="napari"):
        (path,) = result.save(str(tmp_path / "result.tif"))
        (again,) = viewer.open(path, plugin="napari")
    np.testing.assert_array_equal(again.data, result.data)


def test_an_older_model_gives_no_std_in_the_direct_pass(viewer, dock, direct, untrained, monkeypatch, make_noisy):
    assert dock.direct_form["direct_std"].enabled
    older = copy.copy(untrained)
    older.model = copy.deepcopy(untrained.model)
    direct_only = older.model.config.direct.model_copy(update={"std": False})
    older.model.config = older.model.config.model_copy(update={"direct": direct_only})
    MODELS.add("older", older)
    assert not dock.direct_form["direct_std"].enabled
    viewer.add_image(make_noisy(), name="cells")
    direct()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells direct"]
