"""Write an array of any kind to OME-Zarr, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .axes import Region, plane_regions
from .ome_zarr import ZarrImage
from .views import sliceable

_SIDE = 4096  # of the parts, pixels: a plane may be larger than memory


def write_zarr(
    path: str | Path,
    image: Any,
    axes: str,
    *,
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write an image, completely or not at all; only parts of it are in memory.

    Parameters
    ----------
    path
        Folder to write, which ends in .zarr. An image that is there is replaced.
    image
        Array of any kind: numpy, dask, zarr.
    axes
        One letter for each axis.
    scale, translation, units, attributes
        As in `ZarrImage.create`.

    Raises
    ------
    SettingError
        If the image cannot be written to this path.
    DenoiserError
        If writing fails, for example on a full disk.
    """
    pixels = sliceable(image)
    shape = tuple(int(side) for side in pixels.shape)
    sides = [min(shape[axes.index(axis)], _SIDE) for axis in "YX"]
    target = ZarrImage.create(
        path,
        shape,
        axes,
        pixels.dtype,
        block=(sides[0], sides[1]),
        scale=scale,
        translation=translation,
        units=units,
        attributes=attributes,
    )
    try:
        for region in _parts(shape, axes, sides):
            target[region] = np.asarray(pixels[region])
        target.finish()
    except BaseException:
        target.discard()
        raise


def _parts(shape: tuple[int, ...], axes: str, sides: Sequence[int]) -> Iterator[Region]:
    """Cut an image into planes, and these into tiles of such sides along Y and X."""
    cuts = [_cut(shape[axes.index(axis)], side) for axis, side in zip("YX", sides, strict=True)]
    for plane, tile in product(plane_regions(shape, axes), product(*cuts)):
        yield tuple(tile["YX".index(axis)] if axis in "YX" else part for axis, part in zip(axes, plane, strict=True))


def _cut(size: int, side: int) -> list[slice]:
    return [slice(begin, min(begin + side, size)) for begin in range(0, size, side)]
