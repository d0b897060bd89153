"""The estimated gain over the best Gaussian blur in the course of a training, and what it says in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...progress import HARDLY_DB, mean_words

if TYPE_CHECKING:
    from ...progress import TrainingProgress
    from ...training.provenance import Record


@dataclass
class GainCurve:
    """The estimated gain, dB, at each validation."""

    steps: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    """Standard errors; 0 where there is none."""
    newest_step: int = 0
    """Of all records: until then the newest gain holds."""
    judged: bool = False
    """Whether the newest validation could estimate the gain."""
    why: str | None = None
    """Why it could not."""
    mean: str | None = None
    """That the mean of samples is better than the direct pass, if so; known at the end."""
    rise: float | None = None
    """How much of the gain the second half of the training brought; known at its end."""
    _validated: tuple[float | None, ...] = ()

    def add(self, record: TrainingProgress | Record) -> None:
        """Add a record. Those between two validations repeat the values of the first, and are left out."""
        gain, error, self.why = record.estimated_gain_db, record.estimated_gain_error_db, record.estimated_gain_why
        self.rise, self.newest_step = record.estimated_rise_db, record.step
        self.mean = mean_words(gain, record.estimated_over_mean_db, record.estimated_over_mean_error_db)
        validated = record.validation_neg_elbo, record.validation_direct_loss, gain
        self.judged = gain is not None
        if gain is None or validated == self._validated:
            return
        self._validated = validated
        self.steps.append(record.step)
        self.gains.append(gain)
        self.errors.append(error or 0.0)

    def now(self) -> str:
        """Say what the gain is so far."""
        if not self.judged:
            return self._unjudged() or "The gain is estimated at the first validation."
        gain, error = _decibels(self.gains[-1], self.errors[-1])
        return f"Estimated gain over the best blur: {gain} ± {error} dB"

    def outcome(self) -> str:
        """Say what was gained, whether a blur would do, and whether more training would help."""
        if not self.judged:
            return self._unjudged()
        gain, error = self.gains[-1], self.errors[-1]
        better, uncertainty = _decibels(-gain if gain < -error else gain, error)
        decibels = f"{better} dB (±{uncertainty})"
        if gain > max(error, HARDLY_DB):
            words = f"Denoised images are an estimated {decibels} nearer to the truth than the best Gaussian blur."
        elif gain >= -error:
            words = f"A plain Gaussian blur would do: the estimated gain over the best one is {decibels}."
        else:
            words = f"The best Gaussian blur is an estimated {decibels} nearer to the truth than denoised images."
        mean = f" {self.mean}." if self.mean else ""
        return words + mean + self._prospect()

    def _unjudged(self) -> str:
        return f"The gain over a blur cannot be estimated. {self.why}." if self.why else ""

    def _prospect(self) -> str:
        """Say whether twice as much training would help, as far as its second half tells."""
        if self.rise is None:
            return ""
        if self.rise < HARDLY_DB:
            return " Twice as much training would hardly help."
        return f" The second half of the training brought {self.rise:.2f} dB: more training may help."


def _decibels(gain: float, error: float) -> tuple[str, str]:
    """Write a gain and its standard error with the digits that mean something."""
    places = 1 if error >= 0.095 else 2
    return f"{round(gain, places) + 0.0:.{places}f}", f"{max(error, 0.01):.{places}f}"  # never -0.0
