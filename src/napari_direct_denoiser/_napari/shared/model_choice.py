"""Choose one of the models of this session."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from .layer_choice import narrow
from .session import MODELS, NamedModel


class ModelChoice(QComboBox):
    """The models of this session, newest first.

    Emits `currentIndexChanged` at every change of the list, also if the index stays.

    Parameters
    ----------
    tooltip
        Of the control.
    keep
        Keep the choice when a model is added; otherwise choose the new one.
    """

    def __init__(self, tooltip: str, *, keep: bool = False) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        narrow(self)
        self._keep = keep
        self._models: list[NamedModel] = []
        self.training: NamedModel | None = None
        """A model in training, which is not in the list of the session yet."""
        MODELS.changed.connect(self._list)
        self._list()

    @property
    def model(self) -> NamedModel | None:
        """The chosen model; it may be the one in training."""
        return self._models[self.currentIndex()] if self._models else None

    def choose(self, model: NamedModel) -> None:
        """Choose a model of the list."""
        self.setCurrentIndex(self._models.index(model))

    def show_training(self, model: NamedModel | None) -> None:
        """List a model in training first and choose it, or remove it with None."""
        self.training = model
        self._list()
        if model is not None:
            self.choose(model)

    def release(self) -> None:
        """Disconnect from the list of models."""
        MODELS.changed.disconnect(self._list)
        self._models, self.training = [], None

    def _list(self) -> None:
        chosen = self.model if self._keep else None
        self._models = [*([self.training] if self.training else []), *reversed(MODELS.all)]
        names = [f"in training: {model.name}" if model is self.training else model.name for model in self._models]
        with QSignalBlocker(self):
            self.clear()
            self.addItems(names)
            if chosen in self._models:
                self.setCurrentIndex(self._models.index(chosen))
        self.currentIndexChanged.emit(self.currentIndex())
