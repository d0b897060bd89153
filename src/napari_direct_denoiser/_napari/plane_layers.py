"""HDN against direct looks at one plane of a layer: which one, and layers that lie exactly over it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .compare_views import full_shape
from .layers import METADATA_KEY, Source, result_layer

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..running_means import RunningMeans


def plane_in_view(viewer: napari.Viewer, layer: Image, axes: str) -> tuple[int, ...]:
    """Index of the plane of a layer that the sliders of the viewer point at: one number for each axis but Y and X."""
    here = np.round(layer.world_to_data(viewer.dims.point)).astype(int)
    inside = np.clip(here, 0, np.subtract(full_shape(layer), 1))
    return tuple(int(index) for axis, index in zip(axes, inside, strict=True) if axis not in "YX")


def plane_number(shape: tuple[int, ...], axes: str, leading: tuple[int, ...]) -> int:
    """Number of a plane in an image of this shape, as `images.plane_regions` counts them."""
    sizes = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    return int(np.ravel_multi_index(leading, sizes)) if sizes else 0


def source_of_plane(source: Source, layer: Image, axes: str, leading: tuple[int, ...]) -> Source:
    """What a layer is made with that has but this plane of a source, and lies exactly where that lies."""
    where = iter(leading)
    corner = [0 if axis in "YX" else next(where) for axis in axes]
    affine = source.appearance["affine"].copy()
    affine[:-1, -1] += np.subtract(layer.data_to_world(corner), layer.data_to_world([0] * len(corner)))
    return replace(source, appearance={**source.appearance, "affine": affine})


def plane_words(source: Source, axes: str, leading: tuple[int, ...]) -> str:
    """Name a plane of a source: ``cells T=3``."""
    others = [axis for axis in axes if axis not in "YX"]
    return " ".join([source.name, *(f"{axis}={index}" for axis, index in zip(others, leading, strict=True))])


def as_plane_of(plane: NDArray[Any], axes: str) -> NDArray[Any]:
    """Give a plane (H, W) the axes of the image that it is from, each but Y and X of length 1."""
    turned = plane if axes.index("Y") < axes.index("X") else plane.T
    return turned[tuple(slice(None) if axis in "YX" else None for axis in axes)]


def layers_of(
    result: RunningMeans, source: Source, words: str, axes: str, model: str
) -> list[tuple[NDArray[Any], dict[str, Any]]]:
    """Make data and keywords of `viewer.add_image` for all images of a result; `words` name the plane.

    The means and the direct pass are hidden; over them lie the deviation of the samples and, in red, the disagreement.
    """
    common = {"source": source.name, "model": model}
    made = []
    for each in result.judged():
        facts = {**common, "method": each.method, "samples": each.samples, "seconds": each.seconds}
        image = as_plane_of(each.planes[0], axes)
        data, keywords = result_layer(replace(source, name=words), image, each.method, facts, each.samples or None)
        made.append((data, {**keywords, "visible": False}))
    if result.deviation is None or result.disagreement is None:
        return made
    highest = float(np.percentile(result.deviation, 99.9)) or 1.0
    place, count = replace(source, name=words), result.samples[-1]
    facts = {**common, "method": "deviation", "samples": count}
    made.append(result_layer(place, as_plane_of(result.deviation[0], axes), "deviation", facts, count, (0.0, highest)))
    shown = {"colormap": "red", "gamma": 1.0, "contrast_limits": (0, 1), "blending": "additive"}
    metadata = {METADATA_KEY: {**common, "method": "disagreement", "samples": count}}
    keywords = {**source.appearance, **shown, "name": f"{words} disagreement (N={count})", "metadata": metadata}
    made.append((as_plane_of(result.disagreement[0].astype(np.uint8), axes), keywords))
    return made
