"""The command Denoise now, in Layers > Filter, in the command palette and on a key: the direct pass with one click."""

from napari.components import ViewerModel
from napari.utils.key_bindings import USER_KEYMAP, coerce_keybinding
from napari.viewer import Viewer  # no postponed annotations here: napari passes the viewer by this type

from ..shared.open_dock import open_dock

SHORTCUT = "Control-Shift-D"


def denoise_now(viewer: Viewer) -> None:
    """Open the Denoise dock and denoise the active layer with the newest model."""
    open_dock(viewer, "Denoise").denoise_now()


def bind_shortcut(viewer: Viewer) -> bool:
    """Bind `denoise_now` to its key unless napari uses that key; give whether the key works in this viewer.

    napari ignores keybindings in the manifest of a plugin. The key is bound for `ViewerModel`, where napari looks last:
    a binding of the user, for a viewer, for all viewers or in the preferences, goes before it at any time.
    """
    key = coerce_keybinding(SHORTCUT)
    if key not in ViewerModel.class_keymap:
        ViewerModel.bind_key(key, denoise_now)
    classes = [kind.class_keymap for kind in viewer.__class__.__mro__ if hasattr(kind, "class_keymap")]
    bound = next(keymap[key] for keymap in (USER_KEYMAP, viewer.keymap, *classes) if key in keymap)
    return bool(bound == denoise_now)
