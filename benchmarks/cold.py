"""How long a person waits for the first of each thing, every time in a fresh process.

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/cold.py

- help: `direct-denoiser --help`, from start to end.
- dock: opening a dock in a napari that is there, until it is drawn.
- prediction: the first direct pass over 512x512 with a model from a file, which brings torch; and a second one.

Prints a table in Markdown: medians, and the slowest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

ROUNDS = 5
PLUGIN = "napari-direct-denoiser"
DOCKS = ("Train", "Denoise", "Compare")


def open_dock(name: str) -> None:
    """In a fresh process: print the seconds that a dock takes to open."""
    os.environ["NAPARI_CONFIG"] = ""
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "simulated-filaments")
    QApplication.processEvents()
    began = time.perf_counter()
    viewer.window.add_plugin_dock_widget(PLUGIN, name)
    QApplication.processEvents()
    print(time.perf_counter() - began)
    viewer.close()


def predict(path: str) -> None:
    """In a fresh process: print the seconds until the first prediction is there, and those of a second one."""
    import numpy as np

    image = np.random.default_rng(0).integers(100, 300, (512, 512), dtype=np.uint16)
    for _ in range(2):
        began = time.perf_counter()
        from napari_direct_denoiser import load

        model = load(path, "cpu")
        model.denoise(image)
        print(time.perf_counter() - began)


def fresh(*arguments: str) -> list[float]:
    """Run a part of this file in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    return [float(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def main() -> None:
    from napari_direct_denoiser import TrainSettings
    from napari_direct_denoiser.data.synthetic import simulate
    from napari_direct_denoiser.denoiser import Denoiser

    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        Denoiser.for_images(simulate(1, 128).noisy, TrainSettings(preset="quick", device="cpu")).save(path)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            program = Path(sys.executable).with_name("direct-denoiser")
            subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
            seconds["`direct-denoiser --help`"].append(time.perf_counter() - began)
            for dock in DOCKS:
                seconds[f"opening the {dock} dock"] += fresh("dock", dock)
            first, second = fresh("predict", str(path))
            seconds["first prediction from a file, 512x512, with loading torch"].append(first)
            seconds["second one, loading the file again"].append(second)
    print("| | median | slowest |\n|---|---|---|")
    for what, times in seconds.items():
        print(f"| {what} | {median(times):.2f} s | {max(times):.2f} s |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help="what this program runs in its own fresh processes")
    if part := parser.parse_args().part:
        {"dock": open_dock, "predict": predict}[part[0]](part[1])
    else:
        main()
