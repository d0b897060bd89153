"""What a model was trained on and how, as its file tells."""

from __future__ import annotations

from .config import Config, TrainSettings


class Record(Config):
    """One point of the training history."""

    step: int
    seconds: float
    elbo: float
    direct_loss: float
    validation_elbo: float | None
    validation_direct_loss: float | None


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
