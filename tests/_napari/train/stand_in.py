"""A stand-in for the engine that is fast and does as told, and small helpers of the Train dock's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.data.files import replacing
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.progress import Progress, TrainingProgress
from napari_direct_denoiser.training.provenance import Provenance, Record

SECONDS_PER_STEP = 0.02
Gain = tuple[float | None, float | None, str | None]  # estimated, its error, and why there is none


def noisy_image(rng, shape=(2, 64, 64)):
    bright = 10 + 40 * np.linspace(0, 1, shape[-2])[:, None] ** 2
    return (100 + 2 * rng.poisson(bright * np.ones(shape)) + rng.normal(0, 3, shape)).astype(np.float32)


def check(layers, *names):
    """Check layers in a list, as a person does by clicks."""
    for name in names:
        layers.findItems(name, Qt.MatchFlag.MatchExactly)[0].setCheckState(Qt.CheckState.Checked)


def errors_shown():
    return [note.message for note in notification_manager.records if str(note.severity) == "error"]


class StandIn:
    """A denoiser that trains for `steps` steps of 20 ms, and whose direct pass adds the number of steps made.

    What the docks call is specified by `Denoiser`: `engine` gives an autospec of it, so that a rename breaks the tests.
    """

    def __init__(
        self,
        steps: int = 20,
        error: Exception | None = None,
        error_at: int = 0,
        stopped: str = "finished",
        gain: Callable[[int], Gain] = lambda step: (None, None, None),
    ) -> None:
        self.steps, self.error, self.error_at, self.stopped = steps, error, error_at, stopped
        self.gain = gain
        self.made = 0
        self.threads: set[str] = set()
        self.held = threading.Event()
        """While set, a step does not end."""
        self.closed = False
        self.given: tuple[Any, ...] = ()
        self.saved: list[Path] = []
        self.denoiser = create_autospec(Denoiser, instance=True)
        self.denoiser.noise_fit, self.denoiser.findings = None, ()
        self.denoiser.provenance = Provenance(settings=TrainSettings(), axes="TYX", version="0", torch_version="0")
        self.denoiser.summary.return_value = {"preset": "quick", "loss": "l2"}
        self.denoiser.train_steps.side_effect = self.train_steps
        self.denoiser.denoise_steps.side_effect = self.denoise_steps
        self.denoiser.save.side_effect = self.save

    def train_steps(self, cancelled: Callable[[], bool]) -> Iterator[TrainingProgress]:
        try:
            for step in range(1, self.steps + 1):
                self.threads.add(threading.current_thread().name)
                if self.error is not None and step > self.error_at:
                    raise self.error
                time.sleep(SECONDS_PER_STEP)
                while self.held.is_set():
                    time.sleep(SECONDS_PER_STEP)
                self.made = step
                gain, gain_error, why = self.gain(step)
                progress = TrainingProgress(
                    step=step,
                    total_steps=self.steps,
                    fraction=step / self.steps,
                    elapsed_seconds=SECONDS_PER_STEP * step,
                    remaining_seconds=SECONDS_PER_STEP * (self.steps - step),
                    neg_elbo=1 / step,
                    reconstruction=1 / step,
                    kl=0.0,
                    direct_loss=2 / step,
                    validation_neg_elbo=None,
                    validation_direct_loss=None,
                    stopped=self.stopped if step == self.steps else None,
                    estimated_gain_db=gain,
                    estimated_gain_error_db=gain_error,
                    estimated_gain_why=why,
                )
                record = Record(
                    seconds=progress.elapsed_seconds,
                    **{name: getattr(progress, name) for name in Record.model_fields if name != "seconds"},
                )
                history = (*self.denoiser.provenance.history, record)
                self.denoiser.provenance = self.denoiser.provenance.model_copy(update={"history": history})
                yield progress
        finally:
            self.closed = True

    def denoise_steps(self, image: np.ndarray, outputs: Sequence[str], *, axes: str) -> Iterator[Progress]:
        assert axes == "YX"
        self.threads.add(threading.current_thread().name)
        yield Progress(fraction=1.0, elapsed_seconds=0.0, remaining_seconds=0.0)
        return {output: image.astype(np.float32) + self.made for output in outputs}

    def save(self, path: Path) -> None:
        if path.name == "full.safetensors":
            raise DenoiserError("Expected to write full.safetensors, found: No space left on device: make room")
        with replacing(path) as draft:  # whole or not at all, as `Denoiser.save`
            draft.write_text(str(self.made))
        if path.name != "model.safetensors" or not path.with_name("lock").exists():  # no recovery file
            self.saved.append(path)
