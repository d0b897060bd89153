"""The estimated gain over the best Gaussian blur in the course of a training, and what it says in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...progress import TrainingProgress
    from ...training.provenance import Record

_LATE = 1 / 3  # part of the training, at its end, whose rise says whether more of it would help
_FLAT_DB = 0.05  # a rise below this is none
_HARDLY_DB = 0.1  # a smaller gain is not worth a network
_FEWEST = 4  # validations that show a trend


@dataclass
class GainCurve:
    """The estimated gain, dB, at each validation."""

    steps: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    """Standard errors; 0 where there is none."""
    judged: bool = False
    """Whether the newest validation could estimate the gain."""
    why: str | None = None
    """Why it could not, or what limits the estimate."""
    _validated: tuple[float | None, ...] = ()

    def add(self, record: TrainingProgress | Record) -> None:
        """Add a record. Those between two validations repeat the values of the first, and are left out."""
        gain, error, self.why = record.estimated_gain_db, record.estimated_gain_error_db, record.estimated_gain_why
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
        return f"Estimated gain over the best blur: {self._decibels('{} ± {} dB')}"

    def outcome(self) -> str:
        """Say what was gained, whether a blur would do, and whether longer training would help."""
        if not self.judged:
            return self._unjudged()
        gain, error = self.gains[-1], self.errors[-1]
        decibels = self._decibels("{} dB (±{})")
        if gain > max(error, _HARDLY_DB):
            words = f"Denoised images are an estimated {decibels} nearer to the truth than the best Gaussian blur."
        elif gain >= -error:
            words = f"A plain Gaussian blur would do: the estimated gain over the best one is {decibels}."
        else:
            words = f"The best Gaussian blur is an estimated {decibels} nearer to the truth than denoised images."
        limit = f" {_sentence(self.why)}" if self.why else ""
        return words + self._prospect() + limit

    def _unjudged(self) -> str:
        return f"The gain over a blur cannot be estimated. {_sentence(self.why)}" if self.why else ""

    def _decibels(self, form: str) -> str:
        """Write the size of the newest gain and its error with the digits that mean something."""
        gain, error = self.gains[-1], self.errors[-1]
        places = 1 if error >= 0.095 else 2
        size = round(gain if gain >= -error else -gain, places) + 0.0  # never -0.0
        return form.format(f"{size:.{places}f}", f"{max(error, 0.01):.{places}f}")

    def _prospect(self) -> str:
        """Say whether longer training would help, if there are enough validations to tell."""
        if len(self.steps) < _FEWEST:
            return ""
        late = self.steps[-1] - _LATE * (self.steps[-1] - self.steps[0])
        rise = self.gains[-1] - float(np.interp(late, self.steps, self.gains))
        if rise < _FLAT_DB:
            return " Longer training would hardly help."
        return f" It rose by {rise:.2f} dB in the last third: longer training would help."


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."
