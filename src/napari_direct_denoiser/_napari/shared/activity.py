"""A job in napari's activity dock, which shows it also while the dock of the job is closed or behind another.

napari handles all waiting events whenever one of its progress bars changes: clicks, and the end of the job. So the bar
is changed from the event loop alone, never while a dock handles a signal of its job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils import progress
from qtpy.QtCore import QObject, Qt

if TYPE_CHECKING:
    from .workers import Job, Update

_PARTS = 1000


class Activity(QObject):
    """The progress bar of the run of a job; there is none between two runs.

    Parameters
    ----------
    job
        The job.
    words
        What to call it.
    """

    def __init__(self, job: Job, words: str) -> None:
        super().__init__(job)
        self._words = words
        self._bar: progress | None = None
        self._run = 0
        later = Qt.ConnectionType.QueuedConnection
        job.started.connect(self._begin, later)
        job.updated.connect(self._show, later)
        for ended in (job.succeeded, job.stopped, job.failed):
            ended.connect(self.end, later)

    def end(self, outcome: Any = None) -> None:
        """Remove the bar."""
        self._run += 1
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self) -> None:
        self.end()
        run = self._run
        bar = progress(total=_PARTS, desc=self._words)
        if run == self._run:
            self._bar = bar
        else:  # the run ended while napari made the bar
            bar.close()

    def _show(self, update: Update) -> None:
        if self._bar is not None and update.fraction is not None:
            self._bar.update(round(_PARTS * update.fraction) - self._bar.n)
