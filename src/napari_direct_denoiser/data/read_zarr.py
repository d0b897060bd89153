"""OME-Zarr images of version 0.4 and 0.5, and plain zarr arrays, of which single planes are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .files import is_zarr
from .image_file import ImageFile, Index, LazyImage
from .ome_metadata import read_multiscale
from .read_json import LARGEST

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_MOST_BYTES = 2**50
_log = logging.getLogger(__name__)


def _open(path: Path) -> Any:
    """The group or the array in a folder, of which only ordinary files of a sensible size are read."""
    import zarr

    return zarr.open(_store(path), mode="r")


@cache
def _store_class() -> Any:
    from zarr.storage import LocalStore

    class Folder(LocalStore):
        """A folder whose pipes and devices are refused: to read one could take for ever, or all memory."""

        async def get(self, key: str, *args: Any, **options: Any) -> Any:
            _check_ordinary(self.root / key)
            return await super().get(key, *args, **options)

        def get_sync(self, key: str, **options: Any) -> Any:
            _check_ordinary(self.root / key)
            return super().get_sync(key, **options)

    return Folder


def _check_ordinary(file: Path) -> None:
    if not file.exists() or file.is_dir():
        return
    if not file.is_file():
        raise ValueError(f"{file} is no ordinary file")
    if file.name in _METADATA and file.stat().st_size > LARGEST:
        raise ValueError(f"{file} is longer than {LARGEST >> 20} MB")


def _store(path: Path) -> Any:
    return _store_class()(path, read_only=True)


@dataclass(frozen=True)
class ZarrArray:
    """A zarr array."""

    path: Path

    def __reduce__(self) -> Any:
        return ZarrArray, (self.path,)

    @cached_property
    def _array(self) -> Any:
        import zarr

        array = zarr.open_array(_store(self.path), mode="r")
        if array.nbytes > _MOST_BYTES or array.size > _MOST_BYTES:
            raise ImageError(f"Expected at most {_MOST_BYTES >> 50} PiB of pixels, found {array.shape} in {self.path}")
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        dtype: np.dtype[Any] = self._array.dtype
        return dtype

    @property
    def axes(self) -> str | None:
        """One letter for each axis, if the array names its axes so."""
        names = getattr(self._array.metadata, "dimension_names", None) or self._array.attrs.get("_ARRAY_DIMENSIONS")
        letters = [str(name).upper() for name in names or []]
        named = len(letters) == len(self.shape) == len(set(letters)) and all(len(letter) == 1 for letter in letters)
        return "".join(letters) if named else None

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part: an integer or a slice for each axis."""
        return np.asarray(self._array[index])


def open_zarr(path: Path) -> ImageFile:
    """Open the image in a zarr folder, at its full size; errors of any kind if it is damaged.

    Raises
    ------
    ImageError
        If the folder holds several images, or none.
    """
    import zarr
    from tifffile import natural_sorted

    node = _open(path)
    if isinstance(node, zarr.Array):
        return _open_array(path)
    attributes = dict(node.attrs)
    known = _ome(attributes)
    for kind, field in (("plate", "well and field of it, such as A/1/0"), ("well", "field of it, such as 0")):
        if kind in known:
            raise ImageError(f"Expected an image, found the {kind} {path}: name a {field}")
    if "multiscales" in known:
        return _open_ome(path, attributes)
    inside = natural_sorted(child.name for child in path.iterdir() if is_zarr(child))
    nodes = {name: _open(path / name) for name in inside}
    images = [name for name, each in nodes.items() if "multiscales" in _ome(each.attrs)]
    names = images or [name for name, each in nodes.items() if isinstance(each, zarr.Array)]
    if not names:
        raise ImageError(f"Expected an image, found the zarr group {path} without any: check its name")
    if len(names) > 1:
        raise ImageError(f"Expected one image, found {len(names)} in {path}: name one, such as {path / names[0]}")
    return open_zarr(path / names[0])


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of OME-Zarr, which version 0.4 does not set apart."""
    found: Mapping[str, Any] = attributes.get("ome", attributes)
    return found


def _inside(path: Path, name: str) -> Path:
    """The folder of an array of a group, which its metadata must not place anywhere else."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ImageError(
            f"Expected an array within {path}, found {name[:200]!r} in its metadata: name the array itself"
        )
    return path / name


def _open_array(path: Path) -> ImageFile:
    array = ZarrArray(path)
    return ImageFile(LazyImage(path, array, array.axes), array.axes, {"kind": "zarr"})


def _open_ome(path: Path, attributes: Mapping[str, Any]) -> ImageFile:
    try:
        found = read_multiscale(attributes)
    except ValueError as error:
        first = _ome(attributes)["multiscales"][0]["datasets"][0]["path"]
        _log.warning("%s has metadata that are not valid in OME-Zarr 0.4 or 0.5; they are not used (%s)", path, error)
        return _open_array(_inside(path, first))
    array = ZarrArray(_inside(path, found.path))
    if len(array.shape) != len(found.scale):
        raise ImageError(
            f"Expected {len(found.scale)} axes as in the metadata of {path}, found shape {array.shape}: "
            f"name the array itself, {array.path}"
        )
    metadata = {"kind": "ome-zarr", **asdict(found)}
    return ImageFile(LazyImage(path, array, found.axes), found.axes, metadata)
