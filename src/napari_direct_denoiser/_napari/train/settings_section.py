"""The settings of the Train dock: the two that everybody sees, and those that are seldom needed."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from ...config import LOSSES, TrainSettings, train_settings
from ..shared.dock import collapsed
from ..shared.forms import Form, control
from ..shared.preferences import preferences

_ADVANCED = ("teacher", "student_only", "student_size", "structured", "max_steps", "seed", "device")


class Settings(QObject):
    """The controls of the settings, which begin with the preferences of the person."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.form = Form([control(TrainSettings, name) for name in ("preset", "max_minutes")])
        self.advanced = Form(
            [
                control(TrainSettings, "loss", list(LOSSES)),
                *(control(TrainSettings, name) for name in _ADVANCED),
            ]
        )
        self.advanced.setContentsMargins(0, 0, 0, 0)
        preferred = preferences()
        self.form["max_minutes"].value = preferred.minutes
        self.advanced["device"].value = preferred.device
        more = QWidget()
        more.setLayout(self.advanced)
        self.section = collapsed(
            "More settings", "Loss, teacher, structured noise, steps, seed, device: seldom needed.", more
        )
        for form in (self.form, self.advanced):
            for each in form.controls.values():
                each.changed.connect(lambda _: self.changed.emit())

    def settings(self, noise: str, *, refine_noise: bool) -> TrainSettings:
        """The settings as chosen, with a noise model; `SettingError` if one of them makes no sense."""
        chosen: dict[str, Any] = {**self.form.values(), **self.advanced.values()}
        return train_settings(noise=noise, refine_noise=refine_noise, **chosen)

    def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the controls."""
        self.form.set_enabled(enabled)
        self.advanced.set_enabled(enabled)
