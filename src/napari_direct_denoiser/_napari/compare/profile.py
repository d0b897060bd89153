"""Profiles of layers along a line that is drawn over the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QColor

from ...errors import DenoiserError
from ..shared.layers import METADATA_KEY, read_layer
from ..shared.panels import Panels, in_colour
from ..shared.workers import Job, Update
from .choices import std_of

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

_MILLISECONDS_BETWEEN_READINGS = 100
_SEGMENT = 512  # points of a line that are read at a time
# Okabe and Ito's colours for the colour-blind; those that are visible on dark and on light
_COLOURS = ("#999999", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_KEY_LETTERS = 28  # fit into the width of the dock
_BAND = 2  # standard deviations on both sides of a result
_BAND_ALPHA = 70  # of 255

Fail = Callable[[Exception], None]
Profile = NDArray[np.float32]


class ProfilePlot(Panels):
    """Intensities of some layers along a line."""

    def __init__(self) -> None:
        super().__init__("Intensity of the noisy image, the results and the truth along the drawn line.", height=230)
        self.item = self.panel(0, "")
        self.item.setLabel("left", "intensity")

    def entitle(self, item: pg.PlotItem, title: str) -> None:
        """Write a title of any number of lines over the plot."""
        super().entitle(item, title)
        height = 16 * (1 + title.count("<br>")) + 8  # pyqtgraph leaves room for one line
        item.titleLabel.setMaximumHeight(height)
        item.layout.setRowFixedHeight(0, height)

    def say(self, words: str) -> None:
        """Show words and no profile."""
        self.item.clear()
        self.entitle(self.item, words)

    def show_profiles(
        self, distance: NDArray[np.float64], profiles: dict[str, Profile], stds: dict[str, Profile], unit: str
    ) -> None:
        """Draw profiles by the name of their layer, the first one (noisy) below the others, with bands of +-2 std."""
        self.item.clear()
        keys = []
        for number, (name, profile) in enumerate(profiles.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            short = name.removeprefix(next(iter(profiles))).strip() or name  # results are named after the noisy image
            if len(short) > _KEY_LETTERS:
                short = f"{short[: _KEY_LETTERS // 2]}…{short[-_KEY_LETTERS // 2 :]}"
            if name in stds:
                self._draw_band(distance, profile, stds[name], colour)
                short += f" ± {_BAND} std"
            self.item.plot(distance, profile, pen=pg.mkPen(colour, width=2 if number else 1), connect="finite")
            keys.append(in_colour(escape(short), colour))
        self.entitle(self.item, "<br>".join(keys))
        self.item.setLabel("bottom", f"distance ({unit})")

    def _draw_band(self, distance: NDArray[np.float64], profile: Profile, std: Profile, colour: str) -> None:
        fill = QColor(colour)
        fill.setAlpha(_BAND_ALPHA)
        inside = np.isfinite(profile) & np.isfinite(std)
        edges = [pg.PlotDataItem(distance[inside], (profile + way * std)[inside]) for way in (-_BAND, _BAND)]
        self.item.addItem(pg.FillBetweenItem(*edges, brush=fill))


class ProfileLine(QObject):
    """A Shapes layer with one line. The profiles are read when the line, the plane in view or the images change."""

    def __init__(self, viewer: napari.Viewer, images: Sequence[Image], show: Callable[..., None], fail: Fail) -> None:
        super().__init__()
        self._viewer, self._images, self._show, self._fail = viewer, list(images), show, fail
        self._active = viewer.layers.selection.active
        first = self._images[0]
        self.shapes = viewer.add_shapes(
            ndim=2,  # without other axes the line is in every plane
            name="Profile line",
            scale=first.scale[-2:],
            units=first.units[-2:],
            edge_color="yellow",
            edge_width=max(max(read_layer(first).shape[-2:]) / 200, 1),
            metadata={METADATA_KEY: {"view": "profile"}},
        )
        self.shapes.mode = "add_line"
        self.layers = [self.shapes]
        self._request: tuple[NDArray[np.float64], list[str], list[str], str]
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._read)
        self._job = Job(self)
        self._job.succeeded.connect(self._on_read)
        self._job.failed.connect(fail)
        self.shapes.events.data.connect(self._on_drawn)
        viewer.dims.events.current_step.connect(self._soon)

    def read(self, images: Sequence[Image]) -> None:
        """Read these images from now on."""
        self._images = list(images)
        self._soon()

    def close(self) -> None:
        """Remove the line."""
        self._timer.stop()
        self._job.shutdown()
        self._viewer.dims.events.current_step.disconnect(self._soon)
        self.shapes.events.data.disconnect(self._on_drawn)
        if self.shapes in self._viewer.layers:
            self._viewer.layers.remove(self.shapes)
        if self._active in self._viewer.layers:
            self._viewer.layers.selection.active = self._active

    def _on_drawn(self, event: Any) -> None:
        if len(self.shapes.data) > 1 and event.action == "added":  # a new line replaces the old one
            QTimer.singleShot(0, self._keep_last)
        self._soon()

    def _keep_last(self) -> None:
        self.shapes.selected_data = set(range(len(self.shapes.data) - 1))
        self.shapes.remove_selected()

    def _soon(self, event: Any = None) -> None:
        if not self._timer.isActive():
            self._timer.start(_MILLISECONDS_BETWEEN_READINGS)

    def _read(self) -> None:
        if self._job.running:
            self._soon()
        elif len(self.shapes.data) and self._images:
            try:
                self._start()
            except DenoiserError as error:
                self._fail(error)

    def _start(self) -> None:
        drawn = self.shapes.data[-1]
        ends = []
        for corner in (drawn[0], drawn[-1]):
            world = np.array(self._viewer.dims.point, float)
            world[-2:] = self.shapes.data_to_world(corner)
            ends.append(world)
        found = [(image, std_of(image, self._viewer)) for image in self._images]
        stds = {image.name: std for image, std in found if std is not None}
        layers = [*self._images, *stds.values()]
        lines = [np.array([layer.world_to_data(end) for end in ends]) for layer in layers]
        points = int(np.ceil(np.linalg.norm(lines[0][1] - lines[0][0]))) + 1
        if points > 2:
            distance = np.linspace(0, np.linalg.norm(ends[1] - ends[0]), points)
            names = [image.name for image in self._images]
            self._request = distance, names, [*stds], f"{self.shapes.units[-1]:~P}"
            self._job.start(_reading_lines([read_layer(layer).data for layer in layers], lines, points))

    def _on_read(self, profiles: list[Profile]) -> None:
        distance, names, with_std, unit = self._request
        stds = dict(zip(with_std, profiles[len(names) :], strict=True))
        self._show(distance, dict(zip(names, profiles, strict=False)), stds, unit)


def _reading_lines(
    images: Sequence[Any], ends: Sequence[NDArray[np.float64]], points: int
) -> Generator[Update, None, list[Profile]]:
    """Read each image along a line between two ends (2, axes) in its own pixels; NaN outside the image."""
    yield Update("Reading the line …")
    return [_along(image, line, points) for image, line in zip(images, ends, strict=True)]


def _along(image: Any, line: NDArray[np.float64], points: int) -> Profile:
    from scipy.ndimage import map_coordinates

    start, end = np.where(line[0] == line[1], np.round(line), line)  # the index of the plane is a whole number
    found = []
    # In segments: of each, its bounding box is read
    for part in np.array_split(np.linspace(start, end, points), math.ceil(points / _SEGMENT)):
        low = np.clip(np.floor(part.min(0)).astype(int), 0, np.subtract(image.shape, 1))
        high = np.clip(np.ceil(part.max(0)).astype(int) + 1, low + 1, image.shape)
        box = np.asarray(image[tuple(map(slice, low, high))]).astype(np.float32)
        found.append(map_coordinates(box, (part - low).T, order=1, mode="constant", cval=np.nan))
    return np.concatenate(found)
