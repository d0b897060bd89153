"""Images from and to files: TIFF with axes and pixel size, and npy."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ImageError
from .files import check_target, replacing
from .images import guess_axes

if TYPE_CHECKING:
    import tifffile

_TIFF = (".tif", ".tiff")
_SUFFIXES = (*_TIFF, ".npy")
_IMAGEJ_FIELDS = ("unit", "spacing", "finterval", "fps")
_OME_FIELDS = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")
_IMAGEJ_BYTES = 2**32 - 2**16  # an ImageJ file is a classic TIFF, which holds 4 GiB
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What an image file holds.

    Attributes
    ----------
    data
        The image, as stored.
    axes
        One letter for each axis as the file names them (Q, I: unknown), or None if it does not.
    metadata
        What `write_image` needs to write a like file: ``kind`` (imagej, ome or plain), ``resolution`` and
        ``resolutionunit`` of the TIFF tags, and ``fields`` (pixel size, unit and time step).
    """

    data: NDArray[Any]
    axes: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


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
            f"Expected a {kind}, found {path} that cannot be read as one ({reason}): convert it"
        ) from error


def check_output(path: str | Path) -> None:
    """Find out before the work starts whether an image can be written to `path`.

    Raises
    ------
    SettingError
        If the folder does not exist or cannot be written to, `path` is a folder, or its suffix is unknown.
    """
    check_target(path, _SUFFIXES, what="output image")


def write_image(path: str | Path, data: ArrayLike, like: ImageFile | None = None) -> None:
    """Write an image as float32, whole or not at all.

    Parameters
    ----------
    path
        File to write: .tif or .tiff, or .npy.
    data
        An image of the axes of `like`; or samples of it, with one more axis in front.
    like
        The file that the image was made from. Axes, pixel size and kind of TIFF (ImageJ, OME) are kept.

    Raises
    ------
    SettingError
        As `check_output`.
    """
    path = Path(path)
    check_output(path)
    array = np.asarray(data, dtype=np.float32)
    with replacing(path) as draft:
        if path.suffix.lower() in _TIFF:
            _write_tiff(draft, array, like, ome=path.stem.lower().endswith(".ome"))
        else:
            with draft.open("wb") as file:  # np.save would add a suffix to a path
                np.save(file, array, allow_pickle=False)


def _check_source(path: Path) -> None:
    if path.is_dir():
        raise ImageError(f"Expected an image file, found the folder {path}: give a file in it")
    if not path.exists():
        raise ImageError(f"Expected an image file, found no {path}: check its name")
    if path.suffix.lower() not in _SUFFIXES:
        raise ImageError(f"Expected a .tif, .tiff or .npy file, found {path}: convert it, or mend its suffix")
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
        return ImageFile(series.asarray(), series.axes, metadata)


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


def _write_tiff(path: Path, array: NDArray[np.float32], like: ImageFile | None, *, ome: bool) -> None:
    import tifffile

    metadata = like.metadata if like else {}
    kind, axes = _kind_and_axes(array, like, ome=ome)
    fields = metadata.get("fields", {}) if kind in (metadata.get("kind"), "plain") else {}
    tifffile.imwrite(
        path,
        array,
        photometric="minisblack",  # three planes are no colours
        imagej=kind == "imagej",
        ome=kind == "ome",
        resolution=metadata.get("resolution"),
        resolutionunit=metadata.get("resolutionunit"),
        metadata={"axes": axes, **fields},
    )


def _kind_and_axes(array: NDArray[np.float32], like: ImageFile | None, *, ome: bool) -> tuple[str, str]:
    """Which kind of TIFF can hold the array, and under which axes."""
    source = (like and like.axes) or guess_axes(min(like.data.ndim if like else array.ndim, 5))
    has_samples = array.ndim == len(source) + 1
    wanted = "ome" if ome else like.metadata.get("kind", "imagej") if like else "imagej"
    if wanted == "ome":
        axes = "Q" + source if has_samples else source  # OME has no letter for samples: "other"
        if set(axes) <= set("QTZCYX") and axes.endswith("YX"):
            return "ome", axes
    # ImageJ knows T, Z and C in this order only; a free T can count samples
    axes = "T" + source if has_samples else source
    order = ["TZCYX".find(axis) for axis in axes]
    if wanted != "plain" and -1 not in order and order == sorted(set(order)) and array.nbytes < _IMAGEJ_BYTES:
        return "imagej", axes
    return "plain", "N" + source if has_samples else source
