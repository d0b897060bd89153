"""Output files and folders: checked before the work starts, and written completely or not at all."""

from __future__ import annotations

import glob
import os
import platform
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ..errors import DenoiserError, SettingError

IMAGE_SUFFIXES = (".tif", ".tiff", ".npy", ".zarr")
"""Of the files, and of the folders (zarr), that hold an image."""
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
_NAMESPACE = Path("/proc/self/ns/pid")  # of the numbers of processes; Linux alone has it


def is_zarr(path: str | Path) -> bool:
    """Whether there is a zarr group or array."""
    return any(Path(path, name).exists() for name in _ZARR_FILES)


def check_folder(folder: str | Path, *, what: str = "output", create: bool = False) -> None:
    """Check that files can be written into a folder, without writing any.

    Parameters
    ----------
    folder
        The folder.
    what
        What is to be written there, for the error.
    create
        The folder may be missing, if it can be made in the folder above it.

    Raises
    ------
    SettingError
        If it is a file, does not exist, or cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"Expected a folder for the {what}, found the file {folder}: choose another name")
    if create and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise SettingError(f"Folder {folder} does not exist: create it first")
    if not os.access(folder, os.W_OK):
        raise SettingError(f"Folder {folder} cannot be written to: choose another for the {what}")


def check_target(path: str | Path, suffixes: Sequence[str], *, what: str = "output") -> None:
    """Check that a file can be written, without writing it.

    Parameters
    ----------
    path
        The file to write.
    suffixes
        Allowed suffixes, such as ``[".tif", ".npy"]``, in upper or lower case.
    what
        What to call the file in an error.

    Raises
    ------
    SettingError
        If the suffix is another one, `path` is a folder, or as `check_folder`.
    """
    path = Path(path)
    if path.is_dir():
        raise SettingError(f"Expected a file name for the {what}, found the folder {path}: add a file name")
    if path.suffix.lower() not in suffixes:
        expected = " or ".join(suffixes)
        raise SettingError(f"Expected the {what} to end in {expected}, found {path.name}: change its suffix")
    check_folder(path.parent, what=what)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a draft to write; it replaces `path` if the block succeeds, and is deleted if not.

    The draft of a process that is killed stays until the file is written again, or removed.

    Raises
    ------
    DenoiserError
        If the file cannot be written, for example to a full disk.
    """
    path = Path(path)
    _remove_abandoned(path)
    draft = path.with_name(_draft_name(path.name, os.getpid()))
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        # numpy tells no reason, only "16384 requested and 512 written".
        reason = error.strerror or ("no room for all of it" if " requested and " in str(error) else error)
        raise DenoiserError(f"{path} could not be written ({reason}): make room or choose another place") from error
    finally:
        with suppress(OSError):  # a read-only disk does not even delete what is not there
            draft.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file if there is one, and drafts of it that killed processes left."""
    _remove_abandoned(path)
    path.unlink(missing_ok=True)


def _draft_name(name: str, process: int | str) -> str:
    """Name of the file that a process writes; only within a folder can it surely be renamed.

    The number of a process means something only on its computer, and within its container.
    """
    namespace = _NAMESPACE.stat().st_ino if _NAMESPACE.exists() else 0
    place = zlib.crc32(f"{platform.node()} {namespace}".encode())
    return f".{name}.{place:08x}-{process}.part"


def _remove_abandoned(path: Path) -> None:
    """Remove what processes of this computer and container left that were killed when they wrote this file."""
    for draft in path.parent.glob(_draft_name(glob.escape(path.name), "*")):
        process = draft.stem.rpartition("-")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            with suppress(OSError):
                draft.unlink()
