"""Where a file goes: asked, and checked, before anything is done for it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ...data.files import check_target


def ask_for_file(parent: QWidget, title: str, suggested: str, suffix: str, what: str) -> Path | None:
    """Ask where a file is to be written, and once more before one that is there is replaced.

    Parameters
    ----------
    parent
        Widget that asks.
    title
        Of the dialog.
    suggested
        A name for the file, without suffix; what no file name can hold becomes an underscore.
    suffix
        Such as ``.npz``; added where it was not written.
    what
        What to call the file.

    Returns
    -------
    Path or None
        None if a person would rather not.

    Raises
    ------
    SettingError
        If no file can be written there.
    """
    name = "".join(character if character.isalnum() else "_" for character in suggested) + suffix
    kinds = f"{what.capitalize()} (*{suffix})"
    # Qt would ask about the name as it was written, which may not be that of the file: so it is asked here
    option = QFileDialog.Option.DontConfirmOverwrite
    written, _ = QFileDialog.getSaveFileName(parent, title, name, kinds, "", option)
    if not written:
        return None
    path = Path(written if written.lower().endswith(suffix) else written + suffix)
    check_target(path, [suffix], what=what)
    if path.exists():
        words = f"{path.name} is there already. Replace it?"
        if QMessageBox.question(parent, "Replace?", words) != QMessageBox.StandardButton.Yes:
            return None
    return path
