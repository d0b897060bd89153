"""Options that several commands have, and images opened by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from ..data.io import ImageFile

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
Model = Annotated[Path, typer.Option("--model", metavar="M.safetensors", help="Model file made by train.")]
Student = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Student to use, such as median; info lists those of a model. If not given, the first."
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(metavar="TYX", help="Axes of the image; if not given, those of the file, or of the training."),
]
FileAxes = Annotated[
    str | None, typer.Option(metavar="TYX", help="Axes of the images; those of the files if not given.")
]
Channel = Annotated[int | None, typer.Option(metavar="N", min=0, help="Channel of the image, from 0; needs an axis C.")]


def setting(settings: BaseModel, name: str, *flags: str) -> Any:
    """Make an option for a field of the settings, described by the field."""
    return typer.Option(*flags, help=type(settings).model_fields[name].description)


def channel_of(file: ImageFile, axes: str | None, channel: int | None, name: str) -> tuple[ImageFile, str | None]:
    """Take a channel of an image file; give it with its axes, None where neither file nor user names them all."""
    from ..data.images import take_channel
    from ..data.views import sliceable

    image = file.data if channel is None else sliceable(file.data)
    data, left = take_channel(image, axes or file.axes, channel, name=name)
    file = replace(file, data=data, axes=left and left.upper())
    return file, file.axes if axes else file.known_axes


def named_like(file: ImageFile, used: str) -> ImageFile:
    """Give an image file the axes that were used, unless its own say the same or less (Q, I: unknown)."""
    own = file.axes
    agrees = own is not None and all(a in ("Q", "I", b) for a, b in zip(own, used, strict=True))
    return file if agrees else replace(file, axes=used)


def open_image(path: Path, axes: str | None = None, channel: int | None = None) -> tuple[ImageFile, str | None]:
    """Read an image file; see `channel_of`."""
    from ..data.io import read_image

    return channel_of(read_image(path), axes, channel, str(path))


def lazy_image(path: Path, axes: str | None = None, channel: int | None = None) -> tuple[ImageFile, str | None]:
    """Open an image file of which only what is needed is read; see `channel_of`."""
    from ..data.io import open_image

    return channel_of(open_image(path), axes, channel, str(path))
