"""The demo on a simulated stack with known truth: train, denoise both ways, compare."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainSettings
from .data.files import check_folder, replacing
from .data.io import write_image
from .data.synthetic import SyntheticStack, simulate
from .evaluation.metrics import evaluate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .progress import Progress, TrainingProgress

SAMPLES = 50
"""Posterior samples in the mean that the direct pass is compared with."""
SETTINGS = TrainSettings(preset="quick", max_minutes=1)
IMAGES = {"noisy": "noisy", "hdn_mean": f"HDN mean (N={SAMPLES})", "direct": "direct"}
"""File names and what they show, from left to right."""
MODEL, TABLE, PICTURE = "model.safetensors", "demo.csv", "demo.png"

Report = Callable[[str, "TrainingProgress | Progress"], None]


@dataclass(frozen=True)
class Row:
    """One line of the demo's table."""

    method: str
    psnr: float
    """dB, mean over planes, each against the range of its own truth."""
    seconds: float | None
    """Time it took to denoise the stack; None for the noisy stack itself."""


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Results of the demo: images (T, Y, X) by what they show, from left to right, and the table."""

    images: dict[str, NDArray[np.floating[Any]]]
    rows: list[Row]


def run_demo(
    folder: str | Path,
    report: Report,
    *,
    stack: SyntheticStack | None = None,
    settings: TrainSettings = SETTINGS,
) -> DemoResult:
    """Train on a simulated stack, denoise it and write everything to `folder`.

    Parameters
    ----------
    folder
        Folder for ``model.safetensors``, three TIFFs and ``demo.csv``; made if missing.
    report
        Called with the name of the work and its progress.
    stack
        The simulated stack; eight planes of 256 x 256 pixels if not given.
    settings
        How to train.

    Raises
    ------
    DenoiserError
        If the folder cannot be written to, or training fails.
    """
    from .denoiser import Denoiser
    from .prediction.tiling import Output
    from .progress import drain

    folder = Path(folder)
    check_folder(folder, create=True)
    stack = stack or simulate()
    denoiser = Denoiser.for_images([stack.noisy], settings)
    folder.mkdir(exist_ok=True)
    for progress in denoiser.train_steps():
        report("training", progress)
    denoiser.save(folder / MODEL)

    images: dict[str, NDArray[Any]] = {"noisy": stack.noisy}
    rows = [Row("noisy", evaluate(stack.noisy, stack.truth).psnr, None)]
    outputs: dict[str, Output] = {"hdn_mean": "mean", "direct": "direct"}
    for name, output in outputs.items():
        steps = denoiser.denoise_steps(stack.noisy, [output], samples=SAMPLES, seed=settings.seed)
        began = time.perf_counter()
        images[name] = drain(steps, partial(report, IMAGES[name]))[output]
        seconds = time.perf_counter() - began
        rows.append(Row(IMAGES[name], evaluate(images[name], stack.truth).psnr, seconds))
    for name, image in images.items():
        write_image(folder / f"{name}.tif", image)
    _write_table(folder / TABLE, rows)
    return DemoResult({IMAGES[name]: image for name, image in images.items()}, rows)


def take_picture(folder: str | Path) -> str | None:
    """Open the images in `folder` in napari and write a PNG of the window there; see `open_window`."""
    return _in_viewer(folder, "--picture")


def open_window(folder: str | Path) -> str | None:
    """Open the images in `folder` in napari, and wait until the window is closed.

    napari runs in a process of its own: Qt ends its process if it finds no screen or no OpenGL.

    Returns
    -------
    str or None
        Why there was no window, if there was none.
    """
    return _in_viewer(folder)


def _in_viewer(folder: str | Path, *options: str) -> str | None:
    if not has_screen():
        return "there is no screen; run it under xvfb-run"
    if find_spec("napari") is None:
        return "napari is not installed; pip install 'napari-direct-denoiser[all]' brings it"
    command = [sys.executable, "-m", f"{__package__}._napari.demo_view", *options, str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    return f"the napari window could not be opened ({words[-1].strip()})"


def has_screen() -> bool:
    """Whether a window can be shown; only Linux may have no screen."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _write_table(path: Path, rows: list[Row]) -> None:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["method", "psnr_db", "seconds"])
    for row in rows:
        table.writerow([row.method, f"{row.psnr:.2f}", "" if row.seconds is None else f"{row.seconds:.3f}"])
    with replacing(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
