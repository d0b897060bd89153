"""A line that a person draws over the image, and the pixels under it, read in a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from ...errors import DenoiserError
from ..shared.layers import METADATA_KEY, read_layer
from ..shared.workers import Job
from .runs import reading_lines

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from numpy.typing import NDArray

_MILLISECONDS_BETWEEN_READINGS = 100
Show = Callable[["NDArray[np.float64]", "dict[str, NDArray[np.float32]]", str], None]


class ProfileLine(QObject):
    """A Shapes layer to draw a line in. Profiles are read anew when the line, the plane in view or an image changes.

    `layers` holds that without which there is no line.
    """

    def __init__(
        self, viewer: napari.Viewer, images: Sequence[Image], show: Show, fail: Callable[[Exception], None]
    ) -> None:
        super().__init__()
        self._viewer, self._images, self._show, self._fail = viewer, list(images), show, fail
        self._active = viewer.layers.selection.active
        first = self._images[0]
        # With two axes, it is there in every plane.
        self.shapes = viewer.add_shapes(
            ndim=2,
            name="Profile line",
            scale=first.scale[-2:],
            units=first.units[-2:],
            edge_color="yellow",
            edge_width=max(max(first.data.shape[-2:]) / 200, 1),
            metadata={METADATA_KEY: {"view": "profile"}},
        )
        self.shapes.mode = "add_line"
        self.layers = [self.shapes]
        self._request: tuple[NDArray[np.float64], list[str], str]
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
        """Take the line away."""
        self._timer.stop()
        self._job.shutdown()
        self._viewer.dims.events.current_step.disconnect(self._soon)
        self.shapes.events.data.disconnect(self._on_drawn)
        if self.shapes in self._viewer.layers:
            self._viewer.layers.remove(self.shapes)
        if self._active in self._viewer.layers:
            self._viewer.layers.selection.active = self._active

    def _on_drawn(self, event: Any) -> None:
        if len(self.shapes.data) > 1 and event.action == "added":  # the new line takes the place of the old one
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
        lines = [np.array([image.world_to_data(end) for end in ends]) for image in self._images]
        points = int(np.ceil(np.linalg.norm(lines[0][1] - lines[0][0]))) + 1
        if points > 2:
            distance = np.linspace(0, np.linalg.norm(ends[1] - ends[0]), points)
            self._request = distance, [image.name for image in self._images], f"{self.shapes.units[-1]:~P}"
            self._job.start(reading_lines([read_layer(image).data for image in self._images], lines, points))

    def _on_read(self, profiles: list[NDArray[np.float32]]) -> None:
        distance, names, unit = self._request
        self._show(distance, dict(zip(names, profiles, strict=True)), unit)
