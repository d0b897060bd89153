"""Choose one of the students of a model."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from ..shared.layer_choice import narrow
from ..shared.model_choice import ModelChoice
from ..shared.session import NamedModel


class StudentChoice(QComboBox):
    """The students of the chosen model, the one that was trained last first."""

    def __init__(self, models: ModelChoice) -> None:
        super().__init__()
        self.setToolTip(
            "Which Direct Denoiser of this model to use, by what it estimates of the samples of HDN. They learned from "
            "the same HDN, each with another loss or of another size."
        )
        narrow(self)
        self._models = models
        self._given: NamedModel | None = None
        self._used: NamedModel | None = None
        self.refresh()

    @property
    def model(self) -> NamedModel | None:
        """The chosen model with the chosen student in use."""
        self.refresh()
        if self._used is not None and self._used.denoiser.students[0] != self.currentText():
            self._used = replace(self._used, denoiser=self._used.denoiser.student(self.currentText()))
        return self._used

    @property
    def offers(self) -> bool:
        """Whether there is something to choose."""
        return self.count() > 1

    def refresh(self) -> None:
        """List the students of the chosen model, if that is another one than before."""
        given = self._models.model
        if given is self._given:
            return
        self._given = self._used = given
        with QSignalBlocker(self):
            self.clear()
            self.addItems([] if given is None else list(given.denoiser.students))
