"""Results for the plane in view, in a grid beside the noisy layer. Closing it restores the viewer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.images import LazyPlanes, named_axes
from ..shared.layers import METADATA_KEY, Source, read_layer
from ..shared.plane_layers import plane_in_view, plane_number, plane_words, source_of_plane
from .removal import Removal
from .views import SideBySide

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from ..shared.session import NamedModel
    from ..shared.turns import Turns
    from ..shared.workers import Steps

_PERCENTILES_OF_CONTRAST = (0.1, 99.9)


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

    @property
    def stack(self) -> LazyPlanes:
        """All planes of the layer."""
        return LazyPlanes(self.source.data, self.axes)


def fit_contrast(layer: Image) -> None:
    """Fit the contrast limits of a layer, and so of all that are linked to it, to its pixels."""
    low, high = np.percentile(layer.data, _PERCENTILES_OF_CONTRAST)
    if low < high:
        layer.contrast_limits = (low, high)


class ResultsInGrid(ABC):
    """Layers of results of one plane, in a grid.

    Parameters
    ----------
    viewer
        The viewer that holds the layers.
    noisy, truth
        The layers to show beside the results.
    model
        The model that makes the results.
    turns, leaving
        In which the layers come, and in which they leave, one by one.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        noisy: Image,
        truth: Image | None,
        model: NamedModel,
        turns: Turns,
        leaving: Turns,
    ) -> None:
        self.viewer, self.noisy, self.truth, self.model = viewer, noisy, truth, model
        self.turns, self.leaving = turns, leaving
        self.plane: ComparedPlane
        """The plane that was in view when the run began."""
        self.view: SideBySide | None = None
        self.made: dict[str, Image] = {}
        """Layers of the results."""
        self._active = viewer.layers.selection.active

    @abstractmethod
    def steps(self) -> Steps:
        """Find the plane in view, and make the steps that compute its results."""

    @abstractmethod
    def finish(self, found: Any) -> None:
        """Show what the steps returned."""

    @abstractmethod
    def kept(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and provenance of a layer that is kept."""

    @property
    def complete(self) -> bool:
        """Whether all its layers are in the viewer."""
        return all(layer in self.viewer.layers for layer in self._layers)

    @property
    def is_empty(self) -> bool:
        """Whether it shows nothing and will not."""
        return not self.made and not self.turns.waiting

    @property
    def is_outdated(self) -> bool:
        """Whether another plane is in view."""
        return ComparedPlane.in_view(self.viewer, self.noisy).leading != self.plane.leading

    def open(self, *maps: Image, fitted: Image | None = None) -> None:
        """Show the layers of the results between the noisy layer and the truth; for the rest see `SideBySide`."""
        self.view = SideBySide(self.viewer, self._layers, maps, self.turns, fitted)

    def close(self, *, keep: bool) -> None:
        """Restore the viewer, and hide the layers. If they are not to be kept, they leave in the next turns."""
        self.turns.clear()
        view, self.view = self.view, None
        made, self.made = self.made, {}
        if view is not None:
            view.close()
        for name, layer in made.items() if keep else ():
            if layer in self.viewer.layers:
                layer.visible = False
                layer.name, facts = self.kept(name)
                layer.metadata = {METADATA_KEY: facts}
        if self._active in self.viewer.layers:
            self.viewer.layers.selection.active = self._active
        if not keep:
            Removal(self.viewer, list(made.values()), self.leaving)

    @property
    def _layers(self) -> list[Image]:
        """The layers of the grid, in their order."""
        return [self.noisy, *self.made.values(), *([] if self.truth is None else [self.truth])]
