"""The comparison in the viewer: noisy | direct | HDN mean | one sample | std of one plane, in a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import Colormap

from ..shared.layers import result_layer, result_name
from ..shared.plane_layers import as_plane_of
from .against import against_direct
from .choices import true_planes
from .in_grid import ComparedPlane, ResultsInGrid, fit_contrast

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

    from ...evaluation.verdict import Compared
    from ..shared.session import NamedModel
    from ..shared.turns import Turns
    from ..shared.workers import Steps

_PERCENTILE_SHOWN = 99.5  # of a standard deviation: upper contrast limit
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


class Comparison(ResultsInGrid):
    """Layers of one comparison of HDN with the direct pass; `samples` as in `CompareSettings`."""

    def __init__(
        self,
        viewer: napari.Viewer,
        noisy: Image,
        truth: Image | None,
        model: NamedModel,
        turns: Turns,
        leaving: Turns,
        samples: Sequence[int],
    ) -> None:
        super().__init__(viewer, noisy, truth, model, turns, leaving)
        self._counts = samples
        self._samples = 0
        self._seconds: dict[str, float] = {}

    def steps(self) -> Steps:
        """Find the plane in view, and make the steps that compare HDN with the direct pass on it."""
        self.plane = plane = ComparedPlane.in_view(self.viewer, self.noisy)
        truth = true_planes(self.noisy, self.truth, plane.axes)
        return against_direct(self.model.denoiser, plane.stack, truth, plane.number, self._counts)

    def show(self, images: Mapping[str, NDArray[Any]], samples: int) -> None:
        """Show the results for the plane, (H, W) each, in place of those shown before: one in each turn."""
        self._samples, self._seconds = samples, {}
        for name, image in images.items():
            self.turns.add(name, partial(self._show, name, *self._layer(name, image)))
        if self.view is None:
            self.turns.add("view", self._open)

    def finish(self, found: Compared) -> None:
        """Add the map of disagreement, hidden, or renew it; and note how long the results took."""
        result = found.result
        if result.disagreement is not None:
            layer = self._layer("disagreement", result.disagreement[0])
            self.turns.add("disagreement", partial(self._show, "disagreement", *layer))
            self.turns.add("cell", self._give_cell)
        self._seconds = {"direct": result.direct_seconds, "mean": result.seconds[-1]}

    def _show(self, name: str, data: Any, keywords: Mapping[str, Any]) -> None:
        """Add a layer, hidden until the view opens, or renew it."""
        if name not in self.made:
            self.made[name] = self.viewer.add_image(data, **{**keywords, "visible": False})
            return
        layer = self.made[name]
        layer.affine, layer.data = keywords["affine"], data
        layer.name = keywords["name"]
        if name == "std":
            layer.contrast_limits = keywords["contrast_limits"]

    def _give_cell(self) -> None:
        """Give the map of disagreement a cell in the open view."""
        layer = self.made["disagreement"]
        if self.view is not None and layer not in self.view.images:
            self.view.add(layer)
            self.viewer.layers.selection.active = self.made["direct"]

    def _open(self) -> None:
        self.open(self.made["std"])
        direct = self.made["direct"]
        fit_contrast(direct)
        self.viewer.layers.selection.active = direct

    def _layer(self, name: str, image: NDArray[Any]) -> tuple[Any, dict[str, Any]]:
        """Make data and keywords of the layer of a result."""
        limits = (0.0, float(np.percentile(image, _PERCENTILE_SHOWN)) or 1.0) if name == "std" else None
        plane, kind = self.plane, "std" if name == "std" else "mean"  # a sample gets no axis of its own
        data, keywords = result_layer(
            plane.place, as_plane_of(image, plane.axes), kind, {"view": "comparison"}, None, limits, plane.axes
        )
        keywords["name"] = _TITLES[name].format(samples=self._samples)
        if name == "disagreement":
            keywords |= {"gamma": 1.0, "colormap": _TWO_SIDED}
            keywords["contrast_limits"] = (-_DEVIATIONS_SHOWN, _DEVIATIONS_SHOWN)
        return data, keywords

    def _facts(self, name: str) -> dict[str, Any]:
        """Provenance of a kept layer, as that of a result of the Denoise dock."""
        if name == "std" and not self.model.denoiser.model.has_std:
            name = "sample_std"
        samples = {"direct": None, "std": None, "sample": 1}.get(name, self._samples)
        return {
            "source": self.plane.source.name,
            "model": self.model.name,
            "method": name,
            "samples": samples,
            "seconds": self._seconds.get(name),
        }

    def kept(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and provenance of a layer that is kept."""
        place, facts = self.plane.place.name, self._facts(name)
        if name == "disagreement":
            return f"{place} {_TITLES[name]}", facts
        return result_name(place, facts["method"], facts["samples"]), facts
