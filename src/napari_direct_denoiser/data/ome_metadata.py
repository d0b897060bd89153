"""Metadata of OME-Zarr 0.4 and 0.5, from and to axes, pixel size, position and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..config import OmeZarrVersion

_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_NO_UNITS = (None, "", "pixel")


@dataclass(frozen=True)
class Multiscale:
    """What the metadata of an OME-Zarr image say.

    Attributes
    ----------
    version
        Of OME-Zarr.
    path
        Of the array of full size, within the group.
    axes
        One capital letter for each axis; None if the names are others.
    scale, translation
        Distance of two pixels, and position of the first one, along each axis.
    units
        Of both, along each axis, such as ``"micrometer"``; None where there is none.
    """

    version: OmeZarrVersion
    path: str
    axes: str | None
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]


def write_multiscale(
    version: OmeZarrVersion,
    axes: str,
    levels: int,
    scale: Sequence[float],
    translation: Sequence[float],
    units: Sequence[str | None],
) -> dict[str, Any]:
    """Attributes of the group of an image, whose arrays have the names 0, 1, 2 ...; see `Multiscale`.

    Each array has half the pixels of the one before it along Y and X, each the mean of 2 x 2.

    Returns
    -------
    dict
        Empty where OME-Zarr cannot hold the axes: time comes first, then a channel or one other axis, then Z, Y and X.
    """
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.multiscales import Dataset
    from ome_zarr_models.v05.multiscales import Multiscale as Model

    types = [_TYPES.get(axis) for axis in axes]
    if types.count("channel") + types.count(None) > 1:
        return {}
    datasets = []
    for level in range(levels):
        steps = np.array([2**level if axis in "YX" else 1 for axis in axes])
        first = np.add(translation, np.multiply(scale, (steps - 1) / 2))  # middle of the pixels that were averaged
        datasets.append(Dataset.build(path=str(level), scale=(scale * steps).tolist(), translation=first.tolist()))
    try:
        model = Model(
            axes=[
                Axis(name=axis.lower(), type=kind, unit=None if unit in _NO_UNITS else unit)
                for axis, kind, unit in zip(axes, types, units, strict=True)
            ],
            datasets=tuple(datasets),
            type="mean",
        )
    except ValidationError:
        return {}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [model.model_dump(exclude_none=True)]}}
    old = model.to_version("0.4").model_copy(update={"version": version})
    return {"multiscales": [old.model_dump(exclude_none=True)]}


def read_multiscale(attributes: Mapping[str, Any]) -> Multiscale:
    """Read the attributes of the group of an image.

    Raises
    ------
    ValueError
        If they are not valid in OME-Zarr 0.4 or 0.5.
    """
    from ome_zarr_models.v04.multiscales import Multiscale as Older
    from ome_zarr_models.v05.multiscales import Multiscale as Model

    if "ome" in attributes:
        version: OmeZarrVersion = "0.5"
        model = Model.model_validate(attributes["ome"]["multiscales"][0])
    else:
        version = "0.4"
        model = Older.model_validate(attributes["multiscales"][0]).to_version("0.5")
    scale, translation = np.ones(model.ndim), np.zeros(model.ndim)
    for transform in (*model.datasets[0].coordinateTransformations, *(model.coordinateTransformations or ())):
        by, to = getattr(transform, "scale", None), getattr(transform, "translation", None)
        if by is not None:
            scale, translation = scale * by, translation * by
        if to is not None:
            translation = translation + to
    letters = [_letter(axis.name, axis.type) for axis in model.axes]
    named = all(letters) and len(set(letters)) == len(letters)
    return Multiscale(
        version,
        model.datasets[0].path,
        "".join(letters) if named else None,
        tuple(scale.tolist()),
        tuple(translation.tolist()),
        tuple(axis.unit if isinstance(axis.unit, str) else None for axis in model.axes),
    )


def _letter(name: str | None, kind: str | None) -> str:
    """Letter of an axis; empty if it has none."""
    name = name or ""
    return name.upper() if len(name) == 1 else {"time": "T", "channel": "C"}.get(kind or "", "")
