"""Drive napari as a person would, and photograph both docks: writes docs/images/train.png and denoise.png.

xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [MINUTES]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")  # leave the person's settings alone

import napari
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-direct-denoiser"
IMAGES = Path(__file__).parent / "images"


def wait(until: Callable[[], bool], seconds: float) -> None:
    """Let napari live until something is so."""
    for _ in range(round(20 * seconds)):
        if until():
            return
        QTest.qWait(50)
    raise SystemExit(f"nothing happened in {seconds} s")


def photograph(viewer: napari.Viewer, name: str) -> None:
    """Save the whole window."""
    QTest.qWait(1000)
    IMAGES.mkdir(exist_ok=True)
    viewer.window.screenshot(str(IMAGES / name), canvas_only=False, flash=False)


def main(minutes: float) -> None:
    """Open the sample, train, denoise both ways."""
    viewer = napari.Viewer(show=False)
    viewer.show()
    viewer.window.set_geometry(0, 0, 1280, 800)
    viewer.open_sample(PLUGIN, "simulated-filaments")
    train_dock_widget, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    viewer.reset_view()
    train.form["max_minutes"].value = minutes
    train.train_button.click()
    wait(lambda: train.progress.maximum() > 0 and train.progress.value() > 600, 60 * minutes + 60)
    photograph(viewer, "train.png")
    wait(lambda: not train.job.running, 60 * minutes + 60)
    photograph(viewer, "train-done.png")

    train_dock_widget.setVisible(False)
    _, denoise = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")
    denoise.direct_button.click()
    wait(lambda: not denoise.job.running, 60)
    viewer.layers.selection.active = viewer.layers["Simulated filaments"]
    denoise.sample_button.click()
    wait(lambda: denoise.progress.value() > 300, 60)
    photograph(viewer, "denoise-running.png")
    wait(lambda: not denoise.job.running, 300)
    viewer.layers["Simulated filaments truth"].visible = False
    viewer.canvas.grid.shape = (1, 3)
    viewer.canvas.grid.enabled = True
    viewer.reset_view()
    photograph(viewer, "denoise.png")
    QTimer.singleShot(0, viewer.close)
    QApplication.processEvents()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
