"""What a training will take, in words."""

from __future__ import annotations

import pytest

from napari_direct_denoiser._napari.shared import session
from napari_direct_denoiser._napari.train.estimate_words import estimate_words
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.presets import PRESETS

pytestmark = pytest.mark.gui
SHAPES = [(4, 64, 64)]


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    found: dict[str, float] = {}
    monkeypatch.setattr("napari_direct_denoiser._napari.train.estimate_words.SECONDS_PER_STEP", found)
    assert session.SECONDS_PER_STEP is not found
    return found


def test_a_gpu_takes_no_longer_than_a_cpu(measured):
    on_gpu = TrainSettings(device="cuda")
    assert estimate_words(SHAPES, TrainSettings(device="cpu")) == "About 5 min, 0.4 GB of memory."
    assert estimate_words(SHAPES, on_gpu) == "At most 5 min, 0.4 GB of memory."
    steps = PRESETS["quick"].schedule.max_steps
    measured["quick"] = 120 / steps
    assert estimate_words(SHAPES, on_gpu) == "About 2 min on this GPU, 0.4 GB of memory."


def test_a_time_that_only_a_trial_can_tell_is_not_promised(measured):
    paper = TrainSettings(device="cuda", preset="paper")
    assert estimate_words(SHAPES, paper).startswith("The time is known after the first training")
    measured["paper"] = 0.34
    assert estimate_words(SHAPES, paper).startswith("About 19 h on this GPU")
