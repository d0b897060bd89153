"""The models section of the Train dock: compare, denoise, save, load, continue, and recovered models."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..shared.model_choice import ModelChoice
from ..shared.session import MODELS, NamedModel
from .recovery import Recovered, discard, recovered


class ModelsSection(QWidget):
    """A choice of model, the one in training first, and buttons for what can be done with it."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.choice = ModelChoice(
            "Models trained or loaded in this session, newest first, as in the Denoise dock.", keep=True
        )
        self.continue_button = QPushButton("Continue")
        self.continue_button.setToolTip(
            "Train a copy of this model further on the chosen image, for the minutes above: it gets better, or adapts "
            "to other images. Preset, loss, noise model and normalization stay those of the model."
        )
        self.save_button = QPushButton("Save …")
        self.save_button.setToolTip(
            "Write this model to one file, for other sessions and the command line. Also during training."
        )
        self.load_button = QPushButton("Load …")
        self.load_button.setToolTip("Load a model file (.safetensors), to continue its training or to denoise with it.")
        self.denoise_button = QPushButton("Denoise stack")
        self.denoise_button.setToolTip(
            "Open the Denoise dock, and denoise the chosen layer with this model in one direct pass: the result is a "
            "new layer over it. A training of this model is stopped first, and its best weights are kept."
        )
        self.compare_button = QPushButton("Compare")
        self.compare_button.setToolTip(
            "Open the Compare dock, and show what this model makes of the chosen layer, side by side: noisy, direct, "
            "mean of samples, one sample, standard deviation."
        )
        self.recovered = RecoveredRow()
        use = QHBoxLayout()
        use.addWidget(self.compare_button)
        use.addWidget(self.denoise_button)
        buttons = QHBoxLayout()
        for button in (self.continue_button, self.save_button, self.load_button):
            buttons.addWidget(button)
        row = QHBoxLayout()
        row.addWidget(QLabel("Model"))
        row.addWidget(self.choice, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.recovered)
        column.addLayout(row)
        column.addLayout(use)
        column.addLayout(buttons)
        self.choice.currentIndexChanged.connect(self.changed)

    @property
    def model(self) -> NamedModel | None:
        """The chosen model; it may be the one in training."""
        return self.choice.model

    @property
    def training(self) -> NamedModel | None:
        """The model in training."""
        return self.choice.training


class RecoveredRow(QWidget):
    """Offers the models of trainings whose viewer closed or crashed, one after the other. Hidden if there are none."""

    load_wanted = Signal(object)
    """A person wants to load this `Recovered` model."""

    def __init__(self) -> None:
        super().__init__()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.load_button = QPushButton("Load")
        self.load_button.setToolTip("Add this model to the list: denoise with it, continue its training, or save it.")
        self.discard_button = QPushButton("Discard")
        self.discard_button.setToolTip("Delete the recovery file of this training. It cannot be restored.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words, 1)
        row.addWidget(self.load_button)
        row.addWidget(self.discard_button)
        self.load_button.clicked.connect(lambda: self.load_wanted.emit(self.offered))
        self.discard_button.clicked.connect(self._discard)
        self.offered: Recovered | None = None
        self.offer()

    def offer(self) -> None:
        """Offer the newest recovery file whose model is not in the list."""
        listed: set[Path | None] = {model.recovery for model in MODELS.all}
        left = [each for each in recovered() if each.folder not in listed]
        self.offered = left[0] if left else None
        if self.offered is not None:
            self.words.setText(f"Recovered: {self.offered.name}, {self.offered.steps:,} steps")
        if self.offered is None or self.parent() is not None:  # without a parent it would be a window of its own
            self.setVisible(self.offered is not None)

    def _discard(self) -> None:
        if self.offered is not None:
            discard(self.offered.folder)
        self.offer()
