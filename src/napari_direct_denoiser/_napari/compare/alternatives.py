"""Alternatives of the region in view: samples that represent the clusters of posterior samples, in a grid."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...progress import mapped
from ..shared.layers import full_shape, result_layer
from ..shared.plane_layers import as_plane_of, source_of_plane
from ..shared.workers import Update
from .choices import true_planes
from .in_grid import ComparedPlane, ResultsInGrid, fit_contrast
from .views import camera_of, canvas_size

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from ...data.images import LazyPlanes
    from ...denoiser import Denoiser
    from ...evaluation.alternatives import RegionAlternatives
    from ..shared.workers import Steps

_SMALLEST_SIDE = 32  # pixels of a region, also if less is in view


class AlternativesInGrid(ResultsInGrid):
    """Layers of the alternatives of a region, which is the one in view when this is made."""

    _region: tuple[slice, slice] | None = None

    def steps(self) -> Steps:
        """Find the plane and the region in view, and make the steps that draw samples of it."""
        self.plane = plane = ComparedPlane.in_view(self.viewer, self.noisy)
        true_planes(self.noisy, self.truth, plane.axes)  # refuses a truth of another shape
        self._region = self._region or region_in_view(self.viewer, self.noisy, plane.axes)  # it stays on other planes
        return finding_alternatives(self.model.denoiser, plane.stack, plane.number, self._region)

    def finish(self, found: RegionAlternatives) -> None:
        """Show the alternatives over the region, in place of those shown before: one in each turn."""
        self.close(keep=False)
        assert self._region is not None
        plane, origin = self.plane, (self._region[0].start, self._region[1].start)
        place = source_of_plane(plane.source, self.noisy, plane.axes, plane.leading, origin)
        clusters = found.alternatives
        for number, (image, share) in enumerate(zip(found.images, clusters.shares, strict=True), 1):
            name = f"alternative {number} ({share:.0%})" if clusters.are_distinct else f"sample {number}"
            data, keywords = result_layer(
                place, as_plane_of(image, plane.axes), "mean", {"view": "alternatives"}, axes=plane.axes
            )
            self.turns.add(name, partial(self._add, name, data, {**keywords, "name": name, "visible": False}))
        self.turns.add("view", self._open)

    def _add(self, name: str, data: Any, keywords: Mapping[str, Any]) -> None:
        self.made[name] = self.viewer.add_image(data, **keywords)

    def _open(self) -> None:
        first = next(iter(self.made.values()))
        self.open(fitted=first)
        fit_contrast(first)
        self.viewer.layers.selection.active = first

    def kept(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and provenance of a layer that is kept."""
        facts = {"method": "sample", "samples": 1, "seconds": None}
        return f"{self.plane.place.name} {name}", {"source": self.plane.source.name, "model": self.model.name, **facts}


def region_in_view(viewer: napari.Viewer, layer: Image, axes: str) -> tuple[slice, slice]:
    """The part of a plane, Y and X, around the centre of the view: what is in view, or the middle of it."""
    from ...evaluation.alternatives import SIDE

    camera, shown = camera_of(viewer), list(viewer.dims.displayed)[-2:]
    middle = np.array(viewer.dims.point, dtype=float)
    middle[shown] = camera.center[-2:]
    half = np.divide(canvas_size(viewer), 2 * camera.zoom)
    corners = []
    for signs in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = middle.copy()
        corner[shown] += signs * half
        corners.append(layer.world_to_data(corner))
    visible, centre = np.ptp(corners, axis=0), np.array(layer.world_to_data(middle))
    parts = []
    for at, size in ((axes.index(axis), full_shape(layer)[axes.index(axis)]) for axis in "YX"):
        side = min(round(np.clip(visible[at], _SMALLEST_SIDE, SIDE)), size)
        start = int(np.clip(round(centre[at] - (side - 1) / 2), 0, size - side))
        parts.append(slice(start, start + side))
    return parts[0], parts[1]


def finding_alternatives(
    denoiser: Denoiser, noisy: LazyPlanes, number: int, region: tuple[slice, slice]
) -> Generator[Update, None, RegionAlternatives]:
    """Draw samples of a region of one plane, and find the alternatives among them."""
    from ...evaluation.alternatives import alternatives_steps

    yield Update("Reading the region in view …")
    found: RegionAlternatives = yield from mapped(
        alternatives_steps(denoiser.model, noisy, number, region),
        lambda progress: Update("Drawing samples of the region …", progress.fraction, progress.remaining_seconds),
    )
    return found
