"""Names of layers over their pictures."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from psygnal import EmitLoopError
from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from napari.layers import Layer

    from ..shared.turns import Turns

_POINTS = 8  # names of results must fit into a cell of the grid
MILLISECONDS_UNTIL_HIDDEN = 100
"""Until then napari has drawn."""


class Titles:
    """Shows names of layers, and hides them a moment later than asked.

    OpenGL ends the process if napari 0.9 hides a name and removes another layer with a name between two drawings, which
    is what happens when a comparison is left. So names also stay as long as layers are being removed.
    """

    def __init__(self) -> None:
        self._removals: WeakSet[Turns] = WeakSet()
        self._shown: set[Layer] = set()
        self._before: dict[Layer, tuple[bool, int]] = {}

    def stay_during(self, removals: Turns) -> None:
        """Hide no name while layers are removed in these turns."""
        self._removals.add(removals)

    def show(self, layer: Layer) -> None:
        """Show the name of a layer."""
        overlay = layer.name_overlay
        self._before.setdefault(layer, (overlay.visible, overlay.font_size))
        self._shown.add(layer)
        overlay.font_size, overlay.visible = _POINTS, True

    def hide_soon(self, layer: Layer) -> None:
        """Restore what was before, unless the name is shown again in the meantime."""
        self._shown.discard(layer)
        self._restore_later(layer)

    def _restore_later(self, layer: Layer) -> None:
        QTimer.singleShot(MILLISECONDS_UNTIL_HIDDEN, partial(self._restore, layer))

    def _restore(self, layer: Layer) -> None:
        if any(1e3 * removals.seconds_at_rest < MILLISECONDS_UNTIL_HIDDEN for removals in self._removals):
            self._restore_later(layer)
        elif layer not in self._shown and layer in self._before:
            visible, font_size = self._before.pop(layer)
            with suppress(EmitLoopError, RuntimeError):  # the window was closed meanwhile: there is nothing to draw on
                layer.name_overlay.visible, layer.name_overlay.font_size = visible, font_size


TITLES = Titles()
