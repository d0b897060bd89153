"""What can go wrong in a way that a person can mend.

Every message names what was found and what to do. None of these is a
`RuntimeError`: napari's worker threads turn those into a mere warning.
"""


class DenoiserError(Exception):
    """Base of all errors that are shown to a person as one line of text."""


class ImageError(DenoiserError):
    """An image, or the axes given for it, cannot be used."""


class ModelFileError(DenoiserError):
    """A model or noise model file cannot be read or written."""


class SettingError(DenoiserError):
    """A setting has a value that makes no sense."""


class TrainingError(DenoiserError):
    """Training had to stop before it made a usable model, or cannot start."""
