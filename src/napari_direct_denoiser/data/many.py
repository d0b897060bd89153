"""Image files that are named by a folder or a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import ImageError
from .files import IMAGE_SUFFIXES, is_zarr

_ENDINGS = ", ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)


def find_images(arguments: Sequence[str | Path]) -> list[Path]:
    """Find the image files that a user names.

    Parameters
    ----------
    arguments
        Each is an image file, a folder of them, or a pattern such as ``folder/*.tif`` (``**`` includes the folders
        below). A zarr folder is an image. Hidden files are left out of folders and patterns.

    Returns
    -------
    list of Path
        In the order of the arguments, and for each of them in natural order (2 before 10); none twice.

    Raises
    ------
    ImageError
        If an argument names no image.
    """
    found = (path for argument in arguments for path in _find(os.path.expanduser(argument)))
    return list(dict.fromkeys(found))


def _find(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir() and path.suffix.lower() not in IMAGE_SUFFIXES and not is_zarr(path):
        images = _images(path.iterdir())
        if not images:
            raise ImageError(f"Expected images in the folder {path} ({_ENDINGS}), found none: give another folder")
        return images
    if path.exists():  # also where its name looks like a pattern
        return [path]
    if not glob.has_magic(argument):
        raise ImageError(f"Expected an image file, found no {path}: check its name")
    images = _images(map(Path, glob.glob(argument, recursive=True)))
    if not images:
        raise ImageError(f"Expected images ({_ENDINGS}), found none that match {argument}: check the pattern")
    return images


def _images(paths: Iterable[Path]) -> list[Path]:
    """Keep image files, in natural order."""
    from tifffile import natural_sorted

    kept = (path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
    return [Path(path) for path in natural_sorted(map(str, kept))]
