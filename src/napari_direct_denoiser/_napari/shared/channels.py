"""Colour images and channel axes. A model denoises one kind of image, so one channel is chosen, or all are split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ...data.images import guess_axes
from ...data.views import sliceable
from ...errors import DenoiserError, ImageError
from .layers import Source, full_shape, geometry, read_layer, without_axis

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

_COLOURS = ("red", "green", "blue", "gray")
_CHOOSE = "Channel: choose one …"


@dataclass(frozen=True)
class ChannelAxis:
    """The axis of a layer's data that holds channels."""

    axis: int
    size: int
    rgb: bool
    """Whether napari shows the channels as colours; then the layer has no axis for them."""
    axes: str
    """Letters of all axes of the data, ``C`` or ``S`` among them; empty if they are not known."""

    def name(self, channel: int) -> str:
        """Name a channel: ``red``, ``C=1``."""
        return _COLOURS[channel] if self.rgb else f"C={channel}"

    @property
    def as_planes(self) -> str:
        """Letters of the axes if the channels are planes of a stack; empty if they cannot be."""
        free = next((letter for letter in "ZTP" if letter not in self.axes), "")
        return "" if self.rgb else self.axes[: self.axis] + free + self.axes[self.axis + 1 :] if free else ""


def find_channels(layer: Layer | None, axes: str | None = None) -> ChannelAxis | None:
    """Find the channels of a layer: by its colours, by the letters of its axes, or by a guess.

    Parameters
    ----------
    layer
        Any layer.
    axes
        Letters of the axes of the data; None if nothing names them. Then a last axis of 3 or 4 counts as channels.
    """
    if not isinstance(layer, Image):
        return None
    shape = full_shape(layer)
    last = len(shape) - 1
    if layer.rgb:
        return ChannelAxis(last, shape[-1], True, "")
    if not axes:
        if len(shape) <= 2 or shape[-1] not in (3, 4):
            return None
        try:
            return ChannelAxis(last, shape[-1], False, guess_axes(last) + "C")
        except DenoiserError:
            return None
    axes = axes.upper()
    at = max(axes.find("C"), axes.find("S"))
    found = len(axes) == len(shape) and at >= 0 and shape[at] > 1
    return ChannelAxis(at, shape[at], False, axes) if found else None


def channel_axis(layer: Any, axes: str | None = None) -> int | None:
    """Index of the axis of a layer's data that holds channels; None if there is none. See `find_channels`."""
    found = find_channels(layer, axes)
    return None if found is None else -1 if found.rgb else found.axis


def read_channel(layer: Image, found: ChannelAxis, channel: int) -> tuple[Source, str | None]:
    """Read one channel of a layer, where it lies: its channel axis is kept with length 1.

    Parameters
    ----------
    layer
        An image with channels.
    found
        Its `find_channels`.
    channel
        Number of the channel, from 0.

    Returns
    -------
    source : Source
        The channel. The data is sliced lazily.
    axes : str or None
        Letters of its axes, in the order of the layer's; None to guess them.
    """
    if not 0 <= channel < found.size:
        raise ImageError(f"Expected a channel from 0 to {found.size - 1}, found {channel} for {layer.name!r}")
    name = f"{layer.name} {found.name(channel)}"
    data = layer.data[0] if layer.multiscale else layer.data
    if found.rgb:
        plain = Image(np.zeros((2,) * layer.ndim), colormap="gray", **geometry(layer))
        limits = {"contrast_limits": tuple(layer.contrast_limits)}
        source = read_layer(plain)
        return replace(
            source, name=name, data=data[..., channel], appearance={**source.appearance, **limits}
        ), source.axes
    source = read_layer(layer, found.axes)
    affine = source.appearance["affine"].copy()
    corner = np.eye(len(found.axes))[found.axis] * channel
    affine[:-1, -1] += np.subtract(layer.data_to_world(corner), layer.data_to_world(0 * corner))
    cut = (slice(None),) * found.axis + (slice(channel, channel + 1),)
    pixels = sliceable(data)[cut]
    source = replace(source, name=name, data=pixels, appearance={**source.appearance, "affine": affine})
    return source, found.axes


def split_channels(viewer: napari.viewer.Viewer, layer: Image, axis: int) -> list[Image]:
    """Add a layer for each channel, exactly where its image lies, and hide the image.

    Parameters
    ----------
    viewer
        The viewer to add them to.
    layer
        An image with channels.
    axis
        Its `channel_axis`.
    """
    place = geometry(layer) if layer.rgb else without_axis(geometry(layer), axis)
    levels = list(layer.data) if layer.multiscale else [layer.data]
    axis %= len(levels[0].shape)
    layers = []
    for number in range(levels[0].shape[axis]):
        pixels = [level[(slice(None),) * axis + (number,)] for level in levels]
        colour = _COLOURS[number] if layer.rgb else "gray"
        name = f"{layer.name} {colour}" if layer.rgb else f"{layer.name} C={number}"
        data = pixels if layer.multiscale else pixels[0]
        layers.append(
            viewer.add_image(data, name=name, colormap=colour, multiscale=layer.multiscale, rgb=False, **place)
        )
    layer.visible = False
    viewer.layers.selection.active = layers[0]
    return layers


class ChannelsRow(QWidget):
    """Ask what to do with the channels of a layer: use one, split them, or treat them as planes.

    A dock calls `show_layer` whenever the layer or its axes may have changed, and reads `channel`. The row is visible
    only if the layer has channels, and splits them itself. The dock connects `planes_wanted`, for example to
    `AxesRow.correct`.
    """

    changed = Signal()
    """A person chose another channel."""
    planes_wanted = Signal(str)
    """The channels are planes of a stack: letters of the axes then."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Image | None = None
        self.found: ChannelAxis | None = None
        """The channels of the layer."""
        self.choice = QComboBox()
        self.choice.setToolTip(
            "Channels are different images: use one of them. Train one model for each channel to denoise them all."
        )
        self.split_button = QPushButton("Split the channels")
        self.split_button.setToolTip("Add one layer for each channel, and hide this layer. The pixels are not copied.")
        self.planes_button = QPushButton()
        self.planes_button.setToolTip(
            "These are no channels but planes of one stack, which look alike: use all of them. Some programs write a "
            "stack of three planes as if it were a colour image."
        )
        row = QHBoxLayout()
        row.addWidget(self.choice, 1)
        row.addWidget(self.split_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.planes_button)
        self.choice.currentIndexChanged.connect(self.changed)
        self.split_button.clicked.connect(self._split)
        self.planes_button.clicked.connect(self._treat_as_planes)
        self.show_layer(None, None)

    @property
    def channel(self) -> int | None:
        """Number of the chosen channel; None if none is chosen, or the layer has no channels."""
        return self.choice.currentIndex() - 1 if self.found is not None and self.choice.currentIndex() > 0 else None

    def show_layer(self, layer: Layer | None, axes: str | None) -> None:
        """Offer the channels of a layer, with these letters of its axes; hide if it has none."""
        found = find_channels(layer, axes)
        if (layer, found) != (self._layer, self.found):
            with QSignalBlocker(self.choice):
                self.choice.clear()
                if found is not None:
                    self.choice.addItems([_CHOOSE, *(f"Channel {found.name(at)}" for at in range(found.size))])
            self._layer, self.found = layer, found
        planes = "" if found is None else found.as_planes
        self.planes_button.setText(f"Treat as planes ({planes})")
        self.planes_button.setVisible(bool(planes))
        self.setVisible(found is not None)

    def release(self) -> None:
        """Let go of the layer."""
        self._layer = None

    def _split(self) -> None:
        if self._layer is not None and self.found is not None:
            split_channels(self._viewer, self._layer, -1 if self.found.rgb else self.found.axis)

    def _treat_as_planes(self) -> None:
        if self.found is not None:
            self.planes_wanted.emit(self.found.as_planes)
