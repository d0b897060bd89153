"""Noise models around another one, which is the noise of pixels before something else happens to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.patches import Augmentation
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

    def variance(self, signal: Tensor) -> Tensor:
        return self.base.variance(signal)

    def linear_variance(self) -> tuple[float, float]:
        return self.base.linear_variance()


class PlanesWhenRead(ABC):
    """Planes (P, Y, X) that are computed from others when they are read; indexed like an array of planes.

    Parameters
    ----------
    planes
        The others, which may be read when needed themselves.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)
    ndim = 3

    def __init__(self, planes: NDArray[Any]) -> None:
        self._planes = planes
        self.shape: tuple[int, ...] = planes.shape
        self.cached_planes = getattr(planes, "cached_planes", None)  # of a stack that is read when needed

    def __len__(self) -> int:
        return len(self._planes)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a plane, or a region of it: ``planes[3]``, ``planes[3, 10:20, 30:40]``."""
        index, *region = key if isinstance(key, tuple) else (key,)
        rows, columns = (*region, slice(None), slice(None))[:2]
        return self._read(index, rows, columns)

    @abstractmethod
    def _read(self, index: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Compute a region of a plane."""


class WholePlaneNoise(WrappedNoise):
    """Base of models of images whose planes become others (`measured`); the noise of the base is about these."""

    whole_planes = True

    @abstractmethod
    def with_base(self, base: NoiseModel) -> NoiseModel:
        """Replace the model around which this one is."""

    def with_innovation(self, innovation: NoiseModel) -> NoiseModel:
        return self.with_base(self.base.with_innovation(innovation))

    @property
    def innovation(self) -> NoiseModel:
        return self.base.innovation

    @property
    def reach(self) -> int:
        return self.base.reach

    @property
    def margin(self) -> int:
        return self.base.margin

    @property
    def row_period(self) -> int:
        return self.base.row_period

    @property
    def augmentation(self) -> Augmentation:
        return self.base.augmentation

    def whiten(self, image: Tensor) -> Tensor:
        return self.base.whiten(image)

    def color(self, white: Tensor) -> Tensor:
        return self.base.color(white)

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        return self.base.log_prob(noisy, signal)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.base.sample(signal, generator)

    def white_log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        return self.base.white_log_prob(noisy, signal)

    def white_sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.base.white_sample(signal, generator)

    def at_measured(self, images: NDArray[Any]) -> NDArray[Any]:
        return self.base.at_measured(images)

    def restored(
        self, image: NDArray[np.float32], shape: tuple[int, int], std_factor: float | None = None
    ) -> NDArray[np.float32]:
        return self.base.restored(image, shape, std_factor)

    def std_factor(self, errors: Sequence[NDArray[np.float32]]) -> float:
        return self.base.std_factor(errors)


def without_whole_planes(model: NoiseModel) -> NoiseModel:
    """The noise of the planes of `NoiseModel.measured`."""
    while isinstance(model, WholePlaneNoise):
        model = model.base
    return model


def pixel_noise(model: NoiseModel) -> NoiseModel:
    """The noise of a model without lines, interpolation, clipping and rounding: what neighbours share is seen there."""
    while isinstance(model, WrappedNoise):
        model = model.base
    return model
