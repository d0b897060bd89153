"""What the docks take from a layer, and what they put back. No viewer is needed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import ArrayLike, NDArray

METADATA_KEY = "napari_direct_denoiser"
_GEOMETRY = ("scale", "translate", "rotate", "shear", "units", "axis_labels")
_DISPLAY = ("contrast_limits", "gamma", "colormap")


@dataclass(frozen=True, eq=False)
class Source:
    """What a run needs of its layer, read once: the layer may be renamed or deleted while the run goes on."""

    name: str
    data: ArrayLike
    """Level 0 of a multiscale layer; may be lazy."""
    axes: str | None
    """From the axis labels if they name Y and X, otherwise left to the number of axes."""
    appearance: dict[str, Any]
    """Geometry and display: what a layer that lies exactly over this one is made with."""


def read_layer(layer: Layer | None) -> Source:
    """Read a layer that is to be trained on or denoised.

    Raises
    ------
    ImageError
        If there is no layer, or it is no grayscale image.
    """
    from napari.layers import Image  # late, so that tests of the rest need no viewer

    if layer is None:
        raise ImageError("Expected an image layer, found none: open an image, or File > Open Sample > Direct Denoiser")
    if not isinstance(layer, Image):
        found = f"a {type(layer).__name__} layer, {layer.name!r}"
        raise ImageError(f"Expected an image layer, found {found}: choose the image that it was made from")
    data = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb:
        raise ImageError(
            f"Expected a grayscale image, found RGB of shape {data.shape} in {layer.name!r}: "
            "split the channels first (right click on the layer > Split RGB)"
        )
    appearance = {key: getattr(layer, key) for key in (*_GEOMETRY, *_DISPLAY)}
    appearance["affine"] = np.array(layer.affine.affine_matrix)
    return Source(layer.name, data, _axes_from_labels(layer.axis_labels), appearance)


def result_layer(
    source: Source, image: NDArray[np.float32], output: str, provenance: Mapping[str, Any], samples: int | None = None
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Make the data and the keywords of `viewer.add_image` for a result that lies exactly over its source."""
    name = f"{source.name} direct" if samples is None else f"{source.name} HDN {output} (N={samples})"
    return image, {**source.appearance, "name": name, "metadata": {METADATA_KEY: dict(provenance)}}


def is_result(layer: Layer) -> bool:
    """Whether the layer was made by the Denoise dock."""
    return METADATA_KEY in layer.metadata


def _axes_from_labels(labels: tuple[str, ...]) -> str | None:
    axes = "".join(labels).upper()
    named = all(len(label) == 1 for label in labels) and len(set(axes)) == len(axes)
    return axes if named and {"Y", "X"} <= set(axes) else None
