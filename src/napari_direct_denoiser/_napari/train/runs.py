"""Training runs: what happens in the worker thread, and what a dock can ask of it between two steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...errors import DenoiserError
from ..shared import workers
from ..shared.session import MODELS, NamedModel
from ..shared.workers import Update
from .noise_runs import Look, NoiseChoice, calibrated
from .parts import Part
from .preview import Previewed, Previewer, View
from .recovery import RecoveryFile

if TYPE_CHECKING:
    from ...config import TrainSettings
    from ...denoiser import Denoiser
    from ...noise import NoiseFit
    from ...progress import TrainingProgress

_CONTINUED = " continued"
_SECONDS_BETWEEN_LOOKS = 0.05  # while paused
SECONDS_OF_PACE = 2.0  # before the time left is estimated


class Requests:
    """What a dock asks of its run. The run looks at it between two steps."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.cancelled = cancelled
        self.pause = threading.Event()
        self.saves: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.view: View | None = None
        """What to preview; None for nothing."""
        self.saved: list[Saved] = []
        """What was saved when the run ended: it can send no updates then."""

    def save(self, denoiser: Denoiser, words: str = "") -> Iterator[Saved]:
        """Save a model to the files that were asked for, each once."""
        while not self.saves.empty():
            path = self.saves.get()
            try:
                denoiser.save(path)
            except DenoiserError as error:
                yield Saved(words, error=error)
            else:
                yield Saved(words, path=path)


@dataclass(frozen=True, eq=False)
class Begun(Update):
    """Training begins with this model and this noise model."""

    model: NamedModel | None = None
    look: Look | None = None


@dataclass(frozen=True, eq=False)
class Stepped(Update):
    """Some steps were made."""

    record: TrainingProgress | None = None


@dataclass(frozen=True, eq=False)
class Saved(Update):
    """The model was saved, as it was between two steps, or could not be saved."""

    path: Path | None = None
    error: DenoiserError | None = None


Training = Generator[Update, None, "Denoiser"]


def training(parts: Sequence[Part], settings: TrainSettings, noise: NoiseChoice, requests: Requests) -> Training:
    """Train a new model on some images. The first of them is previewed."""
    yield Update("Loading PyTorch, checking the image, measuring the noise …")
    calibration = calibrated(noise)
    images, axes = [part.pixels() for part in parts], [part.axes for part in parts]
    model = None
    if calibration is not None:
        model = calibration.model
        settings = settings.model_copy(update={"noise": model.describe()})
    denoiser = workers.make_denoiser(images, settings, axes, model)
    others = len({part.source.name for part in parts}) - 1
    summary = denoiser.summary()
    name = parts[0].source.name + (f" and {others} more" if others else "")
    name += f", {summary['preset']}, {summary['loss']}"
    return (yield from _train(denoiser, name, parts[0], requests, calibration))


def continuing(trained: NamedModel, parts: Sequence[Part], settings: TrainSettings, requests: Requests) -> Training:
    """Train a copy of a model further, on the same images or others.

    Only limits and device of the settings count, and loss and size if only the Direct Denoiser is to learn.
    """
    yield Update("Checking the image, measuring the noise …")
    images, axes = [part.pixels() for part in parts], [part.axes for part in parts]
    denoiser = trained.denoiser.continued(
        images,
        axes,
        max_minutes=settings.max_minutes,
        max_steps=settings.max_steps,
        device=settings.device,
        loss=settings.loss if settings.student_only else None,
        student_only=settings.student_only,
        student_size=settings.student_size,
    )
    name = trained.name.removesuffix(_CONTINUED)
    name += f", {denoiser.students[0]}" if settings.student_only else _CONTINUED
    return (yield from _train(denoiser, name, parts[0], requests, None))


def _train(denoiser: Denoiser, name: str, part: Part, requests: Requests, calibration: NoiseFit | None) -> Training:
    look = None if denoiser.noise_fit is None else Look(denoiser.noise_fit, denoiser.findings, calibration)
    recovery = RecoveryFile(name)
    model = NamedModel(name, denoiser, recovery.folder)
    yield Begun("First step …", model=model, look=look)
    previewer = Previewer(denoiser, part)
    first: TrainingProgress | None = None
    last: TrainingProgress | None = None
    steps = cast("Generator[TrainingProgress]", denoiser.train_steps(requests.cancelled))
    try:
        for last in steps:
            first = first or last
            words = f"Step {last.step:,}" + (f" of {last.total_steps:,}." if last.total_steps else ".")
            yield Stepped(words, last.fraction, seconds_left(first, last), record=last)
            if recovery.due():
                recovery.write(denoiser, last.step)
            yield from _serve(denoiser, requests, previewer, words, done=last.stopped is not None)
            while requests.pause.is_set():
                paused = f"{words} Paused: nothing is lost, Resume goes on."
                yield Update(paused, last.fraction)
                yield from _serve(denoiser, requests, previewer, paused)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:  # also when the run is closed at one of the yields
        steps.close()  # no thread writes to the weights from here on
        if last is not None:
            _leave(model, last, requests, recovery)
    return denoiser


def _leave(model: NamedModel, last: TrainingProgress, requests: Requests, recovery: RecoveryFile) -> None:
    """Save a model that is trained and list it, in the thread of the training: its dock may be gone.

    The recovery file is up to date from here on. The dock removes it when it has taken the model.
    """
    recovery.write(model.denoiser, last.step)
    recovery.release()
    requests.saved += requests.save(model.denoiser)
    MODELS.hand_over(model)


def seconds_left(first: TrainingProgress, record: TrainingProgress) -> float | None:
    """Time left at the pace since the first step, which is slower than the others; None while that is a guess."""
    seconds, part = record.elapsed_seconds - first.elapsed_seconds, record.fraction - first.fraction
    return seconds / part * (1 - record.fraction) if seconds > SECONDS_OF_PACE and part > 0 else None


def _serve(
    denoiser: Denoiser, requests: Requests, previewer: Previewer, words: str, *, done: bool = False
) -> Iterator[Update]:
    """Do what was asked for, between two steps."""
    yield from requests.save(denoiser, words)
    if (view := requests.view) is not None and previewer.due(done=done):
        yield Previewed(words, view=view, image=previewer.image(view))
