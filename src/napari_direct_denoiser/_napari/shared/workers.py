"""Runs in napari's worker threads: what they do, how they stop, and how their errors come back.

A generator that raises RuntimeError in a napari worker vanishes without a signal, and one whose
worker is told to quit stays suspended for ever. So a `Job` catches every error inside the thread
and brings it back as a value, and stops the generator itself, between two steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import thread_worker
from qtpy.QtCore import QCoreApplication, QObject, Signal

from ...errors import DenoiserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ...config import TrainSettings
    from ...denoiser import Denoiser
    from ...noise import NoiseModel

_SECONDS_BETWEEN_UPDATES = 0.1
_SECONDS_TO_CLOSE = 2.0


@dataclass(frozen=True, eq=False)
class Update:
    """What a run says about itself while it goes on; subclasses have news for the dock that started it.

    One without a fraction always arrives, of others the newest ten times a second.
    """

    words: str
    fraction: float | None = None
    remaining_seconds: float | None = None


Steps = Generator[Update, None, Any]


# The two seams through which the docks reach the engine. They import late: torch takes seconds.
def make_denoiser(
    images: Sequence[ArrayLike], settings: TrainSettings, axes: str | None, noise: NoiseModel | None
) -> Denoiser:
    """Check the images and build an untrained model for them."""
    from ...denoiser import Denoiser

    return Denoiser.for_images(images, settings, axes, noise)


def load_denoiser(path: Path) -> Denoiser:
    """Load a model file."""
    from ...denoiser import load

    return load(path)


def loading(path: Path) -> Generator[Update, None, Denoiser]:
    """Load a model file."""
    yield Update(f"Loading {path.name} …")
    return load_denoiser(path)


class Job(QObject):
    """One run at a time in a worker thread. Every run ends with exactly one of the last three signals."""

    updated = Signal(object)
    """An Update, at most ten times a second."""
    succeeded = Signal(object)
    """What the steps returned."""
    stopped = Signal()
    failed = Signal(object)
    """An exception, never a RuntimeError."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._stop = threading.Event()
        self._outcome: tuple[str, Any] = ("stopped", None)
        QCoreApplication.instance().aboutToQuit.connect(self.shutdown)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._worker is not None

    def start(self, steps: Steps) -> None:
        """Start a run; only when none is under way."""
        assert not self.running
        self._stop = threading.Event()
        self._outcome = ("stopped", None)  # unless something else is returned
        self.destroyed.connect(self._stop.set)
        self._worker = _in_thread(steps, self._stop, _start_thread=False, _ignore_errors=True)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def stop(self) -> None:
        """Ask the run to stop after the step that it is at."""
        self._stop.set()

    def stopping(self) -> bool:
        """Whether the run was asked to stop; its steps may ask too, from their thread, and end sooner."""
        return self._stop.is_set()

    def shutdown(self) -> None:
        """Stop the run, wait for its thread for a short while, and never be heard of again."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._stop.set()
        end = time.monotonic() + _SECONDS_TO_CLOSE
        while worker.is_running and time.monotonic() < end:
            time.sleep(0.01)

    def _on_yielded(self, update: Update) -> None:
        if self.running:
            self.updated.emit(update)

    def _on_returned(self, outcome: tuple[str, Any]) -> None:
        self._outcome = outcome

    def _on_finished(self) -> None:
        if not self.running:
            return
        self._worker = None
        kind, value = self._outcome
        if kind == "stopped":
            self.stopped.emit()
        else:
            (self.succeeded if kind == "succeeded" else self.failed).emit(value)


@thread_worker
def _in_thread(steps: Steps, stop: threading.Event) -> Generator[Update, None, tuple[str, Any]]:
    """Drain the steps, passing on the newest update ten times a second, until told to stop."""
    last, waiting = -float("inf"), None
    try:
        while not stop.is_set():
            try:
                update = next(steps)
            except StopIteration as end:
                if waiting is not None:
                    yield waiting
                return ("stopped", None) if stop.is_set() else ("succeeded", end.value)
            if update.fraction is None:
                if waiting is not None:
                    yield waiting
                yield update
                waiting = None
            elif time.monotonic() - last >= _SECONDS_BETWEEN_UPDATES:
                yield update
                last, waiting = time.monotonic(), None
            else:
                waiting = update
        if waiting is not None:
            yield waiting
        return "stopped", None
    except DenoiserError as error:
        return "failed", error
    except Exception as error:
        mended = DenoiserError(f"{type(error).__name__}: {error}")
        mended.__cause__ = error
        return "failed", mended
    finally:
        steps.close()
