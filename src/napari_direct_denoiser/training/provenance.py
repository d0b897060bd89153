"""What a model was trained on and how, as its file tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from ..config import Config, TrainSettings


class Record(Config):
    """One point of the training history."""

    step: int
    seconds: float
    neg_elbo: float
    direct_loss: float
    validation_neg_elbo: float | None
    validation_direct_loss: float | None

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, values: Any) -> Any:
        """Read files of version 0.1, which call the negative ELBO `elbo`."""
        if isinstance(values, dict) and "elbo" in values:
            old = {"elbo": "neg_elbo", "validation_elbo": "validation_neg_elbo"}
            values = {old.get(name, name): value for name, value in values.items()}
        return values


class History:
    """Records of a training of any length: evenly thinned to at most `most`, and always with the newest."""

    def __init__(self, records: Sequence[Record] = (), most: int = 500) -> None:
        self._most, self._stride, self._skipped = most, 1, 0
        self._kept = list(records)
        self._newest: Record | None = None

    def add(self, record: Record) -> None:
        """Add the newest record."""
        self._newest = None
        self._skipped += 1
        if self._skipped < self._stride:
            self._newest = record
            return
        self._skipped = 0
        self._kept.append(record)
        if len(self._kept) >= self._most:
            self._kept = self._kept[::-2][::-1]  # the newest stays
            self._stride *= 2

    @property
    def records(self) -> tuple[Record, ...]:
        """All that is kept, oldest first."""
        return (*self._kept, *([] if self._newest is None else [self._newest]))


class Provenance(Config):
    """What a model was trained on and how, as stored in its file."""

    settings: TrainSettings
    axes: str
    """Axes of the training images, such as TYX."""
    version: str
    """Of this package."""
    torch_version: str
    steps: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    """Why training ended; None if it was interrupted."""
    history: tuple[Record, ...] = ()
