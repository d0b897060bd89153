"""Steps that are spread over turns of the event loop: clicks, sliders and drawing come in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer, Signal

_MILLISECONDS_BETWEEN = 10  # Qt draws 5 ms after a change at the earliest


class Turns(QObject):
    """Steps that wait for a turn of the event loop each, in their order. Those that a step adds come next.

    napari takes 0.1 s and more to add a layer. One layer in each turn holds up a person for that time, not for several
    times as long.
    """

    ended = Signal()
    """No step waits any more."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._first: Turns | None = None
        self._steps: dict[str, Callable[[], object]] = {}
        self._rests_since = -float("inf")
        self._timer = QTimer(self)
        self._timer.setInterval(_MILLISECONDS_BETWEEN)
        self._timer.timeout.connect(self._next)

    @property
    def waiting(self) -> bool:
        """Whether a step waits for its turn."""
        return bool(self._steps)

    @property
    def seconds_at_rest(self) -> float:
        """Seconds since the last step; 0 while one waits."""
        return 0.0 if self.waiting else time.monotonic() - self._rests_since

    def add(self, name: str, step: Callable[[], object]) -> None:
        """Let a step wait, in place of one of the same name that waits."""
        self._steps[name] = step
        self._timer.start()

    def clear(self) -> None:
        """Forget the steps that wait."""
        self._steps.clear()
        self._timer.stop()

    def before(self) -> Turns:
        """Make other turns, whose steps all come before these."""
        self._first = Turns(self.parent())
        return self._first

    def finish(self) -> None:
        """Take all steps that wait, now."""
        if self._first is not None:
            self._first.finish()
        while self._steps:
            self._next()

    def _next(self) -> None:
        if not self._steps:  # a step before has turned the event loop itself
            return
        if self._first is not None and self._first.waiting:
            return
        step = self._steps.pop(next(iter(self._steps)))
        before = set(self._steps)
        try:
            step()
        finally:
            added = {name: each for name, each in self._steps.items() if name not in before}
            self._steps = {**added, **self._steps}
            self._rests_since = time.monotonic()
            if not self._steps:
                self._timer.stop()
                self.ended.emit()
