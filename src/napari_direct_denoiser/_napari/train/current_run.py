"""A training as the Train dock knows it: its name, how far it is, and the model that it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import DenoiserError
from ..shared.forms import duration
from ..shared.session import MODELS, SECONDS_PER_STEP, NamedModel
from .parts import Part
from .runs import Begun, Requests

if TYPE_CHECKING:
    from ...denoiser import Denoiser
    from ...progress import TrainingProgress

_CONTINUED = " continued"


@dataclass(eq=False)
class CurrentRun:
    """What is known of a training while it goes on."""

    name: str
    """Of the model to be."""
    requests: Requests
    denoiser: Denoiser | None = None
    first: TrainingProgress | None = None
    last: TrainingProgress | None = None
    note: str = ""
    """What happened meanwhile."""

    @classmethod
    def on(cls, parts: Sequence[Part], requests: Requests) -> CurrentRun:
        """Name the training of a new model after what it is trained on."""
        others = len({part.source.name for part in parts}) - 1
        return cls(parts[0].source.name + (f" and {others} more" if others else ""), requests)

    @classmethod
    def of(cls, model: NamedModel, requests: Requests) -> CurrentRun:
        """Name the training that continues another."""
        return cls(model.name.removesuffix(_CONTINUED) + _CONTINUED, requests)

    def begin(self, begun: Begun) -> NamedModel:
        """Take the model that is being trained, under its full name."""
        assert begun.denoiser is not None
        self.denoiser = begun.denoiser
        if not self.name.endswith(_CONTINUED):
            summary = begun.denoiser.summary()
            self.name += f", {summary['preset']}, {summary['loss']}"
        return NamedModel(self.name, begun.denoiser)

    def step(self, record: TrainingProgress) -> None:
        """Take note of how far it is."""
        self.first, self.last = self.first or record, record

    def end(self) -> NamedModel | None:
        """Put the model into the list of this session, if a step was made, and save it if that is still to be done."""
        if self.denoiser is None or self.first is None or self.last is None:
            return None
        steps = self.last.step - self.first.step
        if steps > 0:
            seconds = self.last.elapsed_seconds - self.first.elapsed_seconds
            SECONDS_PER_STEP[self.denoiser.summary()["preset"]] = seconds / steps
        model = MODELS.add(self.name, self.denoiser)
        for path in self.requests.paths():
            try:
                self.denoiser.save(path)
                self.note = f"Saved it to {path}."
            except DenoiserError as error:
                self.note = f"{error}."
        return model

    def words(self, model: NamedModel | None) -> str:
        """Say what was learned, and where it is."""
        if model is None or self.last is None:
            return "There is no model yet."
        facts = f"{self.last.step:,} steps in {duration(self.last.elapsed_seconds)}"
        return f"{facts}. The Denoise dock has the model as “{model.name}”. {self.note}".strip()
