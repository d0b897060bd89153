"""The models of this session: the Train docks add to the list, the Denoise docks show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from ...denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model under the name that a person sees."""

    name: str
    denoiser: Denoiser


class Models(QObject):
    """The list of models, oldest first. It never holds a model that is still being trained."""

    changed = Signal()  # Qt's own, for it forgets docks that are gone

    def __init__(self) -> None:
        super().__init__()
        self.all: list[NamedModel] = []

    def add(self, name: str, denoiser: Denoiser) -> NamedModel:
        """Add a model under this name, numbered if the name is taken."""
        taken = {model.name for model in self.all}
        free, number = name, 2
        while free in taken:
            free, number = f"{name} ({number})", number + 1
        model = NamedModel(free, denoiser)
        self.all.append(model)
        self.changed.emit()
        return model

    def clear(self) -> None:
        """Forget all models."""
        self.all.clear()
        self.changed.emit()


MODELS = Models()
SECONDS_PER_STEP: dict[str, float] = {}
"""As measured in the last training with each preset: what the next one is estimated by."""
