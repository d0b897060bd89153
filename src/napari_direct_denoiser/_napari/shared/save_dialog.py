"""Ask where to write a file, and check that it can be written."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ...data.files import check_target


def ask_for_file(
    parent: QWidget, title: str, suggested: str, suffix: str, what: str, *, also: str = "", folder: str = ""
) -> Path | None:
    """Ask where to write a file, and whether to replace one that exists.

    Parameters
    ----------
    parent
        Parent of the dialog.
    title
        Title of the dialog.
    suggested
        A name for the file, without suffix. Characters other than letters and digits become underscores.
    suffix
        Such as ``.npz``; added if it was not entered.
    what
        What to call the file in messages.
    also
        Another suffix that may be entered.
    folder
        Where the dialog begins; empty for the current folder.

    Returns
    -------
    Path or None
        None if the person cancels.

    Raises
    ------
    SettingError
        If no file can be written there.
    """
    name = "".join(character if character.isalnum() else "_" for character in suggested) + suffix
    suffixes = [suffix, also] if also else [suffix]
    kinds = f"{what.capitalize()} ({' '.join(f'*{each}' for each in suffixes)})"
    # Qt would ask about the name before the suffix is added, so the question is asked here
    option = QFileDialog.Option.DontConfirmOverwrite
    written, _ = QFileDialog.getSaveFileName(parent, title, str(Path(folder) / name), kinds, "", option)
    if not written:
        return None
    path = Path(written if written.lower().endswith(tuple(suffixes)) else written + suffix)
    check_target(path, suffixes, what=what)
    if path.exists():
        words = f"{path.name} exists. Replace it?"
        if QMessageBox.question(parent, "Replace?", words) != QMessageBox.StandardButton.Yes:
            return None
    return path
