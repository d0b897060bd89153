"""Drive napari as a person would, and take a picture of each dock in each state: writes docs/images/*.png.

xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [MINUTES] [--theme light]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp()  # leave the settings and data of the user alone
os.environ["NAPARI_CONFIG"] = str(Path(os.environ["XDG_DATA_HOME"]) / "settings.yaml")

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-direct-denoiser"
IMAGES = Path(__file__).parent / "images"
SAMPLE = "Simulated filaments"


def wait(until: Callable[[], bool], seconds: float) -> None:
    """Run the event loop until a condition holds."""
    for _ in range(round(20 * seconds)):
        if until():
            return
        QTest.qWait(50)
    raise SystemExit(f"Nothing happened in {seconds} s")


class Studio:
    """A viewer whose docks are tabs, and a camera."""

    def __init__(self, theme: str) -> None:
        self.viewer = napari.Viewer(show=False)
        self.viewer.theme = theme
        self.viewer.show()
        self.viewer.window.set_geometry(0, 0, 1280, 800)
        self.suffix = "" if theme == "dark" else f"-{theme}"

    def open(self, name: str) -> Any:
        """Open a dock, in front of those that are open."""
        dock, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        QTest.qWait(100)
        dock.raise_()
        return widget

    def dismiss(self) -> None:
        """Close the notifications."""
        for widget in QApplication.allWidgets():
            if type(widget).__name__ == "NapariQtNotification":
                widget.close()

    def photograph(self, name: str) -> None:
        """Save the whole window, in few colours, the rare ones of the plots among them."""
        QTest.qWait(800)
        IMAGES.mkdir(exist_ok=True)
        pixels = self.viewer.window.screenshot(canvas_only=False, flash=False)
        few = Image.fromarray(pixels[..., :3]).quantize(128, Image.Quantize.MAXCOVERAGE)
        few.save(IMAGES / f"{name}{self.suffix}.png", optimize=True)


def train(studio: Studio, minutes: float) -> None:
    """Idle without an image, refusing a colour image, noise measured, running, done."""
    dock = studio.open("Train")
    studio.photograph("train-idle")
    patches = np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)
    colour = studio.viewer.add_image(np.kron(patches, np.ones((64, 64, 1), np.uint8)), name="photo")
    studio.photograph("train-refusing")
    studio.viewer.layers.remove(colour)
    studio.viewer.open_sample(PLUGIN, "simulated-filaments")
    studio.viewer.layers.selection.active = studio.viewer.layers[SAMPLE]
    studio.viewer.reset_view()
    dock.noise_title.expand(animate=False)
    dock.noise.look_button.click()
    wait(lambda: not dock.job.running, 120)
    studio.photograph("train-noise")
    dock.noise_title.collapse(animate=False)
    dock.form["max_minutes"].value = minutes
    dock.train_button.click()
    wait(lambda: dock.progress.maximum() > 0 and dock.progress.value() > 600, 60 * minutes + 120)
    studio.photograph("train-running")
    wait(lambda: not dock.job.running, 60 * minutes + 120)
    studio.photograph("train-done")


def denoise(studio: Studio) -> None:
    """Idle, running, done with several outputs of one run, and refusing an image."""
    dock = studio.open("Denoise")
    studio.photograph("denoise-idle")
    dock.direct_button.click()
    wait(lambda: not dock.job.running, 120)
    studio.viewer.layers.selection.active = studio.viewer.layers[SAMPLE]
    dock.form["std"].value = True
    dock.sample_button.click()
    wait(lambda: dock.progress.maximum() > 0 and dock.progress.value() > 300, 120)
    studio.photograph("denoise-running")
    wait(lambda: not dock.job.running, 300)
    studio.photograph("denoise-done")
    flat = studio.viewer.add_image(np.full((64, 64), np.nan, np.float32), name="nothing")
    dock.direct_button.click()
    wait(lambda: not dock.job.running, 60)
    studio.photograph("denoise-refusing")
    studio.dismiss()
    studio.viewer.layers.remove(flat)


def compare(studio: Studio) -> None:
    """HDN and direct beside each other, alternatives, side by side and a wipe, the table, a line profile."""
    dock = studio.open("Compare")
    layers = studio.viewer.layers
    dock.layer_choice.setCurrentText(SAMPLE)
    dock.truth_choice.setCurrentText("none")
    studio.photograph("compare-idle")
    dock.against.run_button.click()
    wait(lambda: dock.comparison is not None and bool(dock.comparison.made), 120)
    wait(lambda: dock.progress.value() > 100, 120)
    studio.photograph("compare-running")
    wait(lambda: not dock.job.running, 600)
    studio.photograph("compare-against")
    dock.against.disagreement.setChecked(True)
    studio.photograph("compare-disagreement")
    dock.against.leave_button.click()
    studio.viewer.scene.camera.zoom *= 3
    dock.against.alternatives_button.click()
    wait(lambda: not dock.job.running, 600)
    studio.photograph("compare-alternatives")
    dock.against.leave_button.click()
    studio.viewer.reset_view()
    dock.tabs.setCurrentWidget(dock.measure)
    dock.measure.measure_button.click()
    wait(lambda: not dock.job.running, 300)
    studio.photograph("compare-table")
    dock.truth_choice.setCurrentText(f"{SAMPLE} truth")
    dock.tabs.setCurrentWidget(dock.look)
    for name in ("side", "wipe"):
        dock.look.buttons[name].click()
        QTest.qWait(500)
        studio.photograph(f"compare-{name}")
        dock.look.buttons[name].click()
    dock.look.buttons["profile"].click()
    middle = layers[SAMPLE].data.shape[-2] // 2
    layers["Profile line"].add_lines(np.array([[middle, 60], [middle + 8, 140]]))
    wait(lambda: bool(dock.look.plot.item.listDataItems()), 20)
    studio.photograph("compare-profile")
    dock.look.close_view()
    layers.selection.clear()


def main(minutes: float, theme: str) -> None:
    """Go through the docks one after the other, with one model."""
    studio = Studio(theme)
    train(studio, minutes)
    denoise(studio)
    compare(studio)
    QTimer.singleShot(0, studio.viewer.close)
    QApplication.processEvents()


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--theme"]
    theme = words.pop() if "--theme" in sys.argv else "dark"
    main(float(words[0]) if words else 1.0, theme)
