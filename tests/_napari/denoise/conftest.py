"""A model, the dock and helpers for the tests of the Denoise dock."""

from __future__ import annotations

import time

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QFileDialog

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari.denoise.widget import DenoiseWidget
from napari_direct_denoiser._napari.shared.session import MODELS

SETTINGS = TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu")


@pytest.fixture(scope="module")
def make_noisy():
    """Make a noisy image of a shape."""

    def make(shape=(3, 64, 64), seed=0):
        rng = np.random.default_rng(seed)
        return (100 + 2 * rng.poisson(20, shape) + rng.normal(0, 3, shape)).astype(np.float32)

    return make


@pytest.fixture(scope="module")
def untrained(make_noisy):
    """A model that has not been trained."""
    return Denoiser.for_images(make_noisy(), SETTINGS)


@pytest.fixture
def denoiser(untrained):
    """That model, the only one of the session."""
    return MODELS.add("a model", untrained).denoiser


@pytest.fixture
def plus_one(denoiser, monkeypatch):
    """The model with a direct pass that adds one, of standard deviation two, and that is slow enough to be stopped."""

    def direct(noisy):
        time.sleep(0.01)
        return noisy + 1

    monkeypatch.setattr(denoiser.model, "direct", direct)
    monkeypatch.setattr(denoiser.model, "direct_with_std", lambda noisy: (direct(noisy), 0 * noisy + 2))
    return denoiser


@pytest.fixture
def viewer(viewer_as_marked):
    return viewer_as_marked


@pytest.fixture
def dock(open_as_marked):
    notification_manager.records.clear()
    return open_as_marked("Denoise", DenoiseWidget)


@pytest.fixture
def direct(dock, finish):
    """Press the main button, and give the last words of the run."""

    def run() -> str:
        dock.direct_button.click()
        return finish(dock)

    return run


@pytest.fixture
def sample(dock, finish):
    """Set controls of the form, draw the samples, and give the last words of the run."""

    def run(**values) -> str:
        for name, value in values.items():
            dock.form[name].value = value
        dock.sample_button.click()
        return finish(dock)

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the person chooses for zarr folders."""
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    return tmp_path


@pytest.fixture
def notes():
    """Give the notifications of a severity, without those of the tests before."""
    notification_manager.records.clear()
    return lambda severity: [note.message for note in notification_manager.records if str(note.severity) == severity]


@pytest.fixture
def shown():
    """Give the pixels of a layer that napari has on screen."""
    return lambda layer: layer.__wrapped__._data_view


@pytest.fixture
def assert_lies_over():
    """Assert that a result and the noisy layer have the same corners in the world, and the same units."""

    def check(result, noisy, leading=0):
        assert result.data.shape[leading:] == noisy.data.shape
        for corner in (np.zeros(noisy.ndim), np.array(noisy.data.shape) - 1, np.eye(noisy.ndim)[0]):
            there = result.data_to_world([0] * leading + list(corner))[leading:]
            np.testing.assert_allclose(there, noisy.data_to_world(corner), atol=1e-9)
        assert result.units[leading:] == noisy.units

    return check
