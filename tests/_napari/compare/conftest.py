"""Images, layers and a model for the tests of the Compare dock."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari.compare.widget import CompareWidget
from napari_direct_denoiser._napari.shared.session import MODELS

SIGMA = 4.0


@pytest.fixture
def viewer(viewer_as_marked):
    return viewer_as_marked


@pytest.fixture
def compare_dock(open_as_marked):
    notification_manager.records.clear()
    return open_as_marked("Compare", CompareWidget)


@pytest.fixture
def errors_shown():
    """Give the errors of which the person was notified."""
    return lambda: [note.message for note in notification_manager.records if note.severity == "error"]


@pytest.fixture
def check(compare_dock):
    """Check or uncheck a layer in the list of results."""

    def set_state(layer, checked: bool) -> None:
        (item,) = compare_dock.results.findItems(layer.name, Qt.MatchFlag.MatchExactly)
        item.setCheckState(Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)

    return set_state


@pytest.fixture
def truth(rng):
    levels = 50 + 20 * rng.normal(size=(3, 1, 1))
    return (levels + np.linspace(0, 30, 24)[:, None] + np.linspace(0, 50, 32)).astype("f4")


@pytest.fixture
def noisy(truth, rng):
    return (truth + rng.normal(0, SIGMA, truth.shape)).astype("f4")


@pytest.fixture
def result_of():
    """Make the metadata that the Denoise dock gives its results."""

    def metadata(source, method="direct", samples=None, seconds=0.5):
        facts = {"source": source, "model": "a model", "method": method, "samples": samples, "seconds": seconds}
        return {"napari_direct_denoiser": facts}

    return metadata


@pytest.fixture
def layers(viewer, truth, noisy, result_of):
    """The truth, the noisy image, and two results of it, with the same geometry."""
    common = {"scale": (1, 0.5, 0.5), "axis_labels": ("t", "y", "x"), "contrast_limits": (0, 150)}
    return (
        viewer.add_image(truth, name="cells truth", **common),
        viewer.add_image(noisy, name="cells", **common),
        viewer.add_image(truth + 1, name="cells direct", metadata=result_of("cells"), **common),
        viewer.add_image(
            truth - 1, name="cells mean", metadata=result_of("cells", "mean", 10, 5.0), visible=False, **common
        ),
    )


@pytest.fixture(scope="module")
def untrained():
    """A model of Gaussian noise that has not been trained."""
    image = np.random.default_rng(0).normal(100, 20, (2, 64, 64)).astype(np.float32)
    return Denoiser.for_images(image, TrainSettings(noise=f"gaussian:{SIGMA}", preset="quick", device="cpu"))


@pytest.fixture
def plus_one(untrained, monkeypatch):
    """The only model of the session. Its direct pass and its samples are the noisy image plus one."""

    def sample(noisy, generators):
        return (noisy + 1).expand(len(generators), -1, -1, -1)

    monkeypatch.setattr(untrained.model, "direct", lambda noisy: noisy + 1)
    monkeypatch.setattr(untrained.model, "direct_with_std", lambda noisy: (noisy + 1, torch.full_like(noisy, 2)))
    monkeypatch.setattr(untrained.model, "encode", lambda noisy: noisy)
    monkeypatch.setattr(untrained.model, "sample", sample)
    MODELS.add("a model", untrained)
    return untrained


@pytest.fixture
def held(plus_one, monkeypatch):
    """Hold the samples of `plus_one` until this event is set."""
    release = threading.Event()

    def sample(noisy, generators):
        release.wait(20)
        return torch.zeros(len(generators), *noisy.shape[1:])

    monkeypatch.setattr(plus_one.model, "sample", sample)
    yield release
    release.set()
