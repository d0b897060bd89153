"""The reader of model files: a model that is dropped on the viewer is chosen in the Denoise dock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari import current_viewer

from ..errors import DenoiserError
from .shared.open_dock import open_dock
from .shared.preferences import preferences
from .shared.session import MODELS
from .shared.workers import load_denoiser

if TYPE_CHECKING:
    from napari.types import LayerData

Paths = str | Sequence[str]
_NO_LAYERS: list[LayerData] = [(None,)]  # what npe2 calls a file that was read but holds no layers


def model_reader(path: Paths) -> Callable[[Paths], list[LayerData]]:
    """Give the function that opens model files."""
    return _open_models


def _open_models(path: Paths) -> list[LayerData]:
    """Add models to those of this session, and show the last one in the Denoise dock. They make no layers.

    Raises
    ------
    ModelFileError
        If there is no viewer, and a file holds no model of this package. A viewer shows the error.
    """
    viewer = current_viewer()
    for each in [path] if isinstance(path, str) else path:
        try:
            model = MODELS.add(Path(each).stem, load_denoiser(Path(each), preferences().device))
        except DenoiserError as error:
            if viewer is None:
                raise
            # raised, napari would say that another plugin may read the file
            open_dock(viewer, "Denoise").show_refusal(error)
        else:
            if viewer is not None:
                open_dock(viewer, "Denoise").show_model(model)
    return _NO_LAYERS
