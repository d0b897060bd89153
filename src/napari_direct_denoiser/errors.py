"""User-facing errors: each message names what was found and how to mend it.

None of these is a `RuntimeError`: napari's worker threads turn those into a mere warning.
"""

from __future__ import annotations

_LONGEST = 200  # letters of a library's error


class DenoiserError(Exception):
    """Base of all errors that are shown to a user as one line of text."""


class ImageError(DenoiserError):
    """An image, or the axes given for it, cannot be used."""


class ColourImageError(ImageError):
    """An image is in colour, or its file says so.

    Attributes
    ----------
    suggested_axes
        Axes that work if the image is a stack of planes that was labelled as colours, such as ``"ZYX"``; None for an
        image that has its colours last.
    """

    def __init__(self, words: str, suggested_axes: str | None = None) -> None:
        super().__init__(words)
        self.suggested_axes = suggested_axes


class ModelFileError(DenoiserError):
    """A model or noise model file cannot be read or written."""


class SettingError(DenoiserError):
    """A setting has a value that makes no sense."""


class TrainingError(DenoiserError):
    """Training cannot start, or ended before there was a usable model."""


def reason(error: BaseException) -> str:
    """What an error of a library says, as one line that fits into a message: it may quote a whole damaged file."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
