"""Runs in napari's worker threads: how they start, stop and report errors.

If a generator raises RuntimeError in a napari worker, no signal is emitted. If the worker is told to quit, the
generator stays suspended and its ``finally`` never runs. So a `Job` catches every error inside the thread, returns it
as a value, and closes the generator itself, in the thread, between two steps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import thread_worker
from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal

from ...errors import DenoiserError
from .turns import Turns

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ...config import Device, TrainSettings
    from ...denoiser import Denoiser
    from ...noise import NoiseModel

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_UPDATES = 0.1


@dataclass(frozen=True, eq=False)
class Update:
    """Progress of a run; subclasses carry more for the dock that started it.

    An update without a fraction is always delivered; of the others the newest, at most ten times a second.
    """

    words: str
    fraction: float | None = None
    remaining_seconds: float | None = None


Steps = Generator[Update, None, Any]


# The docks build and load models through these two functions. They import late: torch takes seconds.
def make_denoiser(
    images: Sequence[ArrayLike], settings: TrainSettings, axes: Sequence[str], noise: NoiseModel | None
) -> Denoiser:
    """Check the images and build an untrained model for them."""
    from ...denoiser import Denoiser

    return Denoiser.for_images(images, settings, axes, noise)


def load_denoiser(path: Path, device: Device) -> Denoiser:
    """Load a model file."""
    from ...denoiser import load

    return load(path, device)


def loading(path: Path, device: Device) -> Generator[Update, None, Denoiser]:
    """Load a model file."""
    yield Update(f"Loading {path.name} …")
    return load_denoiser(path, device)


class Job(QObject):
    """One run at a time in a worker thread. Every run ends with exactly one of the last three signals.

    What is done with its results may follow in several turns of the event loop; the run lasts until then.
    """

    started = Signal()
    updated = Signal(object)
    """An Update, at most ten times a second."""
    succeeded = Signal(object)
    """What the steps returned."""
    stopped = Signal()
    failed = Signal(object)
    """An exception, never a RuntimeError."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.turns = Turns(self)
        self._worker: Any = None
        self._stop = threading.Event()
        self._outcome: tuple[str, Any] = ("stopped", None)
        QCoreApplication.instance().aboutToQuit.connect(self.shutdown)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._worker is not None or self.turns.waiting

    def start(self, steps: Steps) -> None:
        """Start a run; only when none is under way."""
        assert not self.running
        self._stop = threading.Event()
        self._outcome = ("stopped", None)  # unless something else is returned
        self.destroyed.connect(self._stop.set)
        self._worker = worker = _in_thread(steps, self._stop, _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self._on_yielded)
        worker.returned.connect(self._on_returned)
        worker.finished.connect(self._on_finished)
        # napari quits the workers when the application ends: close the steps in their thread, before that ends
        worker.aborted.connect(lambda: _close(steps), Qt.ConnectionType.DirectConnection)
        worker.start()
        self.started.emit()

    def stop(self) -> None:
        """Ask the run to stop after the current step."""
        self._stop.set()

    def stopping(self) -> bool:
        """Whether the run was asked to stop. May be called from the thread of the run, which can then stop sooner."""
        return self._stop.is_set()

    def shutdown(self) -> None:
        """Ask the run to stop, and emit no more signals. Does not wait for the thread."""
        self.turns.clear()
        self._worker = None
        self._stop.set()

    def _on_yielded(self, update: Update) -> None:
        if self._worker is not None:
            self.updated.emit(update)

    def _on_returned(self, outcome: tuple[str, Any]) -> None:
        self._outcome = outcome

    def _on_finished(self) -> None:
        if self._worker is None:
            return
        self._worker = None
        kind, value = self._outcome
        if kind == "stopped":
            self.stopped.emit()
        else:
            (self.succeeded if kind == "succeeded" else self.failed).emit(value)


@thread_worker
def _in_thread(steps: Steps, stop: threading.Event) -> Generator[Update, None, tuple[str, Any]]:
    """Iterate the steps until told to stop, and pass on the newest update ten times a second."""
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
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # the last two would end the thread without a signal
        mended = DenoiserError(f"{type(error).__name__}: {error}")
        mended.__cause__ = error
        return "failed", mended
    finally:
        _close(steps)


def _close(steps: Steps) -> None:
    """End the steps where they are: their ``finally`` runs now."""
    try:
        steps.close()
    except Exception:
        _LOG.exception("A run failed while it was being closed")
