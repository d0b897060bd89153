"""Progress of long work, and generators that report it.

Training, prediction and evaluation are generators: they yield `Progress` and return a result, so that a dock, the
command line and a script can show how far the work is, and stop it between two steps.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

YIELD_SECONDS = 0.1
"""Progress is yielded at most once in this time, so that a viewer that draws it stays responsive."""
HARDLY_DB = 0.1
"""A smaller gain of quality hardly shows, dB."""
SAMPLES_OF_MEAN = 50
"""Samples of the mean that is compared with the direct pass: as many as `DenoiseSettings` draws."""
_SURE = 2  # standard errors

Best = Literal["direct", "mean", "blur"]
"""What to use as the result: the direct pass, the mean of samples of HDN, or a Gaussian blur."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far some work is."""

    fraction: float
    """Part of the work that is done, 0 to 1."""
    elapsed_seconds: float
    remaining_seconds: float | None
    """Estimated; None while that would be a guess."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress(Progress):
    """Where training stands. Losses are running means since the last record, lower is better."""

    step: int
    total_steps: int | None
    neg_elbo: float
    """Negative evidence lower bound, nats per pixel: reconstruction + kl."""
    reconstruction: float
    kl: float
    direct_loss: float
    """Mean squared (l2) or absolute (l1) error, in `Normalization.unit`."""
    validation_neg_elbo: float | None
    validation_direct_loss: float | None
    stopped: str | None
    """On the last record: why training ended."""
    estimated_gain_db: float | None = None
    """Estimated gain of the kept Direct Denoiser over the best Gaussian blur, on held-out patches; see `risk`."""
    estimated_gain_error_db: float | None = None
    """Its standard error."""
    estimated_gain_why: str | None = None
    """Why the gain cannot be estimated, and what to do; None if it can, or before the first validation."""
    estimated_rise_db: float | None = None
    """On the last record: how much of the gain the second half of the budget brought; None if that is not known."""
    estimated_over_mean_db: float | None = None
    """On the last record: gain of the direct pass over the mean of `SAMPLES_OF_MEAN` samples; None if not known."""
    estimated_over_mean_error_db: float | None = None
    """Its standard error."""

    @property
    def elbo(self) -> float:
        """The old name of `neg_elbo`."""
        warnings.warn("TrainingProgress.elbo is now neg_elbo", DeprecationWarning, stacklevel=2)
        return self.neg_elbo

    @property
    def validation_elbo(self) -> float | None:
        """The old name of `validation_neg_elbo`."""
        warnings.warn("TrainingProgress.validation_elbo is now validation_neg_elbo", DeprecationWarning, stacklevel=2)
        return self.validation_neg_elbo


def best_result(gain_db: float | None, over_mean_db: float | None, over_mean_error_db: float | None) -> Best:
    """Decide what to use as the result.

    The mean of samples takes many times as long. So it must be better for sure, and by an amount that shows.

    Parameters
    ----------
    gain_db
        Of the direct pass over the best blur; None if it is not known.
    over_mean_db, over_mean_error_db
        Gain of the direct pass over the mean of samples, and its standard error; None if they are not known.
    """
    if over_mean_db is not None and over_mean_error_db is not None:
        is_sure = -over_mean_db > max(HARDLY_DB, _SURE * over_mean_error_db)
        if is_sure and (gain_db is None or gain_db > over_mean_db):
            return "mean"
    return "blur" if gain_db is not None and gain_db <= 0 else "direct"


def mean_words(gain_db: float | None, over_mean_db: float | None, over_mean_error_db: float | None) -> str | None:
    """Say that the mean of samples is better than the direct pass; None unless `best_result` decides for it."""
    if best_result(gain_db, over_mean_db, over_mean_error_db) != "mean" or over_mean_db is None:
        return None
    by = f"{-over_mean_db:.2f} dB (standard error {over_mean_error_db:.2f})"
    return f"The mean of {SAMPLES_OF_MEAN} samples is an estimated {by} better than the direct pass"


class Steps(Generic[Item, Result]):
    """A generator as an iterable that keeps what the generator returns in `result`.

    The one loop of the package that drains generators: ``for item in steps: ...``, then ``steps.result``.
    """

    result: Result

    def __init__(self, generator: Generator[Item, None, Result]) -> None:
        self._generator = generator

    def __iter__(self) -> Iterator[Item]:
        self.result = yield from self._generator


def drain(generator: Generator[Item, None, Result], callback: Callable[[Item], object] = lambda item: None) -> Result:
    """Run a generator to its end, hand each item to `callback`, and give what the generator returns."""
    steps = Steps(generator)
    for item in steps:
        callback(item)
    return steps.result


Other = TypeVar("Other")


def mapped(
    generator: Generator[Item, None, Result], convert: Callable[[Item], Other]
) -> Generator[Other, None, Result]:
    """Yield what `convert` makes of each item, and return what the generator returns."""
    steps = Steps(generator)
    for item in steps:
        yield convert(item)
    return steps.result


@dataclass
class WorkClock:
    """Counts units of work, and decides when to yield `Progress`."""

    total: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = -math.inf

    def tick(self, work: int) -> bool:
        """Add units of work; returns whether a record is due."""
        self.done += work
        now = time.monotonic()
        due = now - self.told >= YIELD_SECONDS or self.done == self.total
        if due:
            self.told = now
        return due

    def progress(self) -> Progress:
        """Progress at this moment; the time left is extrapolated from the work done so far."""
        elapsed = time.monotonic() - self.began
        remaining = elapsed / self.done * (self.total - self.done) if self.done else None
        return Progress(fraction=self.done / self.total, elapsed_seconds=elapsed, remaining_seconds=remaining)
