"""Choose one of the models of this session."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from .layer_choice import narrow
from .session import MODELS, NamedModel


class ModelChoice(QComboBox):
    """The models of this session, newest first. A model that is added is chosen.

    Emits `currentIndexChanged` at every change of the list, also if the index stays.
    """

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        narrow(self)
        self._models: list[NamedModel] = []
        MODELS.changed.connect(self._list)
        self._list()

    @property
    def model(self) -> NamedModel | None:
        """The chosen model."""
        return self._models[self.currentIndex()] if self._models else None

    def choose(self, model: NamedModel) -> None:
        """Choose a model of the list."""
        self.setCurrentIndex(self._models.index(model))

    def release(self) -> None:
        """Let go of the models."""
        MODELS.changed.disconnect(self._list)
        self._models = []

    def _list(self) -> None:
        self._models = list(reversed(MODELS.all))
        with QSignalBlocker(self):
            self.clear()
            self.addItems([model.name for model in self._models])
        self.currentIndexChanged.emit(self.currentIndex())
