"""What a model was trained on and how, as its file tells."""

from __future__ import annotations

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
