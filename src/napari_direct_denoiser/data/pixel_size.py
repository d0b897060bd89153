"""Pixel size of an image file as OME-Zarr states it: scale, position and unit of each axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .image_file import ImageFile

_SPELLINGS = {  # first the one of OME-TIFF
    "picometer": ("pm", "picometer", "picometre"),
    "angstrom": ("Å", "angstrom"),
    "nanometer": ("nm", "nanometer", "nanometre"),
    "micrometer": ("µm", "um", "μm", "micron", "microns", "micrometer", "micrometre"),  # both Unicode letters for micro
    "millimeter": ("mm", "millimeter", "millimetre"),
    "centimeter": ("cm", "centimeter", "centimetre"),
    "meter": ("m", "meter", "metre"),
    "second": ("s", "sec", "second", "seconds"),
    "millisecond": ("ms", "msec", "millisecond"),
    "minute": ("min", "minute", "minutes"),
    "hour": ("h", "hour", "hours"),
}
_NAMES = {spelling.lower(): unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}
_MICROMETERS = {
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_SECONDS = {"second": 1.0, "millisecond": 1e-3, "minute": 60.0, "hour": 3600.0}
_PER_CENTIMETER = 3  # resolutionunit of a TIFF

Size = tuple[list[float], list[float], list[str | None]]


def pixel_size(file: ImageFile, axes: str) -> Size:
    """Find the pixel size of an image along some of its axes.

    Parameters
    ----------
    file
        The image. Of a TIFF, the pixel size is known if it is one of ImageJ or OME with a unit, or in centimeters. One
        in inches is that of a print.
    axes
        The axes, one capital letter each.

    Returns
    -------
    scale, translation, units
        For each axis: distance of two pixels, position of the first one, unit. 1, 0 and None where they are not known.
    """
    found = {"imagej": _of_imagej, "ome": _of_ome, "plain": _of_plain, "ome-zarr": _of_zarr}.get(
        file.metadata.get("kind", "")
    )
    known = found(file.metadata) if found else {}
    parts = [known.get(axis, (1.0, 0.0, None)) for axis in axes]
    return [scale for scale, _, _ in parts], [start for _, start, _ in parts], [unit for _, _, unit in parts]


def tiff_metadata(kind: str, file: ImageFile, axes: str) -> dict[str, Any]:
    """Resolution and fields with the pixel size of an image, for a TIFF of another kind.

    Parameters
    ----------
    kind
        imagej, ome or plain.
    file
        The image. Its position gets lost.
    axes
        Of the TIFF.

    Returns
    -------
    dict
        As `ImageFile.metadata` of a TIFF, without what is not known.
    """
    scale, _, units = pixel_size(file, axes)
    micrometers = {a: s * _MICROMETERS[u] for a, s, u in zip(axes, scale, units, strict=True) if u in _MICROMETERS}
    seconds = {a: s * _SECONDS[u] for a, s, u in zip(axes, scale, units, strict=True) if u in _SECONDS}
    if kind == "ome":
        names = {"T": "TimeIncrement"} | {axis: f"PhysicalSize{axis}" for axis in "XYZ"}
        fields: dict[str, Any] = {}
        for axis, size, unit in zip(axes, scale, units, strict=True):
            if axis in names and unit in (_SECONDS if axis == "T" else _MICROMETERS):
                fields |= {names[axis]: size, f"{names[axis]}Unit": _SPELLINGS[unit][0]}
        return {"fields": fields}
    known: dict[str, Any] = {}
    if "X" in micrometers and "Y" in micrometers:
        times = 1.0 if kind == "imagej" else 1e4
        known = {"resolution": (times / micrometers["X"], times / micrometers["Y"])}
        known["resolutionunit"] = 1 if kind == "imagej" else _PER_CENTIMETER
    if kind == "plain":
        return known
    fields = {"unit": "um"} if known else {}
    if known and "Z" in micrometers:
        fields["spacing"] = micrometers["Z"]
    if "T" in seconds:
        fields["finterval"] = seconds["T"]
    return {**known, "fields": fields}


Parts = Mapping[str, tuple[float, float, str | None]]


def _of_plain(metadata: Mapping[str, Any]) -> Parts:
    if metadata["resolutionunit"] != _PER_CENTIMETER:
        return {}
    sides = zip("XY", metadata["resolution"], strict=True)
    return {axis: (1e4 / pixels, 0.0, "micrometer") for axis, pixels in sides if pixels > 0}


def _of_zarr(metadata: Mapping[str, Any]) -> Parts:
    values = zip(metadata["scale"], metadata["translation"], metadata["units"], strict=True)
    return dict(zip(metadata["axes"] or "", values, strict=False))


def _of_imagej(metadata: Mapping[str, Any]) -> Parts:
    fields, known = metadata.get("fields", {}), {}
    unit = _NAMES.get(str(fields.get("unit", "")).replace("\\u00B5", "µ").lower())
    if unit:
        for axis, pixels in zip("XY", metadata.get("resolution", ()), strict=False):
            if pixels > 0:
                known[axis] = 1 / float(pixels), 0.0, unit
        if fields.get("spacing", 0) > 0:
            known["Z"] = float(fields["spacing"]), 0.0, unit
    interval = fields.get("finterval") or (1 / fields["fps"] if fields.get("fps") else 0)
    if interval > 0:
        known["T"] = float(interval), 0.0, "second"
    return known


def _of_ome(metadata: Mapping[str, Any]) -> Parts:
    fields, known = metadata.get("fields", {}), {}
    for axis, name, default in (
        *((axis, f"PhysicalSize{axis}", "µm") for axis in "XYZ"),
        ("T", "TimeIncrement", "s"),
    ):
        unit = _NAMES.get(str(fields.get(f"{name}Unit", default)).lower())
        if unit and float(fields.get(name, 0)) > 0:
            known[axis] = float(fields[name]), 0.0, unit
    return known
