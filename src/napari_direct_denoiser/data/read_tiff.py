"""TIFF files: ImageJ, OME and others, of which single planes are read."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .image_file import ImageFile, Index, LazyImage, MappedArray, Source, numbers_of

if TYPE_CHECKING:
    import tifffile

_IMAGEJ_FIELDS = ("unit", "spacing", "finterval", "fps")
_OME_FIELDS = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")
_RESOLUTION_UNITS = (1, 2, 3)  # none, inch, centimeter: a damaged file may have any
_SMALL_FILE = 2**26  # bytes
_log = logging.getLogger(__name__)


def open_tiff(path: Path) -> ImageFile:
    """Open the first image of a TIFF; errors of any kind if it is damaged."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        _check_directories(path, tiff)
        _check_parts(path, tiff)
        series = tiff.series[0]
        if len(tiff.series) > 1:
            _log.warning("%s holds %d images; only the first, %s, is read", path, len(tiff.series), series.shape)
        _check_whole(path, tiff)
        page = series.keyframe
        metadata = {
            "kind": "imagej" if tiff.is_imagej else "ome" if tiff.is_ome else "plain",
            "resolution": page.resolution,
            "resolutionunit": int(page.resolutionunit) if page.resolutionunit in _RESOLUTION_UNITS else 1,
            "fields": _imagej_fields(tiff) if tiff.is_imagej else _ome_fields(tiff) if tiff.is_ome else {},
        }
        axes = series.axes if len(set(series.axes)) == len(series.axes) else None  # QQYX: of no use
        return ImageFile(LazyImage(path, _source(path, tiff), axes), axes, metadata)


def _check_directories(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file whose directories overlap: a small damaged one may have so many that to read them takes minutes."""
    form, handle, size, spent = tiff.tiff, tiff.filehandle, path.stat().st_size, 0
    if size > _SMALL_FILE:  # to follow its directories could take long
        return
    order: Any = {"<": "little", ">": "big"}[tiff.byteorder]

    def number(at: int, length: int) -> int:
        handle.seek(at)
        return int.from_bytes(handle.read(length), order)

    at = number(form.offsetsize, form.offsetsize)
    while 0 < at < size:
        length = form.tagnosize + number(at, form.tagnosize) * form.tagsize
        spent += length + form.offsetsize
        if spent > size:
            raise ImageError(f"Expected a whole TIFF, found {path} whose directories overlap: copy or save it again")
        at = number(at + length, form.offsetsize)


def _check_parts(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse an OME-TIFF that names other files which are none, or are not beside it."""
    if not tiff.is_ome or "FileName" not in (text := tiff.ome_metadata or ""):
        return
    for element in ElementTree.fromstring(text.encode()).iter():
        name = element.get("FileName")
        if name is not None and (Path(name).name != name or _is_strange(path.with_name(name))):
            raise ImageError(f"Expected an OME-TIFF of files beside it, found {name[:99]!r} in {path}: copy it again")


def _is_strange(part: Path) -> bool:
    """Whether there is something that is no file: to read a pipe could take for ever."""
    return part.exists() and not part.is_file()


def _check_whole(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file that ends before its last plane, or lacks the directories of further pages."""
    series = tiff.series[0]
    ends = []
    if series.dataoffset is not None and not series.is_multifile:
        ends.append(series.dataoffset + series.nbytes)
    last = None if series.is_truncated else series[-1]
    if last is not None and last.parent is tiff:
        ends += map(sum, zip(last.dataoffsets, last.databytecounts, strict=True))
    at = tiff.pages.next_page_offset
    if at is not None:
        tiff.filehandle.seek(at)
        order: Any = {"<": "little", ">": "big"}[tiff.byteorder]
        ends.append(int.from_bytes(tiff.filehandle.read(tiff.tiff.offsetsize), order))
    if max(ends, default=0) > path.stat().st_size:
        raise ImageError(f"Expected a whole TIFF, found {path} cut short: copy or save it again")


def _source(path: Path, tiff: tifffile.TiffFile) -> Source:
    series = tiff.series[0]
    if series.dataoffset is not None and not series.is_multifile and series.size:
        return MappedArray(path, series.dataoffset, series.shape, series.dtype.newbyteorder(tiff.byteorder))
    return TiffPages(path, series.shape, series.dtype, [tiff])


@dataclass(frozen=True, eq=False)
class TiffPages:
    """An image whose planes are pages of one TIFF or of several, compressed or not.

    Of a page, the tiles or strips are read that are needed.

    Attributes
    ----------
    path
        The (first) file.
    shape, dtype
        Of the image.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _parsed: list[tifffile.TiffFile] = field(default_factory=list, repr=False)
    """The file with its directory of pages, once that is read. It is open only while pages are read."""
    _lock: Any = field(default_factory=Lock, repr=False)

    def __reduce__(self) -> Any:
        return TiffPages, (self.path, self.shape, self.dtype)

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part: an integer or a slice for each axis."""
        with self._lock:
            series = self._series()
            leading = self._leading(series)
            parts, inner = index[: len(leading)], index[len(leading) :]
            numbers = [numbers_of(part, side) for part, side in zip(parts, leading, strict=True)]
            kept, sides = (
                [len(numbers_of(part, side)) for part, side in zip(each, shape, strict=True) if isinstance(part, slice)]
                for each, shape in ((parts, leading), (inner, self.shape[len(leading) :]))
            )
            pixels = np.empty((math.prod(map(len, numbers)), *sides), self.dtype)
            for at, place in enumerate(product(*numbers)):
                page = int(np.ravel_multi_index(place, leading)) if leading else 0
                pixels[at] = self._read_page(series, page, inner)
            return pixels.reshape((*kept, *sides))

    def _series(self) -> tifffile.TiffPageSeries:
        import tifffile

        if not self._parsed:
            with tifffile.TiffFile(self.path) as tiff:
                self._parsed.append(tiff)
                len(tiff.series)
        return self._parsed[0].series[0]

    def _leading(self, series: tifffile.TiffPageSeries) -> tuple[int, ...]:
        """Shape of the axes that the pages are counted along."""
        for number in range(len(self.shape), -1, -1):
            if math.prod(self.shape[:number]) == len(series) and math.prod(self.shape[number:]) == series.keyframe.size:
                return self.shape[:number]
        raise ImageError(f"Expected {self.shape} pixels in {len(series)} pages, found pages of {series.keyframe.shape}")

    def _read_page(self, series: tifffile.TiffPageSeries, number: int, inner: Index) -> NDArray[Any]:
        shape = self.shape[len(self._leading(series)) :]
        assert series.parent is not None
        handles = [series.parent.filehandle]
        try:
            handles[0].open()
            page = series[number]
            if page is None:
                raise ValueError("it was not recorded, or is in a file that is missing or cut short")
            handles.append(page.parent.filehandle)
            handles[1].open()
            is_whole = all(len(numbers_of(part, side)) == side for part, side in zip(inner, shape, strict=True))
            if not is_whole and page.shape == shape and series.transform is None:
                return _read_tiles(page, inner)
            pixels = page.asarray()
            return (pixels if series.transform is None else series.transform(pixels)).reshape(shape)[inner]
        finally:  # there may be thousands of files
            for handle in handles:
                handle.close()


def _read_tiles(page: tifffile.TiffPage | tifffile.TiffFrame, inner: Index) -> NDArray[Any]:
    """Read a part of a page: the tiles or strips that it needs."""
    import zarr

    with page.aszarr() as store:
        return np.asarray(zarr.open_array(store, mode="r")[inner])


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
