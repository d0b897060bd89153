"""The models of this session: one list, which all docks of all viewers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from ...denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model and its name in the list."""

    name: str
    denoiser: Denoiser
    recovery: Path | None = None
    """Folder with the recovery file of its training, as long as that is kept."""


class Models(QObject):
    """The list of models, oldest first. It never holds a model that a thread still writes to."""

    # Qt signals, not a psygnal EventedList: they reach the main thread from a worker, and forget docks that are deleted
    changed = Signal()
    _handed_over = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.all: list[NamedModel] = []
        self._handed_over.connect(self._take)

    def add(self, name: str, denoiser: Denoiser, recovery: Path | None = None) -> NamedModel:
        """Add a model under this name, with a number if the name is taken. Call it in the main thread."""
        taken = {model.name for model in self.all}
        free, number = name, 2
        while free in taken:
            free, number = f"{name} ({number})", number + 1
        model = NamedModel(free, denoiser, recovery)
        self.all.append(model)
        self.changed.emit()
        return model

    def hand_over(self, model: NamedModel) -> None:
        """Add a model from any thread: it is in the list when the main thread has handled its events."""
        self._handed_over.emit(model)

    def of(self, denoiser: Denoiser) -> NamedModel | None:
        """Find the entry of a model."""
        return next((model for model in self.all if model.denoiser is denoiser), None)

    def clear(self) -> None:
        """Forget all models."""
        self.all.clear()
        self.changed.emit()

    def _take(self, model: NamedModel) -> None:
        self.add(model.name, model.denoiser, model.recovery)


MODELS = Models()
SECONDS_PER_STEP: dict[str, float] = {}
"""Seconds per training step by preset, as measured in this session: the next estimate uses them."""
