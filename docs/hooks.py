"""What mkdocs puts into the pages: the command line and the settings from the code, and equations as MathML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import typer
from latex2mathml.converter import convert
from pydantic import BaseModel
from typer.cli import get_docs_for_click
from typer.main import get_command

from napari_direct_denoiser.cli import app
from napari_direct_denoiser.config import CompareSettings, DenoiseChoices, DenoiseSettings, TrainSettings
from napari_direct_denoiser.presets import PRESETS, ScheduleConfig

COMMAND = "direct-denoiser"
_MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace the markers of a page by what they name."""
    return _MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


def on_page_content(html: str, **kwargs: Any) -> str:
    """Write the equations of a page as MathML, which browsers show without a script."""
    return _EQUATION.sub(lambda match: _mathml(match[2], block=match[1] == "div"), html)


def _mathml(latex: str, *, block: bool) -> str:
    numbered = re.sub(r"\\tag\{(\d+)\}", r"\\qquad (\1)", html.unescape(latex).strip())
    return convert(numbered, display="block" if block else "inline")


def command_line() -> str:
    """All commands and their options, as typer describes them."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name=COMMAND), name=COMMAND)
    return text.partition("\n")[2].replace("(DEPRECATED)", "")


def settings(model: type[BaseModel]) -> str:
    """One row for each field: its name, values, default and docstring."""
    lines = ["| setting | values | default | what it does |", "|---|---|---|---|"]
    schema = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        description = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {_values(schema[name])} | `{field.default}` | {description} |")
    return "\n".join(lines)


def _values(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    names = {"integer": "whole number", "number": "number", "boolean": "`True`, `False`", "string": "text"}
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    parts = [f"{words} {schema[key]:.10g}" for key, words in limits.items() if key in schema]
    return " ".join([names.get(schema["type"], "none" if schema["type"] == "null" else "numbers"), ", ".join(parts)])


def presets() -> str:
    """The schedules of the presets beside each other."""
    lines = ["| | " + " | ".join(f"`{name}`" for name in PRESETS) + " | |", "|---" * (len(PRESETS) + 2) + "|"]
    for name, field in ScheduleConfig.model_fields.items():
        values = " | ".join(str(getattr(preset.schedule, name)) for preset in PRESETS.values())
        lines.append(f"| `{name}` | {values} | {' '.join((field.description or '').split())} |")
    return "\n".join(lines)


GENERATED: dict[str, Callable[[], str]] = {
    "command line": command_line,
    "presets": presets,
    "TrainSettings": lambda: settings(TrainSettings),
    "DenoiseSettings": lambda: settings(DenoiseSettings),
    "DenoiseChoices": lambda: settings(DenoiseChoices),
    "CompareSettings": lambda: settings(CompareSettings),
}
