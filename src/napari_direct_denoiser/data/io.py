"""Image files: opened by their kind, and written. How an image is written is planned before it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import ImageError, SettingError, reason
from .axes import guess_axes
from .dtypes import to_dtype
from .files import check_target, is_zarr, replacing
from .image_file import ImageFile, LazyImage, MappedArray
from .npy_header import read_header
from .pixel_size import tiff_metadata
from .read_tiff import open_tiff
from .read_zarr import open_zarr

__all__ = [
    "ImageFile",
    "WritePlan",
    "check_output",
    "open_image",
    "plan_image",
    "read_image",
    "write_image",
    "write_planned",
]

_TIFF = (".tif", ".tiff")
_SUFFIXES = (*_TIFF, ".npy")
_IMAGEJ_BYTES = 2**32 - 2**16  # an ImageJ file is a classic TIFF, which holds 4 GiB
_CLASSIC_BYTES = 2**32 - 2**25  # more than this is written as BigTIFF, as tifffile does
_OME_AXES = "TZCAPRHEQ"  # beside Y and X; what tifffile writes
_IMAGEJ_DTYPES = frozenset({"uint8", "uint16", "float32"})
_OME_DTYPES = _IMAGEJ_DTYPES | {"int8", "int16", "int32", "uint32", "float64"}
_TIFF_DTYPES = _OME_DTYPES | {"int64", "uint64", "float16"}


def open_image(path: str | Path) -> ImageFile:
    """Open an image file: TIFF (ImageJ, OME or other), npy or zarr (OME-Zarr or other).

    Returns
    -------
    ImageFile
        Its ``data`` are a `LazyImage`: they are read when they are asked for.

    Raises
    ------
    ImageError
        If the file is missing, a folder other than a zarr, empty, of another kind, or damaged.
    """
    path = Path(path)
    _check_source(path)
    try:
        if is_zarr(path):
            return open_zarr(path)
        if path.suffix.lower() in _TIFF:
            return open_tiff(path)
        return _open_npy(path)
    except ImageError:
        raise
    except Exception as error:  # damaged files make the readers raise errors of every kind
        kind = "zarr folder" if path.is_dir() else "TIFF" if path.suffix.lower() in _TIFF else "npy file of numbers"
        raise ImageError(
            f"Expected a {kind}, found {path} which cannot be read as one ({reason(error)}): convert it"
        ) from error


def read_image(path: str | Path) -> ImageFile:
    """Read an image file into memory.

    Raises
    ------
    ImageError
        As `open_image`, or if a plane is damaged.
    """
    file = open_image(path)
    return replace(file, data=np.asarray(file.data))


def check_output(path: str | Path) -> None:
    """Check that an image can be written to `path`, before the work starts.

    Raises
    ------
    SettingError
        If the folder does not exist or cannot be written to, `path` is a folder, or its suffix is unknown.
    """
    check_target(path, _SUFFIXES, what="output image")


@dataclass(frozen=True)
class WritePlan:
    """How an image is going to be written; made by `plan_image` before any computing."""

    path: Path
    kind: Literal["npy", "imagej", "ome", "plain"]
    """npy, or which kind of TIFF."""
    shape: tuple[int, ...]
    """Of the array in the file. An OME-TIFF may lack axes of length 1 of the image."""
    axes: str
    """One letter for each axis in the file."""
    metadata: Mapping[str, Any]
    """Resolution, pixel size and time step, as in `ImageFile`."""
    dtype: np.dtype[Any]
    """Of the array in the file."""
    streams: bool
    """Whether the image may be written plane by plane: Y and X are last, and there is no axis of samples."""

    @property
    def nbytes(self) -> int:
        """Size of the pixels in the file."""
        return self.dtype.itemsize * math.prod(self.shape)


def plan_image(
    path: str | Path,
    shape: tuple[int, ...],
    like: ImageFile | None = None,
    *,
    samples: int | None = None,
    dtype: DTypeLike = np.float32,
) -> WritePlan:
    """Decide how an image will be written; reads and writes nothing.

    Parameters
    ----------
    path
        File to write: .tif, .tiff or .npy. A name that ends in .ome.tif asks for an OME-TIFF.
    shape
        Shape of the image, without the axis of samples.
    like
        The file that the image was made from. Axes, pixel size and kind of TIFF (ImageJ, OME) are kept where the new
        file can hold them.
    samples
        Number of samples of the image, which are one more axis in front; None for the image itself.
    dtype
        Of the pixels in the file; see `to_dtype`.

    Raises
    ------
    SettingError
        If the name asks for an OME-TIFF, which cannot hold the axes or the dtype, or for a TIFF, which cannot hold
        the dtype.
    """
    path, dtype = Path(path), np.dtype(dtype).newbyteorder("=")
    axes = (like and like.axes) or (guess_axes(len(shape)) if len(shape) <= 5 else "ABD"[: len(shape) - 5] + "PTZYX")
    letters, full = axes, shape
    if samples is not None:
        letters, full = next(letter for letter in "NMBD" if letter not in axes) + axes, (samples, *shape)
    streams = samples is None and axes.endswith("YX")
    if path.suffix.lower() not in _TIFF:
        return WritePlan(path, "npy", full, letters, {}, dtype, streams)
    if dtype.name not in _TIFF_DTYPES:
        raise SettingError(f"Expected numbers that a TIFF can hold, found {dtype}: write float32, or a .npy file")
    named_ome = path.stem.lower().endswith(".ome")
    kind = like.metadata.get("kind", "imagej") if like else "imagej"
    fits = dtype.itemsize * math.prod(full) < _IMAGEJ_BYTES
    wanted = "ome" if named_ome or "ome" in kind or (kind == "imagej" and not fits) else kind
    if wanted == "ome":
        held = _ome_axes(letters, full) if dtype.name in _OME_DTYPES else None
        if held is not None:
            return WritePlan(path, "ome", *held, _metadata(like, "ome", letters), dtype, streams)
        if named_ome:
            raise SettingError(
                "Expected at most three axes before Y and X and no 64-bit integers or float16 for an OME-TIFF, found "
                f"axes {letters} of shape {full}, {dtype}: name the output "
                f"{path.name[: -len('.ome' + path.suffix)]}{path.suffix} instead"
            )
    if wanted != "plain":
        held = _imagej_axes(letters, full, dtype)
        if held is not None:
            return WritePlan(path, "imagej", *held, _metadata(like, "imagej", letters), dtype, streams)
    return WritePlan(path, "plain", full, letters, _metadata(like, "plain", letters), dtype, streams)


def write_planned(plan: WritePlan, data: ArrayLike | Iterator[ArrayLike]) -> int:
    """Write an image in the planned dtype, completely or not at all.

    Parameters
    ----------
    plan
        What `plan_image` made for an image of this shape.
    data
        The image, or samples of it with one more axis in front. If the plan streams, an iterator of its planes in
        their order in memory, of which one is held at a time. float32, or in the planned dtype.

    Returns
    -------
    int
        How many pixels were clipped to the range of the dtype; see `to_dtype`.

    Raises
    ------
    DenoiserError
        If the file cannot be written, for example to a full disk.
    """
    import tifffile

    clipped = 0

    def converted(part: ArrayLike) -> NDArray[Any]:
        nonlocal clipped
        pixels = np.asarray(part)
        if pixels.dtype != plan.dtype:
            pixels, beyond = to_dtype(pixels, plan.dtype)
            clipped += beyond
        return pixels

    content: Any
    if isinstance(data, Iterator):
        content = (converted(plane).reshape(plan.shape[-2:]) for plane in data)
    else:
        content = converted(data).reshape(plan.shape)
    with replacing(plan.path) as draft:
        if plan.kind == "npy":
            _write_npy(draft, plan, content)
        else:
            tifffile.imwrite(
                draft,
                content,
                shape=plan.shape,
                dtype=plan.dtype,
                photometric="minisblack",  # three planes are no colours
                imagej=plan.kind == "imagej",
                ome=plan.kind == "ome",
                bigtiff=plan.kind != "imagej" and plan.nbytes > _CLASSIC_BYTES,
                resolution=plan.metadata.get("resolution"),
                resolutionunit=plan.metadata.get("resolutionunit"),
                metadata={"axes": plan.axes, **plan.metadata.get("fields", {})},
            )
    return clipped


def _write_npy(path: Path, plan: WritePlan, content: NDArray[Any] | Iterator[NDArray[Any]]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(plan.dtype), "fortran_order": False, "shape": plan.shape}
    parts = content if isinstance(content, Iterator) else iter([content])
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            part.tofile(file)


def write_image(path: str | Path, data: ArrayLike, like: ImageFile | None = None) -> None:
    """Write an image as float32, completely or not at all: `check_output`, `plan_image` and `write_planned` in one.

    Parameters
    ----------
    path
        File to write: .tif, .tiff or .npy.
    data
        An image with the axes of `like`, or samples of it with one more axis in front.
    like
        The file that the image was made from; see `plan_image`.

    Raises
    ------
    SettingError
        As `check_output` and `plan_image`.
    DenoiserError
        As `write_planned`.
    """
    check_output(path)
    shape = np.shape(data)
    samples = None
    if like is not None and len(shape) == like.data.ndim + 1:
        samples, shape = shape[0], shape[1:]
    write_planned(plan_image(path, shape, like, samples=samples), data)


def _check_source(path: Path) -> None:
    if is_zarr(path):
        return
    if path.is_dir():
        raise ImageError(f"Expected an image file, found the folder {path}: give a file in it")
    if not path.exists():
        raise ImageError(f"Expected an image file, found no {path}: check its name")
    if not path.is_file():  # to read a pipe could take for ever
        raise ImageError(f"Expected an image file, found the pipe or device {path}: give a file")
    if path.suffix.lower() not in _SUFFIXES:
        raise ImageError(f"Expected a .tif, .tiff, .npy or .zarr, found {path}: convert it, or correct its suffix")
    if not path.stat().st_size:
        raise ImageError(f"Expected an image file, found {path} with 0 bytes: it is empty, copy or save it again")


def _open_npy(path: Path) -> ImageFile:
    with open(path, "rb") as stream:
        header = read_header(stream, path.stat().st_size)
        array = MappedArray(path, stream.tell(), header.shape, header.dtype, "F" if header.fortran_order else "C")
    return ImageFile(LazyImage(path, array))


def _metadata(like: ImageFile | None, kind: str, axes: str) -> dict[str, Any]:
    """Resolution and fields for a TIFF of this kind."""
    if like is None:
        return {}
    kept = {name: like.metadata[name] for name in ("resolution", "resolutionunit") if name in like.metadata}
    if kind == like.metadata.get("kind") or (kind == "plain" and kept):
        return {**kept, "fields": like.metadata.get("fields", {})}
    return {**kept, "fields": {}, **tiff_metadata(kind, like, axes)}


def _imagej_axes(axes: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], str] | None:
    """Shape and axes in an ImageJ file; None if it cannot hold them. ImageJ knows T, Z and C in this order only."""
    axes = axes.replace("N", "T") if "T" not in axes else axes  # a free T can count samples
    order = ["TZCYX".find(axis) for axis in axes]
    holds = dtype.name in _IMAGEJ_DTYPES and dtype.itemsize * math.prod(shape) < _IMAGEJ_BYTES
    if -1 in order or order != sorted(set(order)) or not holds:
        return None
    return shape, axes


def _ome_axes(axes: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], str] | None:
    """Shape and axes in an OME-TIFF; None if it cannot hold them.

    OME has three axes beside Y and X: T, Z, C, or others in their place. Q means other.
    """
    if not axes.endswith("YX"):
        return None
    kept = [(axis, size) for axis, size in zip(axes[:-2], shape, strict=False)]
    if len(kept) > 3:  # readers drop axes of length 1 anyway
        kept = [(axis, size) for axis, size in kept if size > 1]
    if len(kept) > 3:
        return None
    free = iter(letter for letter in "QTZ" if letter not in axes)
    letters = "".join(axis if axis in _OME_AXES else next(free) for axis, _ in kept)
    return (*(size for _, size in kept), *shape[-2:]), letters + "YX"
