"""The docks together, in the real viewer, with the real engine."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QFileDialog

PLUGIN = "napari-direct-denoiser"


def noisy_image(rng, shape=(2, 64, 64)):
    return rng.poisson(20, shape).astype(np.float32)


def errors_shown():
    return [note.message for note in notification_manager.records if note.severity == "error"]


@pytest.fixture(autouse=True)
def no_notifications():
    notification_manager.records.clear()


# The main job.


def test_main_path_from_the_sample_to_layers_that_overlay_exactly(viewer, train_dock, denoise_dock, finish):
    viewer.open_sample(PLUGIN, "simulated-filaments")
    sample = viewer.layers["Simulated filaments"]
    noisy = viewer.add_image(
        sample.data[:3, :128, :160],
        name="crop",
        scale=sample.scale,
        units=sample.units,
        axis_labels=sample.axis_labels,
        translate=(0, 3, 4),
        rotate=20,
        shear=(0.1, 0, 0.2),
        affine=np.diag([1, 1.5, 1, 1]),
        contrast_limits=(90, 150),
        colormap="green",
    )
    assert train_dock.layer_choice.currentText() == "crop"
    train_dock.advanced["max_steps"].value = 20
    train_dock.train_button.click()
    assert "20 steps" in finish(train_dock, 120_000)
    denoise_dock.form["samples"].value = 3
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    denoise_dock.layer_choice.setCurrentText("crop")
    denoise_dock.sample_button.click()
    finish(denoise_dock)
    for name, expected in (("crop direct", ("direct", None, None)), ("crop HDN mean (N=3)", ("mean", 3, 0))):
        result = viewer.layers[name]
        assert result.data.shape == noisy.data.shape
        assert result.data.dtype == np.float32
        assert abs(result.data.mean() - noisy.data.mean()) < 10  # image units
        for key in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(result, key), getattr(noisy, key))
        np.testing.assert_allclose(result.affine.affine_matrix, noisy.affine.affine_matrix)
        assert result.units == noisy.units
        assert result.axis_labels == noisy.axis_labels
        assert tuple(result.contrast_limits) == (90, 150)
        assert result.colormap.name == "green"
        provenance = result.metadata["napari_direct_denoiser"]
        assert provenance["source"] == "crop"
        assert provenance["model"] == "crop, quick, l2"
        assert (provenance["method"], provenance["samples"], provenance["seed"]) == expected
        assert provenance["seconds"] > 0
        assert provenance["training"]["steps"] == 20
    assert not errors_shown()


def test_saved_model_is_loaded_and_does_the_same(
    viewer, train_dock, denoise_dock, finish, qtbot, monkeypatch, tmp_path, rng
):
    viewer.add_image(noisy_image(rng), name="cells")
    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    assert not train_dock.models.save_button.isEnabled()
    train_dock.advanced["max_steps"].value = 2
    train_dock.train_button.click()
    finish(train_dock)
    train_dock.models.save_button.click()
    qtbot.waitUntil(lambda: "Saved" in train_dock.status.text())
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    denoise_dock.load_button.click()
    finish(denoise_dock)
    assert denoise_dock.model.name == "model"
    denoise_dock.layer_choice.setCurrentText("cells")
    denoise_dock.direct_button.click()
    finish(denoise_dock)
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, viewer.layers["cells direct [1]"].data)
