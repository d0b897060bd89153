"""Forms made from the settings: one control for each field, with the description of the field as its tooltip."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, FloatSpinBox, SpinBox, create_widget
from magicgui.widgets.bases import ValueWidget
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QFormLayout

from ...config import Config

_LABELS = {
    "loss": "Direct loss",
    "structured": "Structured noise",
    "student_only": "Direct only",
    "student_size": "Direct size",
    "max_minutes": "Minutes",
    "max_steps": "Steps",
    "direct_std": "Standard deviation",
    "std": "Standard deviation",
    "dtype": "Data type",
}
_CHOICES = {
    "l2": "L2: learn the mean",
    "l1": "L1: learn the median",
    "tukey": "Tukey: learn the densest part",
    "perceptual": "Perceptual: sharper",
    "quantile:0.05": "Quantile 0.05: lower limit",
    "quantile:0.95": "Quantile 0.95: upper limit",
    "hdn": "HDN",
    "divnoising": "DivNoising",
    "auto": "Automatic",
    "quick": "Quick: minutes",
    "balanced": "Balanced: longer, a little better",
    "paper": "Paper: a day on a GPU",
    "float32": "float32",
    "same": "As the image",
}
_NO_LIMIT = "as the preset"


def control(settings: type[Config], name: str, choices: list[str] | None = None) -> ValueWidget:
    """Make the control of one field, with its default, its limits, and its description as the tooltip.

    An optional number is a spin box whose lowest value, 0, means "not given".
    """
    field = settings.model_fields[name]
    kind, optional = _plain_type(field.annotation)
    options: dict[str, Any] = {"tooltip": field.description}
    value = field.default
    if get_origin(kind) is Literal or choices:
        values = choices or list(get_args(kind))
        value = value if value in values else values[0]
        options["choices"] = [(_CHOICES.get(each, each.capitalize()), each) for each in values]
    elif kind in (int, float):
        value = value or 0
        options |= {"min": _lowest(field, optional), "max": _highest(field)}
    label = _LABELS.get(name, name.replace("_", " ").capitalize())
    widget = create_widget(value, kind, name=name, label=label, options=options)
    if isinstance(widget, CheckBox):
        widget.native.setText("")  # the label stands in the column of labels
    if optional:  # create_widget knows no optional numbers
        widget.native.setSpecialValueText(_NO_LIMIT)
    return widget


class Form(QFormLayout):
    """Controls in labelled rows, accessible by name."""

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
        """Enable or disable the controls."""
        for control in self.controls.values():
            control.enabled = enabled


def duration(seconds: float) -> str:
    """Format a duration: ``8 s``, ``2 min 10 s``, ``1 h 05 min``."""
    whole = max(round(seconds), 0)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """Remove ``| None`` from a type; also return whether it was there."""
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
