"""Image files: TIFF with axes and pixel size, and npy. How an image is written is planned before it is computed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import ImageError, SettingError
from .dtypes import to_dtype
from .files import check_target, replacing
from .images import guess_axes

if TYPE_CHECKING:
    import tifffile

_TIFF = (".tif", ".tiff")
_SUFFIXES = (*_TIFF, ".npy")
_IMAGEJ_FIELDS = ("unit", "spacing", "finterval", "fps")
_OME_FIELDS = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")
_IMAGEJ_BYTES = 2**32 - 2**16  # an ImageJ file is a classic TIFF, which holds 4 GiB
_OME_AXES = "TZCAPRHEQ"  # beside Y and X; what tifffile writes
_IMAGEJ_DTYPES = frozenset({"uint8", "uint16", "float32"})
_OME_DTYPES = _IMAGEJ_DTYPES | {"int8", "int16", "int32", "uint32", "float64"}
_TIFF_DTYPES = _OME_DTYPES | {"int64", "uint64", "float16"}
_UNKNOWN = frozenset("QI")  # letters of tifffile for axes that a file does not name
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """Content of an image file.

    Attributes
    ----------
    data
        The image, as stored.
    axes
        One letter for each axis as the file names them (Q, I: unknown); None if it does not, or not each one once.
    metadata
        What `plan_image` needs to plan a file of the same kind: ``kind`` (imagej, ome or plain), ``resolution`` and
        ``resolutionunit`` of the TIFF tags, and ``fields`` (pixel size, unit and time step).
    """

    data: NDArray[Any]
    axes: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known_axes(self) -> str | None:
        """The axes, if the file names all of them."""
        return None if self.axes is None or _UNKNOWN & set(self.axes) else self.axes


def read_image(path: str | Path) -> ImageFile:
    """Read a TIFF (ImageJ, OME or other) or npy file.

    Raises
    ------
    ImageError
        If the file is missing, a folder, empty, neither TIFF nor npy, or damaged.
    """
    path = Path(path)
    _check_source(path)
    try:
        if path.suffix.lower() in _TIFF:
            return _read_tiff(path)
        return ImageFile(np.load(path, allow_pickle=False))
    except ImageError:
        raise
    except Exception as error:  # damaged files make the readers raise errors of every kind
        kind = "TIFF" if path.suffix.lower() in _TIFF else "npy file of numbers"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"Expected a {kind}, found {path} which cannot be read as one ({reason}): convert it"
        ) from error


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
    if path.suffix.lower() not in _TIFF:
        return WritePlan(path, "npy", full, letters, {}, dtype)
    if dtype.name not in _TIFF_DTYPES:
        raise SettingError(f"Expected numbers that a TIFF can hold, found {dtype}: write float32, or a .npy file")
    metadata = like.metadata if like else {}
    named_ome = path.stem.lower().endswith(".ome")
    wanted = "ome" if named_ome else metadata.get("kind", "imagej")
    if wanted == "ome":
        held = _ome_axes(letters, full) if dtype.name in _OME_DTYPES else None
        if held is not None:
            return WritePlan(path, "ome", *held, _metadata(metadata, "ome"), dtype)
        if named_ome:
            raise SettingError(
                "Expected at most three axes before Y and X and no 64-bit integers or float16 for an OME-TIFF, found "
                f"axes {letters} of shape {full}, {dtype}: name the output "
                f"{path.name[: -len('.ome' + path.suffix)]}{path.suffix} instead"
            )
    if wanted != "plain":
        held = _imagej_axes(letters, full, dtype)
        if held is not None:
            return WritePlan(path, "imagej", *held, _metadata(metadata, "imagej"), dtype)
    return WritePlan(path, "plain", full, letters, _metadata(metadata, "plain"), dtype)


def write_planned(plan: WritePlan, data: ArrayLike) -> int:
    """Write an image in the planned dtype, completely or not at all.

    Parameters
    ----------
    plan
        What `plan_image` made for an image of this shape.
    data
        The image, or samples of it with one more axis in front; float32.

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

    array, clipped = to_dtype(data, plan.dtype)
    array = array.reshape(plan.shape)
    with replacing(plan.path) as draft:
        if plan.kind == "npy":
            with draft.open("wb") as file:  # np.save would add a suffix to a path
                np.save(file, array, allow_pickle=False)
            return clipped
        tifffile.imwrite(
            draft,
            array,
            photometric="minisblack",  # three planes are no colours
            imagej=plan.kind == "imagej",
            ome=plan.kind == "ome",
            resolution=plan.metadata.get("resolution"),
            resolutionunit=plan.metadata.get("resolutionunit"),
            metadata={"axes": plan.axes, **plan.metadata.get("fields", {})},
        )
    return clipped


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
    if path.is_dir():
        raise ImageError(f"Expected an image file, found the folder {path}: give a file in it")
    if not path.exists():
        raise ImageError(f"Expected an image file, found no {path}: check its name")
    if path.suffix.lower() not in _SUFFIXES:
        raise ImageError(f"Expected a .tif, .tiff or .npy file, found {path}: convert it, or correct its suffix")
    if not path.stat().st_size:
        raise ImageError(f"Expected an image file, found {path} with 0 bytes: it is empty, copy or save it again")


def _read_tiff(path: Path) -> ImageFile:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        if len(tiff.series) > 1:
            _log.warning("%s holds %d images; only the first, %s, is read", path, len(tiff.series), series.shape)
        last = series.pages[-1]
        if last is not None and max(map(sum, zip(last.dataoffsets, last.databytecounts, strict=True)), default=0) > (
            path.stat().st_size
        ):
            raise ImageError(f"Expected a whole TIFF, found {path} cut short: copy or save it again")
        page = series.keyframe
        metadata = {
            "kind": "imagej" if tiff.is_imagej else "ome" if tiff.is_ome else "plain",
            "resolution": page.resolution,
            "resolutionunit": int(page.resolutionunit),
            "fields": _imagej_fields(tiff) if tiff.is_imagej else _ome_fields(tiff) if tiff.is_ome else {},
        }
        axes = series.axes if len(set(series.axes)) == len(series.axes) else None  # QQYX: of no use
        return ImageFile(series.asarray(), axes, metadata)


def _imagej_fields(tiff: tifffile.TiffFile) -> dict[str, Any]:
    found = tiff.imagej_metadata or {}
    fields = {name: found[name] for name in _IMAGEJ_FIELDS if name in found}
    if "unit" in fields:  # ImageJ spells the micro sign in ASCII, as \\u00B5, and tifffile writes nothing else
        fields["unit"] = "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in fields["unit"])
    return fields


def _ome_fields(tiff: tifffile.TiffFile) -> dict[str, Any]:
    import tifffile

    image = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    names = [name + unit for name in _OME_FIELDS for unit in ("", "Unit")]
    return {name: pixels[name] for name in names if name in pixels}


def _metadata(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Keep resolution, and the fields that a file of this kind understands."""
    kept = {name: found[name] for name in ("resolution", "resolutionunit") if name in found}
    return {**kept, "fields": found.get("fields", {}) if kind in (found.get("kind"), "plain") else {}}


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
