"""Layers > Filter > Denoise now, in the command palette, and by a key: the direct pass with one click."""

from napari.viewer import Viewer  # no postponed annotations here: napari gives the viewer by this type

PLUGIN, DOCK = "napari-direct-denoiser", "Denoise"
SHORTCUT = "Control-Shift-D"


def denoise_now(viewer: Viewer) -> None:
    """Open the Denoise dock and denoise the active layer with the newest model."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    dock.show()
    dock.raise_()
    widget.denoise_now()
