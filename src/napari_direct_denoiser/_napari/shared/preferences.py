"""What a person set in File > Preferences > Direct Denoiser; `napari.yaml` declares it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog, QWidget

from ...config import Device
from .open_dock import PLUGIN


@dataclass(frozen=True)
class Preferences:
    """The preferences, with the defaults that hold where napari stores none: before version 0.9."""

    device: Device = "auto"
    minutes: float = 0.0
    """Minutes of training; 0 for those of the preset."""
    models_folder: str = ""


def preferences() -> Preferences:
    """Read the preferences as they are now."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Preferences()
    try:
        chosen = get_plugin_settings(PLUGIN).docks
    except KeyError:  # a dock that a script opens without the plugin
        return Preferences()
    return Preferences(chosen.device, chosen.minutes, chosen.models_folder)


def models_folder() -> str:
    """Folder in which dialogs for model files begin; empty for the current one. A missing one is a warning."""
    written = preferences().models_folder.strip()
    if not written:
        return ""
    folder = Path(written).expanduser()
    if folder.is_dir():
        return str(folder)
    show_warning(
        f"Expected the folder of models in File > Preferences > Direct Denoiser, found none at {folder}: create it, or "
        "change the preference"
    )
    return ""


def ask_for_model(parent: QWidget) -> Path | None:
    """Ask for a model file to load; None if the person cancels."""
    path, _ = QFileDialog.getOpenFileName(parent, "Load model", models_folder(), "Model (*.safetensors)")
    return Path(path) if path else None
