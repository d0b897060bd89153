"""OME-Zarr images that are written block by block; an interrupted one is gone on with."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..config import OmeZarrVersion
from ..errors import DenoiserError, SettingError
from .axes import Region
from .files import check_folder, is_zarr
from .ome_metadata import write_multiscale
from .pyramid import Level, halved, halved_region, pyramid

SUFFIX = ".zarr"
_IDENTITY = "napari_direct_denoiser_made_by"
_CHUNK: dict[OmeZarrVersion, int] = {"0.4": 1024, "0.5": 512}  # longest side, pixels
_REMOVALS, _SETTLE_SECONDS = 20, 0.1  # tries, and the pause between them, to remove a folder in use


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
    if path.exists() and not is_zarr(path):
        raise SettingError(f"Expected a zarr folder to replace, found {path}, which is none: choose another place")
    free = shutil.disk_usage(path.parent).free
    if free < needed_bytes:
        raise SettingError(
            f"Expected {needed_bytes / 1e9:.1f} GB of room for {path.name}, found {free / 1e9:.1f} GB: "
            "choose another disk or fewer outputs"
        )


def finished_identity(path: str | Path) -> Mapping[str, Any] | None:
    """What a finished image was made by: the ``identity`` of `ZarrImage.create`; None if there is none."""
    import zarr

    try:
        found = zarr.open_group(str(path), mode="r").attrs.get(_IDENTITY)
    except (OSError, ValueError, KeyError):  # no zarr group, or a damaged one
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True, eq=False)
class ZarrImage:
    """An OME-Zarr image that is written block by block, with a pyramid; made by `create`.

    The image is written to a draft beside it. A block is complete or absent, whenever the process is killed. Several
    processes may write different blocks of one image, which is picklable.

    Attributes
    ----------
    path
        Folder of the finished image.
    levels
        The zarr arrays of the draft: the full size, then ever half of it along Y and X.
    axes
        One capital letter for each axis.
    resumable
        Whether the draft is gone on with by the next `create`.
    """

    path: Path
    levels: tuple[Any, ...]
    axes: str
    resumable: bool

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape: Sequence[int],
        axes: str,
        dtype: DTypeLike,
        *,
        block: tuple[int, int],
        version: OmeZarrVersion = "0.5",
        scale: Sequence[float] | None = None,
        translation: Sequence[float] | None = None,
        units: Sequence[str | None] | None = None,
        attributes: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> ZarrImage:
        """Begin an image, or go on with one that was interrupted.

        Parameters
        ----------
        path
            Folder to write, which ends in .zarr; see `check_zarr_target`. `finish` replaces an image that is there.
        shape, axes
            Of the image: one capital letter for each axis, Y and X among them. OME-Zarr cannot hold all axes, see
            `write_multiscale`; if not these, the image has neither OME metadata nor a pyramid.
        dtype
            Of the pixels.
        block
            Sides along Y and X of what is written at once, pixels: those of the plane or larger, or of tiles of it.
        version
            Of OME-Zarr. In 0.5, a block is one file (shard) in each level.
        scale, translation, units
            For each axis: distance of two pixels, position of the first one, unit (None for pixels).
        attributes
            Further attributes of the image: anything that JSON can hold.
        identity
            What the pixels depend on: anything that JSON can hold. The draft of an image of the same identity is gone
            on with. None: the image is always begun anew.

        Raises
        ------
        SettingError
            As `check_zarr_target`, or if there is a draft of another identity.
        DenoiserError
            If it cannot be written, for example to a full disk.
        """
        path, axes, dtype = Path(path), axes.upper(), np.dtype(dtype).newbyteorder("=")
        layout = pyramid(shape, axes, block, _CHUNK[version])
        position = (scale or [1.0] * len(axes), translation or [0.0] * len(axes), units or [None] * len(axes))
        described = write_multiscale(version, axes, len(layout), *position)
        layout = layout if described else layout[:1]
        own = {} if identity is None else {_IDENTITY: json.loads(json.dumps(identity))}
        resumable = identity is not None
        resumed = resumable and _is_draft_of(path, own[_IDENTITY], version, layout, dtype)
        check_zarr_target(path, 0 if resumed else dtype.itemsize * sum(math.prod(level.shape) for level in layout))
        with _writing(path, resumable):
            if not resumed:
                _make(draft_of(path), version, axes, dtype, layout, {**(attributes or {}), **described, **own})
            return cls(path, _open_levels(draft_of(path), len(layout)), axes, resumable)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self.levels[0].shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        dtype: np.dtype[Any] = self.levels[0].dtype
        return dtype

    def is_done(self, region: Region) -> bool:
        """Whether all pixels of a region are written; one slice for each axis."""
        array = self.levels[0]
        blocks = [
            range(part.start // side, -(-part.stop // side))
            for part, side in zip(_whole(region, self.shape), array.shards or array.chunks, strict=True)
        ]
        folder = draft_of(self.path) / "0"
        return all(_is_written(folder / array.metadata.encode_chunk_key(block)) for block in product(*blocks))

    def __getitem__(self, region: Region) -> NDArray[Any]:
        """Read pixels; zeros where none are written."""
        return np.asarray(self.levels[0][region])

    def __setitem__(self, region: Region, pixels: ArrayLike) -> None:
        """Write whole blocks: one slice for each axis, and pixels of that shape in the dtype of the image.

        Raises
        ------
        DenoiserError
            If it cannot be written, for example to a full disk.
        """
        values, part = np.asarray(pixels), _whole(region, self.shape)
        writes = []
        for level in self.levels:
            _check_blocks(level, part)
            writes.append((level, part, values))
            if level is not self.levels[-1]:
                values, part = halved(values, self.axes), halved_region(part, self.axes)
        with _writing(self.path, self.resumable):
            for level, part, values in reversed(writes):  # the full size is last: with it, the block is done
                level[part] = values

    def finish(self) -> None:
        """Put the complete draft in its place.

        Raises
        ------
        DenoiserError
            If that is not possible, for example because another program has opened files of an image that is replaced.
        """
        draft = draft_of(self.path)
        with _writing(self.path, self.resumable):
            for stray in draft.rglob("*.partial"):  # zarr was killed when it wrote them
                stray.unlink()
            _put_in_place(draft, self.path)

    def discard(self) -> None:
        """Remove the draft."""
        _remove(draft_of(self.path))


def _make(
    draft: Path,
    version: OmeZarrVersion,
    axes: str,
    dtype: np.dtype[Any],
    layout: Sequence[Level],
    attributes: Mapping[str, Any],
) -> None:
    """Make the arrays of a new draft, which have no pixels yet."""
    import zarr

    _remove(draft)
    group = zarr.create_group(str(draft), zarr_format=2 if version == "0.4" else 3)
    names = [axis.lower() for axis in axes]
    for number, level in enumerate(layout):
        # Blosc cuts large chunks for its threads, and puts the parts in the order in which they are ready: one part.
        blosc = {"cname": "zstd", "clevel": 1, "blocksize": math.prod(level.chunks) * dtype.itemsize}
        form: dict[str, Any] = {
            "compressors": {
                "name": "blosc",
                "configuration": {**blosc, "shuffle": "shuffle", "typesize": dtype.itemsize},
            },
            "shards": level.blocks,
            "dimension_names": names,
        }
        if version == "0.4":
            form = {
                "compressors": {"id": "blosc", **blosc, "shuffle": 1},
                "chunk_key_encoding": {"name": "v2", "separator": "/"},
                "attributes": {"_ARRAY_DIMENSIONS": names},  # as xarray names them
            }
        group.create_array(str(number), shape=level.shape, dtype=dtype, chunks=level.chunks, fill_value=0, **form)
    group.attrs.put(dict(attributes))  # last: a draft without them was killed before, and is of no use


def _open_levels(draft: Path, count: int) -> tuple[Any, ...]:
    import zarr

    # Chunks of zeros are written, too: what is written is done.
    config = {"write_empty_chunks": True}
    return tuple(zarr.open_array(str(draft / str(number)), mode="r+", config=config) for number in range(count))


def _is_draft_of(
    path: Path, identity: Any, version: OmeZarrVersion, layout: Sequence[Level], dtype: np.dtype[Any]
) -> bool:
    """Whether there is a draft to go on with.

    Raises
    ------
    SettingError
        If there is one of another identity or layout.
    """
    import zarr

    draft = draft_of(path)
    found = finished_identity(draft)
    if found is None:  # none, or one that cannot be gone on with
        return False
    if found == identity:
        arrays = dict(zarr.open_group(str(draft), mode="r").arrays())
        forms = {name: (array.shape, array.chunks, array.shards, array.dtype) for name, array in arrays.items()}
        if forms == {
            str(number): (level.shape, level.chunks, level.blocks if version == "0.5" else None, dtype)
            for number, level in enumerate(layout)
        }:
            return True
    raise SettingError(
        f"Expected an unfinished image of the same model, settings and source, found {draft} of another run: "
        "remove it, or choose another output"
    )


def _whole(region: Region, shape: Sequence[int]) -> Region:
    """A region with both bounds along each axis."""
    return tuple(slice(*part.indices(side)[:2]) for part, side in zip(region, shape, strict=True))


def _check_blocks(level: Any, region: Region) -> None:
    """Refuse a part of a block: of two parts that are written at once, one could be lost."""
    for part, side, block in zip(region, level.shape, level.shards or level.chunks, strict=True):
        if part.start % block or (part.stop % block and part.stop != side):
            raise ValueError(f"Expected blocks of {block} pixels, found {part.start} to {part.stop} of {side}")


def _is_written(file: Path) -> bool:
    try:
        return file.stat().st_size > 0  # after a power failure, a file may have lost its content
    except OSError:
        return False


def draft_of(path: Path) -> Path:
    """Folder that an image is written to until it is complete."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def _writing(path: Path, resumable: bool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        mend = (
            "make room and start again, what is written is kept" if resumable else "make room or choose another place"
        )
        raise DenoiserError(f"{path} could not be written ({reason}): {mend}") from error


def _remove(folder: Path) -> None:
    """Remove a folder; after a failure, threads of zarr may still write chunks into it for a while."""
    for _ in range(_REMOVALS):
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_SETTLE_SECONDS)


def _put_in_place(draft: Path, path: Path) -> None:
    """Rename a finished folder; an existing one is removed only when the new one is in its place."""
    old = draft.with_suffix(".old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)  # of a run that was killed
        os.replace(path, old)
    try:
        os.replace(draft, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
