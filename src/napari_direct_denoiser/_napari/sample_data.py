"""The sample of the menu File > Open Sample > Simulated filaments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.synthetic import simulate

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

_PIXEL_MICROMETRES = 0.1


def simulated_filaments() -> list[LayerDataTuple]:
    """A simulated noisy stack, and below it the clean stack that it was made from, hidden."""
    stack = simulate()
    low, high = np.quantile(stack.truth[0], [0.001, 0.998])
    common = {
        "scale": (1, _PIXEL_MICROMETRES, _PIXEL_MICROMETRES),
        "units": ("pixel", "micrometer", "micrometer"),
        "axis_labels": ("t", "y", "x"),
        "contrast_limits": (float(low), float(high)),
    }
    return [
        (stack.truth, {**common, "name": "Simulated filaments truth", "visible": False}, "image"),
        (stack.noisy, {**common, "name": "Simulated filaments"}, "image"),
    ]
