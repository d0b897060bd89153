"""What napari takes by itself, without this package, for layers that come and go: time and memory.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/napari_layers.py [ROUNDS] [LAYERS]

Each round adds so many images of 4 x 128 x 128 pixels, one in each turn of the event loop, shows their names in a grid,
and deletes them one by one. Prints as JSON the median milliseconds of the main thread's processor time to add, to draw
and to remove a layer, and the kilobytes of memory that stay of a layer, the first rounds left out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
from collections import defaultdict

os.environ["NAPARI_CONFIG"] = ""

import napari
import numpy as np
import psutil
from qtpy.QtTest import QTest

WARM_UP = 4  # rounds before memory is measured: shaders are compiled, and caches fill
LAST_NAMES = 150  # milliseconds to wait after names are hidden: napari 0.9.2 can crash if their layer goes before


class Round:
    """Layers that come and go in a viewer; `milliseconds` says how long each step took."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.milliseconds: defaultdict[str, list[float]] = defaultdict(list)
        self._image = np.random.default_rng(0).random((4, 128, 128)).astype(np.float32)

    def go(self, layers: int) -> None:
        for number in range(layers):
            start = time.thread_time()
            layer = self.viewer.add_image(self._image.copy(), name=f"image {number}")
            self._took("add", start)
            layer.name_overlay.visible = True
            self._draw("draw an added one")
        grid = getattr(self.viewer, "canvas", self.viewer).grid
        grid.enabled = True
        self._draw("show the grid")
        grid.enabled = False
        for layer in self.viewer.layers:
            layer.name_overlay.visible = False
        QTest.qWait(LAST_NAMES)
        while self.viewer.layers:
            start = time.thread_time()
            self.viewer.layers.pop()
            self._took("remove", start)
            self._draw("draw without it")

    def _draw(self, what: str) -> None:
        start = time.thread_time()
        QTest.qWait(30)
        self._took(what, start)

    def _took(self, what: str, start: float) -> None:
        self.milliseconds[what].append(1e3 * (time.thread_time() - start))


def megabytes() -> float:
    """Resident memory after a collection of garbage, and after malloc has returned what it can."""
    for _ in range(3):
        gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return float(psutil.Process().memory_info().rss / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=14)
    parser.add_argument("layers", nargs="?", type=int, default=5)
    args = parser.parse_args()
    viewer = napari.Viewer()
    each = Round(viewer)
    memory = []
    for _ in range(args.rounds):
        each.go(args.layers)
        memory.append(megabytes())
    kept = (memory[-1] - memory[WARM_UP]) / (len(memory) - 1 - WARM_UP) / args.layers
    report = {
        "napari": napari.__version__,
        "milliseconds": {what: round(float(np.median(values)), 1) for what, values in each.milliseconds.items()},
        "kilobytes_that_stay_of_a_layer": round(1e3 * kept, 1),
        "megabytes_after_rounds": [round(value, 1) for value in memory],
    }
    print(json.dumps(report, indent=1), flush=True)
    viewer.close()


if __name__ == "__main__":
    main()
