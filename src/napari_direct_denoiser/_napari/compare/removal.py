"""Layers leave the viewer one by one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from .titles import TITLES
from .views import in_one_go

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from ..shared.turns import Turns


class Removal:
    """Removes hidden layers, one in each turn.

    napari collects all garbage whenever a layer is removed, for 0.3 s: here it does so once, in a turn of its own.

    Parameters
    ----------
    viewer
        The viewer that holds the layers. Those that are no longer in it are left out.
    layers
        What to remove.
    turns
        When to do so.
    """

    def __init__(self, viewer: napari.Viewer, layers: Sequence[Layer], turns: Turns) -> None:
        self.viewer = viewer
        self._together, self._begun = ExitStack(), False
        TITLES.stay_during(turns)
        for layer in layers:
            turns.add(f"remove {id(layer)}", partial(self._remove, layer))
        if layers:
            turns.add(f"end {id(self)}", self._end)

    def _remove(self, layer: Layer) -> None:
        if layer not in self.viewer.layers:
            return
        if not self._begun:
            self._begun = True
            self._together.enter_context(in_one_go(self.viewer))
        self.viewer.layers.remove(layer)

    def _end(self) -> None:
        self._together.close()
