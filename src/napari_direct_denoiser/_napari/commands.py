"""Commands of the command palette that open a dock and start its run at once. No key is bound to them."""

from napari.layers import Image
from napari.viewer import Viewer  # no postponed annotations here: napari passes the viewer by this type

from ..errors import DenoiserError, SettingError
from .shared.layers import is_result, read_layer
from .shared.open_dock import open_dock
from .shared.session import MODELS


def train_now(viewer: Viewer) -> None:
    """Open the Train dock, and train on the selected layer with the settings that the dock shows."""
    open_dock(viewer, "Train").train_now()


def compare_now(viewer: Viewer) -> None:
    """Open the Compare dock, and compare HDN with the direct pass of the newest model on the selected layer."""
    dock = open_dock(viewer, "Compare")
    active = viewer.layers.selection.active
    layer = active if isinstance(active, Image) and not is_result(active) else dock.layer_choice.layer
    try:
        read_layer(layer)
        if not MODELS.all:
            raise SettingError("Expected a model, found none: train one in the Train dock, or load one")
    except DenoiserError as error:
        dock.on_failure(error)
    else:
        dock.compare_layer(layer, MODELS.all[-1])
