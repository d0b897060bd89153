"""Colour images and channels: a model denoises one kind of image, so each channel becomes a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image

from .layers import geometry, without_axis

if TYPE_CHECKING:
    import napari

_COLOURS = ("red", "green", "blue", "gray")


def channel_axis(layer: Any, axes: str | None = None) -> int | None:
    """Which axis of a layer's data are channels, None if there is none: by its colours, its axes, or a guess."""
    if not isinstance(layer, Image):
        return None
    if layer.rgb:
        return -1
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    if not axes:
        return len(shape) - 1 if len(shape) > 2 and shape[-1] in (3, 4) else None
    at = axes.upper().find("C")
    return at if at >= 0 and len(axes) == len(shape) and shape[at] > 1 else None


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
