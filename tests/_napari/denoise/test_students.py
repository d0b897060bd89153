"""The dock offers the students of a model that has several, and names results by the chosen one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari.denoise.widget import DenoiseWidget
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.training.students import Student

SETTINGS = TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu")


@pytest.fixture
def several(untrained, make_noisy):
    """A model with the students mean and median, whose predictions differ by a number of counts."""

    def student(loss: str, shift: float) -> Denoiser:
        made = Denoiser.for_images(make_noisy(), SETTINGS.model_copy(update={"loss": loss}))
        *_, last = made.model.unet.head[1].parameters()
        last.data += shift
        return made

    mean, median = student("l2", 0.0), student("l1", 1.0)
    return Denoiser(median.model, median.provenance, others=[Student.of(mean.model, mean.provenance)])


def test_the_students_of_a_model_are_offered(viewer, dock, several, denoiser, direct, make_noisy):
    assert not dock.where.isRowVisible(dock.student_choice)  # the model has one
    noisy = viewer.add_image(make_noisy(), name="cells")
    dock.direct_form["direct_std"].value = False
    direct()
    assert viewer.layers["cells direct"].metadata["napari_direct_denoiser"]["student"] is None

    MODELS.add("several", several)
    assert dock.where.isRowVisible(dock.student_choice)
    assert [dock.student_choice.itemText(i) for i in range(dock.student_choice.count())] == ["median", "mean"]
    direct()
    dock.student_choice.setCurrentText("mean")
    direct()
    dock.direct_form["direct_std"].value = True
    direct()
    for name in ("median", "mean"):
        result = viewer.layers[f"cells direct {name}"]
        np.testing.assert_array_equal(result.data, several.student(name).denoise(noisy.data))
        facts = result.metadata["napari_direct_denoiser"]
        assert (facts["student"], facts["training"]["students"][0]) == (name, name)
        learned = {"median": "learned the pixel-wise median", "mean": "learned the mean"}[name]
        assert learned in facts["methods"]
    np.testing.assert_array_equal(viewer.layers["cells std mean"].data, several.student("mean").std(noisy.data))
    assert (viewer.layers["cells direct mean"].data != viewer.layers["cells direct median"].data).any()
    dock.methods_button.click()
    dock.model_choice.setCurrentIndex(1)
    assert not dock.where.isRowVisible(dock.student_choice)
    assert dock.model.denoiser is denoiser


def test_samples_are_those_of_the_teacher_whatever_the_student(viewer, dock, several, sample, make_noisy):
    noisy = viewer.add_image(make_noisy(), name="cells")
    MODELS.add("several", several)
    dock.student_choice.setCurrentText("mean")
    sample(samples=2, std=False)
    found = viewer.layers["cells HDN mean (N=2)"].data
    np.testing.assert_allclose(found, several.posterior_mean(noisy.data, 2), atol=1e-3)


def test_results_of_students_go_to_zarr_folders_of_their_own(viewer, dock, several, direct, folder, make_noisy):
    viewer.add_image(make_noisy(), name="cells")
    MODELS.add("several", several)
    dock.where["result"].value = "zarr folder"
    dock.direct_form["direct_std"].value = False
    for name in several.students:
        dock.student_choice.setCurrentText(name)
        direct()
    assert {path.name for path in folder.iterdir()} == {"cells direct median.zarr", "cells direct mean.zarr"}


def test_the_dock_does_not_compute_with_another_model_after_it_is_closed(light_viewer, several, qtbot):
    dock = DenoiseWidget(light_viewer)
    qtbot.addWidget(dock)
    MODELS.add("several", several)
    assert isinstance(dock.model.denoiser.model, CoModel)
    dock.close_down()
    assert dock.model is None
