"""Output files: checked before the work starts, and there only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DenoiserError, SettingError


def check_target(path: str | Path, suffixes: Sequence[str], *, what: str = "output") -> None:
    """Find out whether a file can be written, without writing it.

    Parameters
    ----------
    path
        The file to write.
    suffixes
        The suffixes it may have, such as ``[".tif", ".npy"]``; upper case will do too.
    what
        What to call the file in an error.

    Raises
    ------
    SettingError
        If the suffix is another, the folder does not exist or cannot be written to, or `path` is a folder.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise SettingError(f"Expected a file name for the {what}, found the folder {path}: add a file name")
    if path.suffix.lower() not in suffixes:
        expected = " or ".join(suffixes)
        raise SettingError(f"Expected the {what} to end in {expected}, found {path.name}: change its suffix")
    if not folder.is_dir():
        raise SettingError(f"Expected an existing folder for the {what}, found no {folder}: create it first")
    if not os.access(folder, os.W_OK):
        raise SettingError(f"Expected a folder that can be written to, found {folder}: choose another for the {what}")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a new file to write, which takes the place of `path` if all goes well and vanishes if not.

    Raises
    ------
    DenoiserError
        If the file cannot be written, for example to a full disk.
    """
    path = Path(path)
    # in the same folder, as a file can be renamed within one disk only
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise DenoiserError(f"Expected to write {path}, found: {reason}: make room or choose another place") from error
    finally:
        draft.unlink(missing_ok=True)
