"""Write the model of a finished training to a file, in a thread: a drive may not answer for minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal

from ..shared.workers import Job, Steps, Update
from .recovery import discard

if TYPE_CHECKING:
    from ..shared.dock import RunDock
    from ..shared.session import NamedModel


class ModelSaver(QObject):
    """Writes one model at a time, beside the run of the dock, and says in the dock how it ended."""

    changed = Signal()
    """Writing began or ended."""

    def __init__(self, dock: RunDock) -> None:
        super().__init__(dock)
        self._dock, self._words = dock, ""
        self._job = Job(self)
        self._job.started.connect(self._begun)
        self._job.succeeded.connect(self._written)
        self._job.failed.connect(self._failed)

    @property
    def running(self) -> bool:
        """Whether a model is being written."""
        return self._job.running

    def save(self, model: NamedModel, path: Path) -> None:
        """Write a model that no thread changes; its recovery file is deleted then."""
        self._words = f"“{model.name}” to {path}"
        self._job.start(_saving(model, path))

    def _begun(self) -> None:
        self._dock.say(f"Saving {self._words} …")
        self.changed.emit()

    def _written(self) -> None:
        self._dock.say(f"Saved {self._words}")
        self.changed.emit()

    def _failed(self, error: Exception) -> None:
        self._dock.say(str(error), error=True)
        show_error(str(error))
        self.changed.emit()


def _saving(model: NamedModel, path: Path) -> Steps:
    model.denoiser.save(path)
    discard(model.recovery)
    yield Update(f"Saved {path.name}")
