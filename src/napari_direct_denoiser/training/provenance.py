"""Provenance of a model: its settings, images and training history, as stored in its file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..co_model import CoModel
from ..config import Config, TrainSettings
from ..progress import Best, TrainingProgress, best_result, mean_words

Shape = tuple[int, int, int]
"""Of a training image: planes, height, width."""


class Record(Config):
    """One point of the training history. Fields that this version does not know are kept."""

    model_config = ConfigDict(extra="allow")

    step: int
    seconds: float
    neg_elbo: float
    direct_loss: float
    validation_neg_elbo: float | None
    validation_direct_loss: float | None
    estimated_gain_db: float | None = None
    estimated_gain_error_db: float | None = None
    estimated_gain_why: str | None = None
    estimated_rise_db: float | None = None
    estimated_over_mean_db: float | None = None
    estimated_over_mean_error_db: float | None = None

    @classmethod
    def of(cls, progress: TrainingProgress) -> Record:
        """Take from the progress of a training what is kept."""
        return cls(
            step=progress.step,
            seconds=progress.elapsed_seconds,
            neg_elbo=progress.neg_elbo,
            direct_loss=progress.direct_loss,
            validation_neg_elbo=progress.validation_neg_elbo,
            validation_direct_loss=progress.validation_direct_loss,
            estimated_gain_db=progress.estimated_gain_db,
            estimated_gain_error_db=progress.estimated_gain_error_db,
            estimated_gain_why=progress.estimated_gain_why,
            estimated_rise_db=progress.estimated_rise_db,
            estimated_over_mean_db=progress.estimated_over_mean_db,
            estimated_over_mean_error_db=progress.estimated_over_mean_error_db,
        )

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
    """What a model was trained on and how, as stored in its file. Fields that this version does not know are kept."""

    model_config = ConfigDict(extra="allow")

    settings: TrainSettings
    axes: str = Field(pattern="^[A-Z]{2,26}$")
    """Axes of the training images, such as TYX."""
    version: str
    """Of this package."""
    torch_version: str
    steps: int = Field(default=0, ge=0, lt=2**31)
    seconds: float = 0.0
    stopped: str | None = None
    """Why training ended; None if it was interrupted."""
    learned_frames: bool = False
    """Whether the Direct Denoiser also learned from other frames of a static scene, in the last training."""
    history: tuple[Record, ...] = ()
    sessions: tuple[tuple[Shape, ...], ...] = ()
    """Shapes of the images of the training, and of each further training; empty where an older version trained."""
    unknown_settings: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """Settings of a newer version, which go back into `settings` in the file."""

    @classmethod
    def begun(cls, settings: TrainSettings, axes: str) -> Provenance:
        """Provenance of a training by this version that is about to begin."""
        here = version("napari-direct-denoiser")
        return cls(settings=settings, axes=axes, version=here, torch_version=torch.__version__)

    @property
    def best(self) -> Best:
        """What to use as the result, as the training left it; the direct pass if that is not known."""
        return best_result(*self._judged)

    @property
    def advice(self) -> str:
        """Say that the mean of samples is better than the direct pass; empty if that is not so, or not known."""
        return mean_words(*self._judged) or ""

    @property
    def _judged(self) -> tuple[float | None, float | None, float | None]:
        """Gain of the direct pass over the best blur and over the mean of samples, and the error of the second, dB."""
        if not self.history:
            return None, None, None
        last = self.history[-1]
        return last.estimated_gain_db, last.estimated_over_mean_db, last.estimated_over_mean_error_db

    def trained_on(self, shapes: Sequence[Shape]) -> Provenance:
        """Provenance of a training, or a further one, on images of such shapes."""
        if self.steps and not self.sessions:  # the images of before are not known
            return self
        return self.model_copy(update={"sessions": (*self.sessions, tuple(shapes))})

    @model_validator(mode="before")
    @classmethod
    def _set_unknown_settings_aside(cls, values: Any) -> Any:
        settings = values.get("settings") if isinstance(values, dict) else None
        if isinstance(settings, dict):
            known = TrainSettings.model_fields
            parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
            for name, value in settings.items():
                parts[name not in known][name] = value
            values = {**values, "settings": parts[0], "unknown_settings": parts[1]}
        return values

    @model_serializer(mode="wrap")
    def _with_unknown_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {**values, "settings": {**values["settings"], **self.unknown_settings}}


def summary(model: CoModel, provenance: Provenance) -> dict[str, Any]:
    """What `direct-denoiser info` shows of a model."""
    settings, history = provenance.settings, provenance.history
    return {
        "preset": settings.preset,
        "teacher": settings.teacher,
        "loss": settings.loss,
        "structured": settings.structured,
        "parameters": {
            "hdn": sum(p.numel() for p in model.hdn.parameters()),
            "direct": sum(p.numel() for p in model.unet.parameters()),
        },
        "noise": model.noise.describe(),
        "steps": provenance.steps,
        "estimated_gain_db": history[-1].estimated_gain_db if history else None,
        "recommended": provenance.best,
        "version": provenance.version,
    }
