"""Read a layer for a run, and make layers of the results. Needs no viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from numpy.typing import ArrayLike

METADATA_KEY = "napari_direct_denoiser"
_PER_AXIS = ("scale", "translate", "units", "axis_labels")
_GEOMETRY = (*_PER_AXIS, "rotate", "shear")
_DISPLAY = ("contrast_limits", "gamma", "colormap")
_WORDS = {"TIME": "T", "FRAME": "T", "CHANNEL": "C", "DEPTH": "Z", "POSITION": "P"}
_FREE = "QIUVW"  # letters without a meaning, for axes of other names


@dataclass(frozen=True, eq=False)
class Source:
    """What a run needs of its layer, read once: the layer may be renamed or deleted during the run."""

    name: str
    data: ArrayLike
    """Level 0 of a multiscale layer; may be lazy."""
    axes: str | None
    """One letter for each axis, from the axis labels; None if the layer has no labels."""
    appearance: dict[str, Any]
    """Geometry and display, as keywords for a layer that lies exactly over this one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data, which is not read."""
        return tuple(np.shape(self.data))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the data."""
        return np.dtype(getattr(self.data, "dtype", np.float32))


def read_layer(layer: Layer | None, axes: str | None = None) -> Source:
    """Read a layer to train on or to denoise.

    Parameters
    ----------
    layer
        Any layer.
    axes
        Letters of its axes, if a person entered them; otherwise they come from its axis labels.

    Raises
    ------
    ImageError
        If there is no layer, it is not a grayscale image, or its axis labels do not name Y and X.
    """
    from napari.layers import Image  # late, so that tests of the rest need no viewer

    if layer is None:
        raise ImageError(
            "Expected an image layer, found none: open an image, or choose File > Open Sample > Simulated filaments"
        )
    if not isinstance(layer, Image):
        found = f"a {type(layer).__name__} layer, {layer.name!r}"
        raise ImageError(f"Expected an image layer, found {found}: choose the image that it was made from")
    data = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb:
        raise ImageError(
            f"Expected a grayscale image, found RGB of shape {data.shape} in {layer.name!r}: "
            "choose a channel, or split the channels"
        )
    appearance = {**geometry(layer), **{key: getattr(layer, key) for key in _DISPLAY}}
    return Source(layer.name, data, _axes_from_labels(layer) if axes is None else axes, appearance)


def full_shape(layer: Image) -> tuple[int, ...]:
    """Shape of a layer at full resolution."""
    return tuple((layer.data[0] if layer.multiscale else layer.data).shape)


def geometry(layer: Layer) -> dict[str, Any]:
    """Geometry of a layer, as keywords for one that lies exactly over it."""
    return {**{key: getattr(layer, key) for key in _GEOMETRY}, "affine": np.array(layer.affine.affine_matrix)}


def result_layer(
    source: Source,
    image: Any,
    output: str,
    provenance: Mapping[str, Any],
    samples: int | None = None,
    limits: tuple[float, float] | None = None,
    axes: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Make the data and the keywords of `viewer.add_image` for a result that lies exactly over its source.

    Parameters
    ----------
    source
        What was denoised.
    image
        The result, any kind of array; samples have one more axis in front.
    output
        Kind of the result, as in `Denoiser.denoise_steps`.
    provenance
        Stored in the metadata of the layer. A ``student`` in it is a part of the name.
    samples
        Number of samples that it was made from; None for the direct pass.
    limits
        Contrast limits of a standard deviation, which has its own colormap too; those of the source if not given.
    axes
        Letters of the axes that the run used: the axis labels of the result if the source has none.
    """
    appearance = with_labels(source.appearance, axes or source.axes)
    if output == "sample":
        appearance = with_samples_axis(appearance)
    if output in ("std", "sample_std") and limits is not None:
        appearance = {**appearance, "colormap": "magma", "gamma": 1.0, "contrast_limits": limits}
    return image, {
        **appearance,
        "name": result_name(source.name, output, samples, provenance.get("student")),
        "metadata": {METADATA_KEY: dict(provenance)},
    }


def with_labels(appearance: Mapping[str, Any], axes: str | None) -> dict[str, Any]:
    """Appearance with the letters of the axes as axis labels, unless it has labels: sliders are named after them."""
    labels = appearance["axis_labels"]
    if not axes or len(axes) != len(labels) or not all(map(_is_nameless, labels)):
        return dict(appearance)
    return {**appearance, "axis_labels": tuple(axes.lower())}


def result_name(source: str, output: str, samples: int | None = None, student: str | None = None) -> str:
    """Name a result: ``cells direct``, ``cells std``, ``cells HDN mean (N=50)``, ``cells HDN std (N=50)``.

    With the student of a model that has several: ``cells direct median``.
    """
    if samples is not None:
        return f"{source} HDN {output.removeprefix('sample_')} (N={samples})"
    return f"{source} {output}" if student is None else f"{source} {output} {student}"


def with_samples_axis(appearance: Mapping[str, Any]) -> dict[str, Any]:
    """Geometry of a layer with one more axis in front for posterior samples, labelled ``sample``."""
    labels = appearance["axis_labels"]
    return {
        **appearance,
        "scale": [1.0, *appearance["scale"]],
        "translate": [0.0, *appearance["translate"]],
        "rotate": _one_more(appearance["rotate"]),
        "shear": _one_more(_shear_matrix(appearance["shear"], len(labels))),
        "affine": _one_more(appearance["affine"]),
        "units": ("pixel", *appearance["units"]),
        "axis_labels": ("sample", *labels),
    }


def without_axis(place: Mapping[str, Any], axis: int) -> dict[str, Any]:
    """Geometry of a layer without one of its axes, which no rotation or shear mixes with the others."""
    matrices = {"rotate": place["rotate"], "shear": _shear_matrix(place["shear"], len(place["axis_labels"]))}
    matrices["affine"] = place["affine"]
    return {
        **{key: [value for at, value in enumerate(place[key]) if at != axis] for key in _PER_AXIS},
        **{key: np.delete(np.delete(matrix, axis, 0), axis, 1) for key, matrix in matrices.items()},
    }


def facts(layer: Layer) -> dict[str, Any]:
    """Provenance of a result of the Denoise dock; empty for other layers."""
    found: dict[str, Any] = layer.metadata.get(METADATA_KEY, {})
    return found


def is_result(layer: Layer) -> bool:
    """Whether this plugin made the layer."""
    return METADATA_KEY in layer.metadata


def _one_more(matrix: Any) -> Any:
    """Extend a matrix by one axis in front, on which it is the identity."""
    larger = np.eye(len(matrix) + 1)
    larger[1:, 1:] = matrix
    return larger


def _shear_matrix(shear: Any, ndim: int) -> Any:
    """Shear as a matrix. napari keeps it as it was given; a vector is the upper triangle."""
    if np.ndim(shear) == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, 1)] = shear
    return matrix


def _axes_from_labels(layer: Layer) -> str | None:
    """One letter for each axis by its label; None if no axis has a label."""
    labels = layer.axis_labels
    if all(map(_is_nameless, labels)):
        return None
    free = iter(_FREE)
    words = [label.strip().upper() for label in labels]
    axes = [_WORDS.get(word) or (word if len(word) == 1 and word.isalpha() else next(free)) for word in words]
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ImageError(
            f"Expected axis labels with y and x among them and none twice, found {labels} in {layer.name!r}: "
            "name its axes, for example layer.axis_labels = ('t', 'y', 'x')"
        )
    return "".join(axes)


def _is_nameless(label: str) -> bool:
    """Whether a label is empty or a default of napari: ``-3``, before 0.9 ``axis -3``."""
    return not label or label.removeprefix("axis ").removeprefix("-").isdecimal()
