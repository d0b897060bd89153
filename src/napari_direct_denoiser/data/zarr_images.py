"""Images as zarr folders, written plane by plane, completely or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DenoiserError, SettingError
from .files import check_folder

SUFFIX = ".zarr"
_CHUNK = 1024  # longest side of a chunk in pixels
_REMOVALS, _SETTLE_SECONDS = 20, 0.1  # tries, and the pause between them, to remove a folder in use
_MARKS = ("zarr.json", ".zgroup", ".zarray")
_NGFF_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def check_zarr_target(path: Path, needed_bytes: int = 0) -> None:
    """Check that a zarr folder can be written, before the work starts.

    Raises
    ------
    SettingError
        If `path` has another suffix, or exists and is not a zarr folder, if the folder above it does not exist or
        cannot be written to, or if its disk lacks room.
    """
    if path.suffix != SUFFIX:
        raise SettingError(f"Expected a folder name that ends in {SUFFIX}, found {path.name}: change its suffix")
    check_folder(path.parent, what=path.name)
    if path.exists() and not any((path / mark).exists() for mark in _MARKS):
        raise SettingError(f"Expected a zarr folder to replace, found {path}, which is none: choose another place")
    free = shutil.disk_usage(path.parent).free
    if free < needed_bytes:
        raise SettingError(
            f"Expected {needed_bytes / 1e9:.1f} GB of room for {path.name}, found {free / 1e9:.1f} GB: "
            "choose another disk or fewer outputs"
        )


@contextmanager
def writing_zarr(
    path: Path, shape: Sequence[int], chunks: Sequence[int], attributes: Mapping[str, Any], dtype: str = "float32"
) -> Iterator[Any]:
    """Give a zarr array to fill, in a group that replaces `path` if the block succeeds.

    Parameters
    ----------
    path
        Folder to write; see `check_zarr_target`. An existing zarr folder is replaced at the end.
    shape, chunks
        Shape and chunks of the array, which is called ``0`` in the group.
    attributes
        Attributes of the group: anything that JSON can hold.
    dtype
        Of the array.

    Raises
    ------
    DenoiserError
        If it cannot be written, for example to a full disk.
    """
    import zarr

    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        group = zarr.open_group(str(draft), mode="w", zarr_format=3, attributes=dict(attributes))
        sides = tuple(min(side, _CHUNK) for side in chunks)
        yield group.create_array("0", shape=tuple(shape), chunks=sides, dtype=dtype)
        _put_in_place(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise DenoiserError(f"{path} could not be written ({reason}): make room or choose another place") from error
    finally:
        _remove(draft)


def open_zarr(path: Path) -> Any:
    """Open an image that `writing_zarr` wrote as a dask array whose blocks are its chunks."""
    import dask.array as da
    import zarr

    array = zarr.open_array(str(path / "0"), mode="r")
    # A name of its own: with one made from the path, napari's cache would show the image that was there before.
    return da.from_array(array, chunks=array.chunks, name=False)  # type: ignore[no-untyped-call]


def ngff(axes: str, scale: Sequence[float], translation: Sequence[float], units: Sequence[str]) -> dict[str, Any]:
    """Metadata of an image as in OME-NGFF 0.5; empty where OME-NGFF cannot hold these axes."""
    order = [list("TCZYX").index(axis) if axis in _NGFF_TYPES else -1 for axis in axes]
    if -1 in order or order != sorted(order):
        return {}
    named = [
        {"name": axis.lower(), "type": _NGFF_TYPES[axis], **({} if unit == "pixel" else {"unit": unit})}
        for axis, unit in zip(axes, units, strict=True)
    ]
    moves = [{"type": "scale", "scale": list(scale)}, {"type": "translation", "translation": list(translation)}]
    dataset = {"path": "0", "coordinateTransformations": moves}
    return {"ome": {"version": "0.5", "multiscales": [{"axes": named, "datasets": [dataset]}]}}


def _remove(draft: Path) -> None:
    """Remove a folder; after a failure, threads of zarr may still write chunks into it for a while."""
    for _ in range(_REMOVALS):
        if not draft.exists():
            return
        shutil.rmtree(draft, ignore_errors=True)
        time.sleep(_SETTLE_SECONDS)


def _put_in_place(draft: Path, path: Path) -> None:
    """Rename a finished folder; an existing one is removed only when the new one is in its place."""
    old = draft.with_suffix(".old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(draft, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
