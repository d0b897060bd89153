"""Random patches of the training and validation parts of the images, augmented 8-fold, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_VALIDATION_PART = 0.15
_MIN_PLANES = 7  # fewer planes are split into regions rather than planes


@dataclass(frozen=True)
class Split:
    """Stacks (planes, Y, X), float32, for training and for validation."""

    training: list[Tensor]
    validation: list[Tensor]


def split(stacks: Sequence[NDArray[np.generic]], patch: int, device: torch.device) -> Split:
    """Set aside 15 % of the data for validation.

    Of a stack with 7 planes or more, every seventh; of fewer, the end of the longer side of each
    plane. A plane too small to hold two patches side by side is used for both.
    """
    training, validation = [], []
    for stack in stacks:
        data = torch.from_numpy(np.ascontiguousarray(stack, dtype=np.float32)).to(device)
        planes, height, width = data.shape
        if planes >= _MIN_PLANES:
            held_out = torch.arange(planes, device=device) % _MIN_PLANES == _MIN_PLANES // 2
            training.append(data[~held_out])
            validation.append(data[held_out])
            continue
        axis, side = (1, height) if height >= width else (2, width)
        rest = side - max(patch, round(_VALIDATION_PART * side))
        enough = rest >= patch
        training.append(data.narrow(axis, 0, rest) if enough else data)
        validation.append(data.narrow(axis, rest, side - rest) if enough else data)
    return Split(training, validation)


class PatchSampler:
    """Draws random square patches, every position of every plane equally likely.

    Parameters
    ----------
    stacks
        (planes, Y, X) tensors on one device, sides of at least ``patch``.
    patch
        Side, pixels.
    seed
        Of positions and augmentation.
    rotate
        Also rotate by quarter turns; without, only flip (noise that runs along one axis keeps it).
    """

    def __init__(self, stacks: Sequence[Tensor], patch: int, seed: int, *, rotate: bool = True) -> None:
        self.stacks = stacks
        self.patch = patch
        self.rotate = rotate
        self._random = np.random.default_rng(seed)
        positions = np.array([len(s) * (s.shape[1] - patch + 1) * (s.shape[2] - patch + 1) for s in stacks], float)
        self._share = positions / positions.sum()

    def draw(self, count: int) -> Tensor:
        """Draw (count, 1, patch, patch)."""
        which = self._random.choice(len(self.stacks), size=count, p=self._share)
        return torch.stack([self._one(self.stacks[i]) for i in which])[:, None]

    def _one(self, stack: Tensor) -> Tensor:
        plane, y, x = (
            int(self._random.integers(n)) for n in (len(stack), *(s - self.patch + 1 for s in stack.shape[1:]))
        )
        patch = stack[plane, y : y + self.patch, x : x + self.patch]
        flips = [axis for axis in (0, 1) if self._random.random() < 0.5]
        patch = patch.flip(flips) if flips else patch
        return patch.T if self.rotate and self._random.random() < 0.5 else patch
