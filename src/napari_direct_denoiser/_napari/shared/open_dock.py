"""Docks of this plugin in the main window: open one, put them behind each other as tabs.

The docks do not import each other: one that needs another opens it here by its name in the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from npe2 import PluginManager
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from .session import NamedModel

PLUGIN = "napari-direct-denoiser"


class DenoisesLayers(Protocol):
    """What the Denoise dock does for other docks."""

    def denoise_layer(self, layer: Image, model: NamedModel) -> None:
        """Choose a layer and a model, and start the direct pass."""


class ComparesLayers(Protocol):
    """What the Compare dock does for other docks."""

    def compare_layer(self, layer: Image, model: NamedModel) -> None:
        """Choose a layer and a model, and compare HDN with the direct pass on the plane in view."""


def open_dock(viewer: napari.viewer.Viewer, name: str) -> Any:
    """Open a dock of this plugin, or raise the one that is open, wherever it was opened; give its widget.

    A new one has the title that napari's menu gives it, so that the menu hides and shows the same dock.

    Parameters
    ----------
    viewer
        The viewer to open it in.
    name
        ``"Train"``, ``"Denoise"`` or ``"Compare"``.
    """
    plugins = PluginManager.instance()
    make: Any = plugins.commands.get(f"{PLUGIN}.{name.lower()}")
    shown = viewer.window.dock_widgets.values()
    widget = next((getattr(each, "__wrapped__", each) for each in shown if isinstance(each, make)), None)  # no proxy
    if widget is None:
        widget = make(viewer)
        viewer.window.add_dock_widget(widget, name=f"{name} ({plugins.get_manifest(PLUGIN).display_name})")
    dock = _dock_of(widget)
    assert dock is not None
    dock.show()
    dock.raise_()
    return widget


def denoise_stack(viewer: napari.viewer.Viewer, layer: Image, model: NamedModel) -> None:
    """Open the Denoise dock and start the direct pass of a model on a layer."""
    dock: DenoisesLayers = open_dock(viewer, "Denoise")
    dock.denoise_layer(layer, model)


def compare_hdn_with_direct(viewer: napari.viewer.Viewer, layer: Image, model: NamedModel) -> None:
    """Open the Compare dock and compare HDN with the direct pass of a model on the plane of a layer in view."""
    dock: ComparesLayers = open_dock(viewer, "Compare")
    dock.compare_layer(layer, model)


def tabify(widget: QWidget, kind: type[QWidget]) -> None:
    """Put the dock of a widget behind others in the same area that hold a widget of this kind, and raise it.

    Works on Qt's own widgets: napari's ``tabify`` argument would tabify with docks of any plugin.
    """
    dock = _dock_of(widget)
    window = None if dock is None else dock.parentWidget()
    if dock is None or not isinstance(window, QMainWindow) or dock.isFloating():
        return
    area = window.dockWidgetArea(dock)
    for other in window.findChildren(QDockWidget):
        near = other is not dock and not other.isFloating() and not other.isHidden()
        if near and window.dockWidgetArea(other) == area and other.findChild(kind) is not None:
            if dock not in window.tabifiedDockWidgets(other):
                window.tabifyDockWidget(other, dock)
            dock.raise_()
            return


def _dock_of(widget: QWidget) -> QDockWidget | None:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
