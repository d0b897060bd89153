"""Noise models around another one, which is the noise of pixels before something else happens to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .models import NoiseModel, from_document


class WrappedNoise(NoiseModel):
    """Base of models around another one; what they do not override is that of the other.

    Parameters
    ----------
    base
        The model around which this one is, or its `document`.
    """

    base: NoiseModel

    def __init__(self, base: NoiseModel | dict[str, Any]) -> None:
        super().__init__()
        self.base = from_document(base) if isinstance(base, dict) else base
        self.energy = self.base.energy

    @property
    def signal_range(self) -> tuple[float, float] | None:
        return self.base.signal_range

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        return self.base.measured(planes)

    def at_measured(self, images: NDArray[Any]) -> NDArray[Any]:
        return self.base.at_measured(images)

    def restored(self, image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        return self.base.restored(image, shape)

    def variance(self, signal: Tensor) -> Tensor:
        return self.base.variance(signal)

    def linear_variance(self) -> tuple[float, float]:
        return self.base.linear_variance()


def without_whole_planes(model: NoiseModel) -> NoiseModel:
    """The noise of the planes of `NoiseModel.measured`."""
    while model.whole_planes and isinstance(model, WrappedNoise):
        model = model.base
    return model


def pixel_noise(model: NoiseModel) -> NoiseModel:
    """The noise of a model without lines, interpolation, clipping and rounding: what neighbours share is seen there."""
    while isinstance(model, WrappedNoise):
        model = model.base
    return model
