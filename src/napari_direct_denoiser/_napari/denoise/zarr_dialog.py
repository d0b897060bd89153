"""Where zarr folders go: asked, and checked, before the work starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ...data.zarr_images import check_zarr_target
from ...errors import SettingError


def ask_for_folder(parent: QWidget) -> Path | None:
    """Ask for the folder that zarr folders are to be written to; None if a person would rather not."""
    folder = QFileDialog.getExistingDirectory(parent, "Folder for the zarr folders")
    return Path(folder) if folder else None


def may_write(parent: QWidget, needed_bytes: Mapping[Path, int], source: Path | None) -> bool:
    """Find out whether zarr folders can be written, and ask before those that are there are replaced.

    Parameters
    ----------
    parent
        Widget that asks.
    needed_bytes
        Bytes of each folder, uncompressed.
    source
        What is being denoised, if it lies on disk.

    Raises
    ------
    SettingError
        If they cannot be written, or one is what is being denoised.
    """
    for path in needed_bytes:
        check_zarr_target(path, sum(needed_bytes.values()))
        if source is not None and path.resolve() in (source.resolve(), *source.resolve().parents):
            raise SettingError(f"Expected another place than that of the image itself, found {path}: choose another")
    there = [path.name for path in needed_bytes if path.exists()]
    if not there:
        return True
    words = f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already. Replace?"
    return QMessageBox.question(parent, "Replace?", words) == QMessageBox.StandardButton.Yes
