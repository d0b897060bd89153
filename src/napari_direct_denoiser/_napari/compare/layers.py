"""Which layers the Compare dock compares: what is known of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from ...errors import ImageError
from ...evaluation.compare import Judged, LazyPlanes
from ..shared.layers import METADATA_KEY, Source, facts, full_shape, read_layer, result_layer
from ..shared.plane_layers import as_plane_of
from .views import is_view

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from ...evaluation.sample_convergence import SampleConvergence

MAPS = ("std", "difference", "disagreement")
"""Methods of layers that show how results differ, and are none themselves."""
_METHODS = ("direct", "mean", "median")


def images_of(viewer: napari.Viewer) -> list[Image]:
    """Layers that can be compared: the images, without maps and those that are but part of a view."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and not is_view(layer)]
    return [layer for layer in images if facts(layer).get("method") not in MAPS]


def is_result_of(layer: Image, noisy: Image) -> bool:
    """Whether a layer was denoised out of this one."""
    known = facts(layer)
    fits = full_shape(layer) == full_shape(noisy)
    return known.get("source") == noisy.name and known.get("method") in _METHODS and fits


def judged(layer: Image, axes: str) -> Judged:
    """See a result as a row of the table."""
    known = facts(layer)
    samples = 0 if known.get("method") == "direct" else known.get("samples")
    planes = LazyPlanes(read_layer(layer).data, axes)
    return Judged(planes, known.get("method", layer.name), samples, known.get("seconds"), layer.name)


def check_fit(noisy: Image, layer: Image, axes: str, *, one_plane: bool = False) -> None:
    """Raise `ImageError` if a layer has another shape than the noisy one, or than a plane of it where that will do."""
    expected, found = full_shape(noisy), full_shape(layer)
    plane = tuple(size for axis, size in zip(axes, expected, strict=True) if axis in "YX")
    if found != expected and not (one_plane and found == plane):
        raise ImageError(
            f"Expected the shape of {noisy.name!r}, {expected}, found {found} in {layer.name!r}: "
            "choose images that belong together"
        )


def layers_of(
    result: SampleConvergence, source: Source, words: str, axes: str, model: str
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
    if result.std is None or result.disagreement is None:
        return made
    highest = float(np.percentile(result.std, 99.9)) or 1.0
    place, count = replace(source, name=words), result.samples[-1]
    facts = {**common, "method": "std", "samples": count}
    made.append(result_layer(place, as_plane_of(result.std[0], axes), "std", facts, count, (0.0, highest)))
    shown = {"colormap": "red", "gamma": 1.0, "contrast_limits": (0, 1), "blending": "additive"}
    metadata = {METADATA_KEY: {**common, "method": "disagreement", "samples": count}}
    keywords = {**source.appearance, **shown, "name": f"{words} disagreement (N={count})", "metadata": metadata}
    made.append((as_plane_of(result.disagreement[0].astype(np.uint8), axes), keywords))
    return made
