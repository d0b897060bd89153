from __future__ import annotations

import pytest

from napari_direct_denoiser import TrainSettings
from napari_direct_denoiser.training.estimate import estimate

SMALL = [(8, 256, 256)]


@pytest.mark.parametrize(
    ("settings", "on_gpu", "minutes"),
    [
        ({}, False, 5),
        ({}, True, 5),
        ({"preset": "balanced"}, True, 30),
        ({"preset": "quick"}, True, 5),
        ({"max_minutes": 2}, False, 2),
        ({"max_minutes": 2, "max_steps": 10}, False, 0.5),
        ({"max_steps": 200}, False, 10),
        ({"preset": "paper"}, False, 10_000),
    ],
)
def test_minutes_are_the_nearest_limit(settings, on_gpu, minutes):
    found = estimate(SMALL, TrainSettings(**settings), on_gpu=on_gpu, seconds_per_step=3.0)
    assert found.minutes == pytest.approx(minutes)


def test_a_faster_machine_is_done_sooner_with_as_many_steps():
    slow, fast = (estimate(SMALL, TrainSettings(), on_gpu=True, seconds_per_step=s).minutes for s in (0.1, 0.004))
    assert slow == pytest.approx(5)
    assert fast == pytest.approx(0.57, abs=0.01)


def test_steps_take_nobody_knows_how_long_on_an_unknown_gpu():
    assert estimate(SMALL, TrainSettings(preset="paper"), on_gpu=True).minutes is None
    assert estimate(SMALL, TrainSettings(preset="paper"), on_gpu=False).minutes > 24 * 60


def test_memory_grows_with_networks_and_images():
    quick, paper = (
        estimate(SMALL, TrainSettings(preset=preset), on_gpu=False).memory_bytes for preset in ("quick", "paper")
    )
    assert 0.3e9 < quick < 0.6e9 < paper
    large = estimate([*SMALL, (200, 1024, 1024)], TrainSettings(preset="quick"), on_gpu=False).memory_bytes
    assert large - quick > 0.9 * 4 * 200 * 1024**2  # the image, as float32
