"""State of a training in the Train dock: how far it is, and the model that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..shared.forms import duration
from ..shared.session import MODELS, SECONDS_PER_STEP, NamedModel
from .recovery import discard
from .runs import Requests, Saved

if TYPE_CHECKING:
    from ...progress import TrainingProgress


@dataclass(eq=False)
class CurrentRun:
    """What the dock knows of a training while it goes on."""

    requests: Requests
    model: NamedModel | None = None
    """The model in training, which is not in the list yet."""
    first: TrainingProgress | None = None
    last: TrainingProgress | None = None
    note: str = ""
    """What else happened, such as a file that was saved."""

    def step(self, record: TrainingProgress) -> None:
        """Record how far the training is."""
        self.first, self.last = self.first or record, record

    def take_saved(self, saved: Saved, *, running: bool) -> None:
        """Record that the model was saved, or could not be."""
        then = " as it was then" if running else ""
        self.note = f"Saved it{then} to {saved.path}." if saved.error is None else f"{saved.error}."

    def end(self) -> NamedModel | None:
        """Take the model from the list, after the run has put it there, and remove its recovery file."""
        if self.model is None:
            return None
        model = MODELS.of(self.model.denoiser)
        if model is None:  # no step was made
            return None
        if self.first is not None and self.last is not None and (steps := self.last.step - self.first.step) > 0:
            seconds = self.last.elapsed_seconds - self.first.elapsed_seconds
            SECONDS_PER_STEP[model.denoiser.summary()["preset"]] = seconds / steps
        for saved in [*self.requests.saved, *self.requests.save(model.denoiser)]:
            self.take_saved(saved, running=False)
        discard(self.model.recovery)
        return model

    def words(self, model: NamedModel | None) -> str:
        """Say how much was trained, and where the model is."""
        if model is None or self.last is None:
            return "There is no model yet."
        facts = f"{self.last.step:,} steps in {duration(self.last.elapsed_seconds)}"
        return f"{facts}. The Denoise dock has the model as “{model.name}”. {self.note}".strip()
