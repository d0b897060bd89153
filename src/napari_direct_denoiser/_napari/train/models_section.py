"""The models of this session in the Train dock: save, load, continue."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..shared.layer_choice import narrow
from ..shared.session import MODELS, NamedModel


class ModelsSection(QWidget):
    """A choice of model. The one in training comes first, under its name to be."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setToolTip("Models trained or loaded in this session; the Denoise dock has the same. Newest first.")
        narrow(self.choice)
        self.continue_button = QPushButton("Continue")
        self.continue_button.setToolTip(
            "Train a copy of this model further on the chosen image, for the minutes above. "
            "Its preset, loss, noise model and scaling stay as they are."
        )
        self.save_button = QPushButton("Save …")
        self.save_button.setToolTip("Write this model to one file, for other sessions and the command line; any time.")
        self.load_button = QPushButton("Load …")
        self.load_button.setToolTip("Load a model file (.safetensors), to continue its training or to denoise.")
        buttons = QHBoxLayout()
        for button in (self.continue_button, self.save_button, self.load_button):
            buttons.addWidget(button)
        row = QHBoxLayout()
        row.addWidget(QLabel("Model"))
        row.addWidget(self.choice, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addLayout(buttons)
        self._models: list[NamedModel] = []
        self._training: NamedModel | None = None
        MODELS.changed.connect(self._list)
        self.choice.currentIndexChanged.connect(self.changed)
        self._list()

    @property
    def model(self) -> NamedModel | None:
        """The chosen model; it may be the one in training."""
        return self._models[self.choice.currentIndex()] if self._models else None

    @property
    def training(self) -> NamedModel | None:
        """The model in training."""
        return self._training

    def choose(self, model: NamedModel) -> None:
        """Choose a model of the list."""
        self.choice.setCurrentIndex(self._models.index(model))

    def show_training(self, model: NamedModel | None) -> None:
        """List and choose a model in training, or take it off the list."""
        self._training = model
        self._list()
        if model is not None:
            self.choose(model)

    def release(self) -> None:
        """Let go of the models."""
        MODELS.changed.disconnect(self._list)
        self._models, self._training = [], None

    def _list(self) -> None:
        """List anew; the choice stays, whatever other docks do."""
        chosen = self.model
        self._models = [*([self._training] if self._training else []), *reversed(MODELS.all)]
        names = [f"{model.name} (in training)" if model is self._training else model.name for model in self._models]
        with QSignalBlocker(self.choice):
            self.choice.clear()
            self.choice.addItems(names)
            self.choice.setCurrentIndex(self._models.index(chosen) if chosen in self._models else 0)
        self.changed.emit()
