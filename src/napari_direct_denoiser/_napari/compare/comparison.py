"""The comparison in the viewer: noisy | direct | HDN mean | one sample | std of one plane, in a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import Colormap

from ...data.images import named_axes
from ..shared.layers import METADATA_KEY, Source, read_layer, result_layer, result_name
from ..shared.plane_layers import as_plane_of, plane_in_view, plane_number, plane_words, source_of_plane
from .views import SideBySide

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from ...evaluation.sample_convergence import SampleConvergence
    from ..shared.session import NamedModel

_PERCENTILE_SHOWN = 99.5  # of a standard deviation: upper contrast limit
_PERCENTILES_OF_CONTRAST = (0.1, 99.9)  # of the direct pass: contrast limits of all images
_DEVIATIONS_SHOWN = 3.0  # limit of the colours of the disagreement
_TITLES = {
    "direct": "direct",
    "mean": "HDN mean of {samples}",
    "sample": "one HDN sample",
    "std": "std",
    "disagreement": "(direct − mean) / std",
}
# told apart by the colour-blind; gray at 0
_TWO_SIDED = Colormap(["#2b6cb0", "#7d9dbd", "#b4b4b4", "#c99a6b", "#b5651d"], name="blue gray orange")


@dataclass(frozen=True, eq=False)
class ComparedPlane:
    """The plane of a layer that is in view, read once."""

    source: Source
    axes: str
    leading: tuple[int, ...]
    """Index of the plane: one number for each axis except Y and X."""
    place: Source
    """The plane by itself: its name, and geometry of layers that lie exactly over it."""

    @classmethod
    def in_view(cls, viewer: napari.Viewer, layer: Image) -> ComparedPlane:
        """Find the plane of a layer in view; `ImageError` if the layer is no stack of grayscale planes."""
        source = read_layer(layer)
        axes = named_axes(source.shape, source.axes, name=repr(source.name))
        leading = plane_in_view(viewer, layer, axes)
        place = source_of_plane(source, layer, axes, leading)
        return cls(source, axes, leading, replace(place, name=plane_words(source, axes, leading)))

    @property
    def number(self) -> int:
        """Number of the plane in its stack."""
        return plane_number(self.source.shape, self.axes, self.leading)


class Comparison:
    """Layers of one comparison in a grid.

    Parameters
    ----------
    viewer
        The viewer that holds the layers.
    noisy, truth
        The layers to show beside the results.
    model
        The model that makes the results.
    """

    def __init__(self, viewer: napari.Viewer, noisy: Image, truth: Image | None, model: NamedModel) -> None:
        self._viewer, self.noisy, self.truth, self.model = viewer, noisy, truth, model
        self._active = viewer.layers.selection.active
        self._samples = 0
        self._seconds: dict[str, float] = {}
        self._plane: ComparedPlane
        self._view: SideBySide | None = None
        self.made: dict[str, Image] = {}
        """Layers of the results, by `_TITLES`."""

    @property
    def complete(self) -> bool:
        """Whether all its layers are in the viewer."""
        shown = [] if self._view is None else self._view.images
        return all(layer in self._viewer.layers for layer in shown)

    def show(self, plane: ComparedPlane, images: Mapping[str, NDArray[Any]], samples: int) -> None:
        """Show the results for a plane, (H, W) each, in place of those shown before."""
        self._plane, self._samples, self._seconds = plane, samples, {}
        for name, image in images.items():
            data, keywords = self._layer(name, image)
            if name not in self.made:
                self.made[name] = self._viewer.add_image(data, **keywords)
                continue
            layer = self.made[name]
            layer.affine, layer.data = keywords["affine"], data
            layer.name = keywords["name"]
            if name == "std":
                layer.contrast_limits = keywords["contrast_limits"]
        if self._view is None:
            self._open()

    def finish(self, result: SampleConvergence) -> None:
        """Add the map of disagreement, hidden, or renew it; and note how long the results took."""
        disagreement = result.disagreement
        if disagreement is not None and self._view is not None:
            new = "disagreement" not in self.made
            self.show(self._plane, {"disagreement": disagreement[0]}, self._samples)
            if new:
                self._view.add(self.made["disagreement"])
                self._viewer.layers.selection.active = self.made["direct"]
        self._seconds = {"direct": result.direct_seconds, "mean": result.seconds[-1]}

    def close(self, *, keep: bool) -> None:
        """Restore the viewer, and remove the layers unless they are to be kept; those are hidden."""
        view, self._view = self._view, None
        if view is not None:
            view.close()
        made, self.made = self.made, {}
        for name, layer in made.items():
            if layer not in self._viewer.layers:
                continue
            if keep:
                layer.visible = False
                layer.metadata = {METADATA_KEY: self._facts(name)}
                layer.name = self._kept_name(name)
            else:
                self._viewer.layers.remove(layer)
        if self._active in self._viewer.layers:
            self._viewer.layers.selection.active = self._active

    def _open(self) -> None:
        order = [self.noisy, *self.made.values(), *([] if self.truth is None else [self.truth])]
        self._view = SideBySide(self._viewer, order, maps=[self.made["std"]])
        direct = self.made["direct"]
        low, high = np.percentile(direct.data, _PERCENTILES_OF_CONTRAST)
        if low < high:
            direct.contrast_limits = (low, high)  # and so of all that are linked to it
        self._viewer.layers.selection.active = direct

    def _layer(self, name: str, image: NDArray[Any]) -> tuple[Any, dict[str, Any]]:
        """Make data and keywords of the layer of a result."""
        limits = (0.0, float(np.percentile(image, _PERCENTILE_SHOWN)) or 1.0) if name == "std" else None
        plane, kind = self._plane, "std" if name == "std" else "mean"  # a sample gets no axis of its own
        data, keywords = result_layer(
            plane.place, as_plane_of(image, plane.axes), kind, {"view": "comparison"}, None, limits, plane.axes
        )
        keywords["name"] = _TITLES[name].format(samples=self._samples)
        if name == "disagreement":
            keywords |= {"visible": False, "gamma": 1.0, "colormap": _TWO_SIDED}
            keywords["contrast_limits"] = (-_DEVIATIONS_SHOWN, _DEVIATIONS_SHOWN)
        return data, keywords

    def _facts(self, name: str) -> dict[str, Any]:
        """Provenance of a kept layer, as that of a result of the Denoise dock."""
        if name == "std" and not self.model.denoiser.model.has_std:
            name = "sample_std"
        samples = {"direct": None, "std": None, "sample": 1}.get(name, self._samples)
        return {
            "source": self._plane.source.name,
            "model": self.model.name,
            "method": name,
            "samples": samples,
            "seconds": self._seconds.get(name),
        }

    def _kept_name(self, name: str) -> str:
        place = self._plane.place.name
        if name == "disagreement":
            return f"{place} {_TITLES[name]}"
        facts = self._facts(name)
        return result_name(place, facts["method"], facts["samples"])
