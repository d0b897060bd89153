"""Training runs: what they do between two steps for the dock that started them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DenoiserError
from ...evaluation.compare import LazyPlanes
from ...progress import drain
from ..shared import workers
from ..shared.workers import Update
from .noise_runs import Look, NoiseChoice, calibrated
from .parts import Part, together

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...config import TrainSettings
    from ...denoiser import Denoiser
    from ...progress import TrainingProgress

_SECONDS_BETWEEN_PREVIEWS = 2.0  # more would hold up the viewer
_PREVIEW_SHARE = 0.1  # of the time, at most
_SECONDS_BETWEEN_LOOKS = 0.05  # while paused
_SECONDS_OF_PACE = 2.0  # before the time left is told


@dataclass(frozen=True)
class View:
    """The part of one plane that a preview shows: the index of the plane, and its rows and columns."""

    number: int
    leading: tuple[int, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]


class Requests:
    """What a dock asks of its run, which looks at it between two steps."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.cancelled = cancelled
        self.pause = threading.Event()
        self.saves: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.view: View | None = None
        """What to preview; None for nothing."""

    def paths(self) -> Iterator[Path]:
        """Give the files that the model is to be saved to, each once."""
        while not self.saves.empty():
            yield self.saves.get()


@dataclass(frozen=True, eq=False)
class Begun(Update):
    """Training is about to begin with this model, and this noise model."""

    denoiser: Denoiser | None = None
    look: Look | None = None


@dataclass(frozen=True, eq=False)
class Stepped(Update):
    """Some steps were made."""

    record: TrainingProgress | None = None


@dataclass(frozen=True, eq=False)
class Previewed(Update):
    """A plane as the model denoises it now."""

    view: View | None = None
    image: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Saved(Update):
    """The model as it was between two steps was saved, or could not be."""

    path: Path | None = None
    error: DenoiserError | None = None


Training = Generator[Update, None, "Denoiser"]


def training(parts: Sequence[Part], settings: TrainSettings, noise: NoiseChoice, requests: Requests) -> Training:
    """Train a new model on some images; the first of them is previewed."""
    yield Update("Loading PyTorch, checking the image, measuring the noise …")
    calibration = calibrated(noise)
    images, axes = together(parts)
    model = None
    if calibration is not None:
        model = calibration.model
        settings = settings.model_copy(update={"noise": model.describe()})
    denoiser = workers.make_denoiser(images, settings, axes, model)
    return (yield from _train(denoiser, parts[0], requests, calibration))


def continuing(trained: Denoiser, parts: Sequence[Part], settings: TrainSettings, requests: Requests) -> Training:
    """Train a copy of a model further, on the same images or others; of the settings, limits and device count."""
    yield Update("Checking the image, measuring the noise …")
    images, axes = together(parts)
    denoiser = trained.continued(
        images, axes, max_minutes=settings.max_minutes, max_steps=settings.max_steps, device=settings.device
    )
    return (yield from _train(denoiser, parts[0], requests, None))


def _train(denoiser: Denoiser, part: Part, requests: Requests, calibration: Any) -> Training:
    look = None if denoiser.noise_fit is None else Look(denoiser.noise_fit, denoiser.findings, calibration)
    yield Begun("First step …", denoiser=denoiser, look=look)
    previewer = _Previewer(denoiser, part)
    first: TrainingProgress | None = None
    for record in denoiser.train_steps(requests.cancelled):
        first = first or record
        steps = f"Step {record.step:,}" + (f" of {record.total_steps:,}." if record.total_steps else ".")
        yield Stepped(steps, record.fraction, _seconds_left(first, record), record=record)
        yield from _serve(denoiser, requests, previewer, steps, done=record.stopped is not None)
        while requests.pause.is_set():
            paused = f"{steps} Paused: nothing is lost, Resume goes on."
            yield Update(paused, record.fraction)
            yield from _serve(denoiser, requests, previewer, paused)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return denoiser


def _seconds_left(first: TrainingProgress, record: TrainingProgress) -> float | None:
    """Time left at the pace since the first step, which is slower than all others; None while that is a guess."""
    seconds, part = record.elapsed_seconds - first.elapsed_seconds, record.fraction - first.fraction
    return seconds / part * (1 - record.fraction) if seconds > _SECONDS_OF_PACE and part > 0 else None


def _serve(
    denoiser: Denoiser, requests: Requests, previewer: _Previewer, words: str, *, done: bool = False
) -> Iterator[Update]:
    """Do what was asked for, now that the weights rest."""
    for path in requests.paths():
        try:
            denoiser.save(path)
        except DenoiserError as error:
            yield Saved(words, error=error)
        else:
            yield Saved(words, path=path)
    if (view := requests.view) is not None and previewer.due(done=done):
        yield Previewed(words, view=view, image=previewer.image(view))


class _Previewer:
    """Denoises the plane in view every now and then."""

    def __init__(self, denoiser: Denoiser, part: Part) -> None:
        self._denoiser = denoiser
        self._planes = LazyPlanes(part.source.data, part.axes)
        self._ended = -float("inf")
        self._took = 0.0

    def due(self, *, done: bool) -> bool:
        return done or time.monotonic() - self._ended > max(_SECONDS_BETWEEN_PREVIEWS, self._took / _PREVIEW_SHARE)

    def image(self, view: View) -> NDArray[np.float32] | None:
        """TilePlan the plane through the Direct Denoiser; None if it cannot be denoised by itself."""
        began = time.monotonic()
        plane = self._planes[view.number][slice(*view.rows), slice(*view.columns)]
        try:
            return drain(self._denoiser.denoise_steps(np.ascontiguousarray(plane), ["direct"], axes="YX"))["direct"]
        except DenoiserError:  # a plane as empty as a mask, for example
            return None
        finally:
            self._ended = time.monotonic()
            self._took = self._ended - began
