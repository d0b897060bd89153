"""Measure how long napari's main thread is held up while a comparison is opened, shown and left.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/comparing.py [ROUNDS]

Each round compares HDN with the direct pass on one plane of 128 x 128 pixels, with small networks of random weights,
and leaves the comparison. Prints as JSON, for the opening and for the leaving, the medians over the rounds after the
first: the longest turns of the event loop, drawing included, and the sum of all that take over 20 ms. The clock is the
processor time of the main thread, so that other programs count less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["NAPARI_CONFIG"] = ""

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.presets import PRESETS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from small import QUICK  # networks of random weights

PLUGIN = "napari-direct-denoiser"
LONG = 20.0  # milliseconds
LISTED = 4  # of the longest events


class Events:
    """Milliseconds of processor time between two turns of the event loop."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self._last = time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._turn)
        self._timer.start(0)

    def _turn(self) -> None:
        now = time.thread_time()
        self.milliseconds.append(1e3 * (now - self._last))
        self._last = now

    def taken(self) -> list[float]:
        """Those since the last call that are long, the longest first."""
        found, self.milliseconds = self.milliseconds, []
        return sorted((each for each in found if each > LONG), reverse=True)


def wait(until: Callable[[], bool]) -> None:
    while not until():
        QTest.qWait(5)
    QTest.qWait(400)  # names are hidden, and all is drawn


def medians(rounds: list[list[float]]) -> dict[str, Any]:
    padded = [[*each, *[0.0] * LISTED][:LISTED] for each in rounds]
    return {
        "longest_ms": np.median(padded, axis=0).round().tolist(),
        "in_all_ms": round(float(np.median([sum(each) for each in rounds]))),
    }


def main(rounds: int) -> None:
    PRESETS["quick"] = QUICK
    viewer = napari.Viewer()
    stack = np.random.default_rng(0).poisson(100, (4, 128, 128)).astype(np.float32)
    viewer.add_image(stack, name="cells")
    MODELS.add(
        "a model", Denoiser.for_images(stack, TrainSettings(noise="poisson:1,0,3", preset="quick", device="cpu"))
    )
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Compare")
    QTest.qWait(1000)
    events = Events()
    found: dict[str, list[list[float]]] = {"opened": [], "left": []}
    for _ in range(1 + rounds):
        events.taken()
        dock.against.run_button.click()
        wait(lambda: not dock.job.running)
        found["opened"].append(events.taken())
        dock.against.leave_button.click()
        wait(lambda: len(viewer.layers) == 1 and not dock.job.running)
        found["left"].append(events.taken())
    viewer.close()
    print(json.dumps({name: medians(each[1:]) for name, each in found.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    main(parser.parse_args().rounds)
