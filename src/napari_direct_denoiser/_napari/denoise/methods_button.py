"""The button that copies a paragraph for the methods section of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QPushButton

from ..shared.layers import facts
from .student_choice import StudentChoice

if TYPE_CHECKING:
    import napari


class MethodsButton(QPushButton):
    """Copies the paragraph on the selected result, or on the direct pass of the chosen model."""

    copied = Signal(str)
    """A sentence that says what was copied."""

    def __init__(self, viewer: napari.viewer.Viewer, student_choice: StudentChoice) -> None:
        super().__init__("Copy methods")
        self.setToolTip(
            "Copy a paragraph for the methods section of a paper, with the papers to cite: on the selected result, or "
            "on the direct pass of the chosen model."
        )
        self._viewer, self._student_choice = viewer, student_choice
        self.clicked.connect(self.copy_methods)

    def copy_methods(self) -> None:
        """Copy the paragraph."""
        active, model = self._viewer.layers.selection.active, self._student_choice.model
        if active is not None and "methods" in facts(active):
            words, name = facts(active)["methods"], active.name
        elif model is not None:
            from ...training.methods import methods_paragraph

            words, name = methods_paragraph(model.denoiser), model.name
        else:
            return
        QApplication.clipboard().setText(words)
        self.copied.emit(f"Copied a methods paragraph on “{name}”.")
