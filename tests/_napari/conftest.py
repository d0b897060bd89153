"""Fixtures of the docks: a viewer with the plugin in it, and a stand-in for the engine to break at will."""

from __future__ import annotations

import os

os.environ["NAPARI_CONFIG"] = ""  # read when napari is imported: the tests write no settings

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import napari_direct_denoiser._napari as docks
from napari_direct_denoiser._napari import workers
from napari_direct_denoiser._napari.session import MODELS
from napari_direct_denoiser.errors import ImageError

PLUGIN = "napari-direct-denoiser"


class StandIn:
    """A denoiser that trains for `steps` steps of 20 ms, and denoises by adding one."""

    def __init__(self, steps: int = 20, error: Exception | None = None, error_at: int = 0) -> None:
        self.steps, self.error, self.error_at = steps, error, error_at
        self.threads: set[str] = set()
        self.closed = False

    def train_steps(self) -> Iterator[Any]:
        try:
            for step in range(1, self.steps + 1):
                self.threads.add(threading.current_thread().name)
                if self.error is not None and step > self.error_at:
                    raise self.error
                time.sleep(0.02)
                yield SimpleNamespace(
                    step=step,
                    total_steps=self.steps,
                    fraction=step / self.steps,
                    elapsed_seconds=0.02 * step,
                    remaining_seconds=0.02 * (self.steps - step),
                    elbo=1 / step,
                    direct_loss=2 / step,
                    validation_elbo=None,
                    validation_direct_loss=None,
                    stopped="finished" if step == self.steps else None,
                )
        finally:
            self.closed = True

    def denoise_steps(self, image, outputs, *, samples, seed, axes=None):
        if self.error is not None:
            raise self.error
        if not np.isfinite(image).all():
            raise ImageError("Expected finite numbers, found 1 NaN")
        for done in range(1, self.steps + 1):
            time.sleep(0.02)
            yield SimpleNamespace(done=done, total=self.steps, elapsed_seconds=0.0, remaining_seconds=1.0)
        return {output: image.astype(np.float32) + 1 for output in outputs}

    def summary(self) -> dict[str, Any]:
        return {"preset": "quick"}


@pytest.fixture(autouse=True)
def no_models() -> Iterator[None]:
    MODELS.clear()
    yield
    MODELS.clear()


@pytest.fixture
def engine(monkeypatch) -> Callable[..., StandIn]:
    """Put a stand-in in the place of the engine; call it again for another."""

    def use(**keywords: Any) -> StandIn:
        stand_in = StandIn(**keywords)
        monkeypatch.setattr(workers, "make_denoiser", lambda *_: stand_in)
        return stand_in

    return use


@pytest.fixture
def viewer(make_napari_viewer_proxy, npe2pm):
    """A viewer in which this plugin, and no other, is installed."""
    with npe2pm.tmp_plugin(manifest=str(Path(docks.__file__).parents[1] / "napari.yaml")):
        yield make_napari_viewer_proxy()


@pytest.fixture
def train_dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]


@pytest.fixture
def denoise_dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")[1]


@pytest.fixture
def finish(qtbot):
    """Wait until the run of a dock has ended, and give its last words."""

    def wait(dock, timeout: int = 60_000) -> str:
        qtbot.waitUntil(lambda: not dock.job.running, timeout=timeout)
        return dock.status.text()

    return wait
