"""Measure how long napari's main thread is held up while the Train dock trains.

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/responsiveness.py [SECONDS]

A timer asks for a tick every 5 ms. Prints the percentiles of the time between two ticks, in
milliseconds, at rest and while training, as JSON. Loading PyTorch, once a session, is given apart.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ["NAPARI_CONFIG"] = ""

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

PLUGIN = "napari-direct-denoiser"


class Ticks:
    """The times at which the event loop was free."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(lambda: self.times.append(time.perf_counter()))
        self.timer.start(5)

    def gaps(self, start: float) -> dict[str, float]:
        gaps = 1000 * np.diff([t for t in self.times if t >= start])
        return {f"p{p}": round(float(np.percentile(gaps, p)), 1) for p in (50, 95, 99, 100)} | {"ticks": gaps.size}


def look_through(viewer: napari.Viewer, until: Callable[[], bool]) -> None:
    """Move the slider, as a person does, until something is so."""
    while not until():
        viewer.dims.set_current_step(0, int(4 * time.perf_counter()) % 8)
        QTest.qWait(50)


def main(seconds: float) -> None:
    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "simulated-filaments")
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    QTest.qWait(2000)
    records: list[object] = []
    dock.job.updated.connect(lambda update: records.append(getattr(update, "record", None)))
    ticks, report = Ticks(), {}

    def measure(what: str, until: Callable[[float], bool]) -> None:
        start = time.perf_counter()
        look_through(viewer, lambda: until(time.perf_counter() - start))
        report[what] = ticks.gaps(start)

    measure("rest", lambda elapsed: elapsed > 5)
    dock.form["max_minutes"].value = 1 + seconds / 60
    dock.train_button.click()
    measure("loading", lambda _: not dock.job.running or any(records))
    measure("training", lambda elapsed: not dock.job.running or elapsed > seconds)
    report["steps"] = max((record.step for record in records if record), default=0)
    dock.job.shutdown()
    viewer.close()
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=30.0, help="of training")
    main(parser.parse_args().seconds)
