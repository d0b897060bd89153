"""The budget of a training: how much of it is used, and when its progress is told."""

from __future__ import annotations

import time

from ..errors import SettingError
from ..presets import ScheduleConfig
from ..progress import YIELD_SECONDS
from .world import ALONE, World


class Clock:
    """Seconds that training itself took, and the fraction of the budget that is used.

    All processes of a training go by the clock of the first one, as it was at the last `tick`.

    Parameters
    ----------
    max_minutes, max_steps
        The budget.
    world
        The processes that train together.

    Attributes
    ----------
    elapsed
        Seconds of training.
    fraction
        Part of the budget that is used; above 1 when it is overrun.
    is_due
        Whether progress should be told.
    cancelled
        Whether any process wants to end.

    Raises
    ------
    SettingError
        If a limit is not positive.
    """

    def __init__(self, max_minutes: float | None, max_steps: int | None, world: World = ALONE) -> None:
        if max_minutes is not None and not max_minutes > 0:
            raise SettingError(f"Expected max_minutes above 0, found {max_minutes:g}: give the minutes to train")
        if max_steps is not None and max_steps < 1:
            raise SettingError(f"Expected max_steps of at least 1, found {max_steps}: give the steps to train")
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.max_steps = max_steps
        self.elapsed = self.fraction = 0.0
        self.is_due = self.cancelled = False
        self._world = world
        self._since = self._told = time.perf_counter()

    @classmethod
    def of(
        cls, schedule: ScheduleConfig, max_minutes: float | None, max_steps: int | None, world: World = ALONE
    ) -> Clock:
        """Take the limits of the schedule if neither is given."""
        if max_minutes is None and max_steps is None:
            return cls(schedule.max_minutes, schedule.max_steps, world)
        return cls(max_minutes, max_steps, world)

    def tick(self, step: int, *, cancelled: bool = False) -> None:
        """Read the clock after so many steps. All processes must call this."""
        now = time.perf_counter()
        own = (self.elapsed + now - self._since, now - self._told >= YIELD_SECONDS) if self._world.is_first else (0, 0)
        self._since = now
        self.elapsed, due, ended = self._world.greatest(*own, cancelled)
        self.is_due, self.cancelled = bool(due), bool(ended)
        used = [step / self.max_steps] if self.max_steps else []
        used += [self.elapsed / self.max_seconds] if self.max_seconds else []
        self.fraction = max(used, default=0.0)

    def start(self) -> None:
        """Count from now on: what was before, outside of the training, does not count."""
        self._since = self._told = time.perf_counter()
