"""Fixtures of the Train dock's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from stand_in import StandIn, noisy_image

from napari_direct_denoiser._napari.shared import workers
from napari_direct_denoiser._napari.train import preview, runs
from napari_direct_denoiser._napari.train.widget import TrainWidget
from napari_direct_denoiser.denoiser import Denoiser


@pytest.fixture
def engine(monkeypatch) -> Iterator[Callable[..., StandIn]]:
    """Put a stand-in in the place of the engine; call it again for another."""

    made = []

    def use(**keywords: Any) -> StandIn:
        stand_in = StandIn(**keywords)
        made.append(stand_in)

        def make(*given: Any) -> Denoiser:
            stand_in.given = given
            return stand_in.denoiser

        monkeypatch.setattr(workers, "make_denoiser", make)
        return stand_in

    yield use
    for stand_in in made:
        stand_in.held.clear()  # or its thread would keep the tests from ending


@pytest.fixture(autouse=True)
def no_notifications():
    notification_manager.records.clear()


@pytest.fixture
def dock(train_dock):
    return train_dock


@pytest.fixture
def light_dock(in_light_viewer) -> TrainWidget:
    """The Train dock of a viewer without a window."""
    return in_light_viewer(TrainWidget)


@pytest.fixture
def running(dock, engine, viewer, qtbot, rng, monkeypatch):
    """A training of a stand-in, under way on the layer cells, with frequent previews and words."""
    monkeypatch.setattr(runs, "SECONDS_OF_PACE", 0.1)
    monkeypatch.setattr(preview, "SECONDS_BETWEEN_PREVIEWS", 0.1)

    def start(**keywords: Any) -> StandIn:
        stand_in = engine(steps=10_000, **keywords)
        viewer.add_image(noisy_image(rng, (4, 64, 64)), name="cells", scale=(1, 2, 2), translate=(3, 4, 5), rotate=20)
        dock.train_button.click()
        qtbot.waitUntil(lambda: dock.progress.value() > 0 and dock.models.training is not None)
        return stand_in

    return start
