"""The writer of OME-Zarr: File > Save Selected Layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image

from ..data.images import named_axes
from ..data.write_zarr import write_zarr
from .shared.layers import METADATA_KEY, facts, read_layer


def write_ome_zarr(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer with its axes, units, position and pyramid, plane by plane.

    Parameters
    ----------
    path
        Folder to write, which ends in .zarr.
    data, attributes
        Of the layer, as ``layer.as_layer_data_tuple()`` gives them.

    Raises
    ------
    DenoiserError
        If the layer has colours or names no Y and X, or the folder cannot be written.
    """
    layer = Image(data, **attributes)
    source = read_layer(layer)
    place = {key: np.asarray(source.appearance[key]).tolist() for key in ("rotate", "shear", "affine")}
    write_zarr(
        path,
        source.data,
        named_axes(source.shape, source.axes, name=repr(source.name)),
        scale=[float(step) for step in layer.scale],
        translation=[float(place) for place in layer.translate],
        units=[str(unit) for unit in layer.units],
        attributes={METADATA_KEY: {**facts(layer), **place}},  # OME-Zarr holds no rotation and no shear
    )
    return [path]
