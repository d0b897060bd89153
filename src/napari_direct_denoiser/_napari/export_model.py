"""The command that writes the newest model for other software: ONNX, or a package of bioimage.io."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QApplication

from ..errors import DenoiserError, SettingError
from ..export.extra import require
from .shared.preferences import preferences
from .shared.save_dialog import ask_for_file
from .shared.session import MODELS
from .shared.workers import Job, Update

if TYPE_CHECKING:
    from ..denoiser import Denoiser


def export_model() -> None:
    """Ask for a file, and write the newest model to it in the background."""
    window = QApplication.activeWindow()
    try:
        if not MODELS.all:
            raise SettingError("Expected a model, found none: train one in the Train dock, or load one")
        require("onnx", "yaml")
        model = MODELS.all[-1]
        title, what = f"Export model “{model.name}”", "model for other software"
        path = ask_for_file(window, title, model.name, ".zip", what, also=".onnx", folder=preferences().models_folder)
    except DenoiserError as error:
        show_error(str(error))
        return
    if path is not None:
        job = Job(QApplication.instance())
        job.succeeded.connect(show_info)
        job.failed.connect(lambda error: show_error(str(error)))
        for ended in (job.succeeded, job.failed, job.stopped):
            ended.connect(job.deleteLater)
        job.start(exporting(model.denoiser, path))


def exporting(denoiser: Denoiser, path: Path) -> Generator[Update, None, str]:
    """Write a model as ONNX or as a package of bioimage.io, by the suffix of the file; give words about it."""
    yield Update(f"Writing {path.name} …")
    from ..export.bioimageio_package import export_bioimageio
    from ..export.onnx_file import export_onnx

    (export_onnx if path.suffix.lower() == ".onnx" else export_bioimageio)(denoiser, path)
    return f"Wrote {path.name}"
