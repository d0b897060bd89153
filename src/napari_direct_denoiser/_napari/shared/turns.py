"""Steps that are spread over turns of the event loop: clicks, sliders and drawing come in between."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer, Signal

_MILLISECONDS_BETWEEN = 10  # Qt draws 5 ms after a change at the earliest


class Turns(QObject):
    """Steps that wait for a turn of the event loop each, in their order.

    napari takes 0.1 s and more to add a layer. One layer in each turn holds up a person for that time, not for several
    times as long.
    """

    ended = Signal()
    """No step waits any more."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._steps: dict[str, Callable[[], object]] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(_MILLISECONDS_BETWEEN)
        self._timer.timeout.connect(self._next)

    @property
    def waiting(self) -> bool:
        """Whether a step waits for its turn."""
        return bool(self._steps)

    def add(self, name: str, step: Callable[[], object]) -> None:
        """Let a step wait, in place of one of the same name that waits."""
        self._steps[name] = step
        self._timer.start()

    def clear(self) -> None:
        """Forget the steps that wait."""
        self._steps.clear()
        self._timer.stop()

    def _next(self) -> None:
        if not self._steps:  # a step before has turned the event loop itself
            return
        step = self._steps.pop(next(iter(self._steps)))
        try:
            step()
        finally:
            if not self._steps:
                self._timer.stop()
                self.ended.emit()
