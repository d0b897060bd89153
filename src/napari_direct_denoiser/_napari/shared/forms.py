"""Forms made from the settings: one control a field, with the field's description as its tooltip."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QFormLayout

from ...config import Config

_LABELS = {
    "loss": "Direct loss",
    "structured": "Structured noise",
    "max_minutes": "Minutes",
    "max_steps": "Steps",
    "std": "Standard deviation",
}
_CHOICES = {
    "l2": "L2: learn the mean",
    "l1": "L1: learn the median",
    "auto": "Automatic: by device",
    "quick": "Quick: minutes",
    "balanced": "Balanced: longer, for a GPU",
    "paper": "Paper: a day on a GPU",
}
_NO_LIMIT = "as the preset"


def control(settings: type[Config], name: str, choices: list[str] | None = None) -> ValueWidget:
    """Make the control of one field: its default, its limits, and its description as the tooltip.

    An optional number is a spin box whose lowest value, 0, means "not given".
    """
    field = settings.model_fields[name]
    kind, optional = _plain_type(field.annotation)
    common = {
        "name": name,
        "label": _LABELS.get(name, name.replace("_", " ").capitalize()),
        "tooltip": field.description,
        "value": field.default,
    }
    if get_origin(kind) is Literal:
        values = choices or list(get_args(kind))
        common["value"] = field.default if field.default in values else values[0]
        return ComboBox(choices=[(_CHOICES.get(value, value.capitalize()), value) for value in values], **common)
    if kind is bool:
        box = CheckBox(**common)
        box.native.setText("")  # the label stands in the column of labels
        return box
    if kind is str:
        return LineEdit(**common)
    spin_box = FloatSpinBox if kind is float else SpinBox
    common["value"] = field.default or 0
    widget = spin_box(min=_lowest(field, optional), max=_highest(field), **common)
    if optional:
        widget.native.setSpecialValueText(_NO_LIMIT)
    return widget


class Form(QFormLayout):
    """Controls in labelled rows, each found again by its name."""

    def __init__(self, controls: Sequence[ValueWidget]) -> None:
        super().__init__()
        self.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.controls = {control.name: control for control in controls}
        for control in controls:
            self.addRow(control.label, control.native)
            self.labelForField(control.native).setToolTip(control.tooltip)

    def __getitem__(self, name: str) -> ValueWidget:
        return self.controls[name]

    def values(self) -> dict[str, Any]:
        """Read all controls, with ``None`` where an optional number is not given."""
        return {name: None if _is_not_given(control) else control.value for name, control in self.controls.items()}

    def set_enabled(self, enabled: bool) -> None:
        """Let a person change the controls, or not."""
        for control in self.controls.values():
            control.enabled = enabled


def duration(seconds: float) -> str:
    """Say a duration as a person does: ``8 s``, ``2 min 10 s``, ``1 h 05 min``."""
    whole = max(round(seconds), 0)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """Take ``| None`` off a type, and say whether it was there."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not types.NoneType), True
    return annotation, False


def _lowest(field: FieldInfo, optional: bool) -> int:
    return 0 if optional else next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), 0)


def _highest(field: FieldInfo) -> int:
    return next((limit.lt - 1 for limit in field.metadata if hasattr(limit, "lt")), 10_000_000)


def _is_not_given(control: ValueWidget) -> bool:
    number = isinstance(control, FloatSpinBox | SpinBox)
    return number and control.value == 0 and bool(control.native.specialValueText())
