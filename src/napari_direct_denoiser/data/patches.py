"""Random patches of the training and the validation part of the images, with 8-fold augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_VALIDATION_SHARE = 0.15
_MIN_PLANES = 7  # stacks with fewer planes are split into regions instead of planes


@dataclass(frozen=True, eq=False)
class Part:
    """Some planes of a stack, or a region of all. Nothing is copied.

    Attributes
    ----------
    stack
        (planes, Y, X), any real dtype.
    planes
        Indices of the planes.
    rows, columns
        Region of each plane.
    """

    stack: NDArray[np.generic]
    planes: NDArray[np.intp]
    rows: range
    columns: range

    @classmethod
    def whole(cls, stack: NDArray[np.generic]) -> Part:
        """All of a stack."""
        planes, rows, columns = stack.shape
        return cls(stack, np.arange(planes), range(rows), range(columns))

    def pixels(self) -> NDArray[np.generic]:
        """Read the part: (planes, rows, columns)."""
        rows, columns = (slice(side.start, side.stop) for side in (self.rows, self.columns))
        return self.stack[self.planes, rows, columns]


def split(stacks: Sequence[NDArray[np.generic]], patch: int) -> tuple[list[Part], list[Part]]:
    """Divide stacks (planes, Y, X) into a training and a validation part (15 %).

    Of a stack with 7 planes or more, every seventh plane is held out; of fewer, the end of the longer side of each
    plane. A plane too small for two patches side by side is used for both.
    """
    training, validation = [], []
    for stack in stacks:
        whole = Part.whole(stack)
        planes, rows, columns = whole.planes, whole.rows, whole.columns
        if len(stack) >= _MIN_PLANES:
            held_out = planes % _MIN_PLANES == _MIN_PLANES // 2
            training.append(Part(stack, planes[~held_out], rows, columns))
            validation.append(Part(stack, planes[held_out], rows, columns))
            continue
        side = max(len(rows), len(columns))
        rest = side - max(patch, round(_VALIDATION_SHARE * side))
        if rest < patch:
            training.append(whole)
            validation.append(whole)
        elif len(rows) >= len(columns):
            training.append(Part(stack, planes, rows[:rest], columns))
            validation.append(Part(stack, planes, rows[rest:], columns))
        else:
            training.append(Part(stack, planes, rows, columns[:rest]))
            validation.append(Part(stack, planes, rows, columns[rest:]))
    return training, validation


@dataclass(frozen=True)
class Augmentation:
    """How patches may be turned without changing what their noise looks like."""

    flip_y: bool = True
    """Whether rows may be reversed."""
    flip_x: bool = True
    """Whether columns may be reversed."""
    transpose: bool = True
    """Whether rows and columns may be exchanged: with both flips, quarter turns."""


_ALL = Augmentation()


class PatchSampler:
    """Draws random square patches; every position of every plane is equally likely.

    Parameters
    ----------
    parts
        Where to draw from: parts of stacks or whole stacks (planes, Y, X), with sides of at least `patch`.
    patch
        Side, pixels.
    seed
        Of positions and augmentation.
    augmentation
        How to turn patches. Noise that is correlated along one axis does not allow everything.
    margin
        Pixels of context on every side of a patch, which are drawn as well; reflected at the edge of a plane.
    """

    def __init__(
        self,
        parts: Sequence[Part | NDArray[np.generic]],
        patch: int,
        seed: int,
        *,
        augmentation: Augmentation = _ALL,
        margin: int = 0,
    ) -> None:
        self._parts = [part if isinstance(part, Part) else Part.whole(part) for part in parts]
        self.patch, self.margin, self.augmentation = patch, margin, augmentation
        self._random = np.random.default_rng(seed)
        positions = np.array(
            [len(p.planes) * (len(p.rows) - patch + 1) * (len(p.columns) - patch + 1) for p in self._parts], float
        )
        self._share = positions / positions.sum()

    def draw(self, count: int) -> Tensor:
        """Draw (count, 1, patch + 2 margin, patch + 2 margin) float32, on the CPU."""
        which = self._random.choice(len(self._parts), size=count, p=self._share)
        side = self.patch + 2 * self.margin
        patches = np.empty((count, 1, side, side), np.float32)
        for place, number in enumerate(which):
            patches[place, 0] = self._one(self._parts[number])
        return torch.from_numpy(patches)

    def _one(self, part: Part) -> NDArray[np.generic]:
        sides = len(part.planes), len(part.rows) - self.patch + 1, len(part.columns) - self.patch + 1
        plane, y, x = (int(self._random.integers(side)) for side in sides)
        number = part.planes[plane]
        if self.margin:
            patch = self._with_margin(part.stack, number, part.rows[y], part.columns[x])
        else:
            rows, columns = part.rows[y : y + self.patch], part.columns[x : x + self.patch]
            patch = part.stack[number, rows.start : rows.stop, columns.start : columns.stop]
        allowed = self.augmentation.flip_y, self.augmentation.flip_x
        flips = [axis for axis in (0, 1) if self._random.random() < 0.5 and allowed[axis]]
        patch = np.flip(patch, tuple(flips)) if flips else patch
        return patch.T if self.augmentation.transpose and self._random.random() < 0.5 else patch

    def _with_margin(self, stack: NDArray[np.generic], number: int, y: int, x: int) -> NDArray[np.generic]:
        """Read the patch and what its margin shows of the plane, not the whole plane: that may have to be computed."""
        rows, columns = (
            reflected(np.arange(first - self.margin, first + self.patch + self.margin), side)
            for first, side in zip((y, x), stack.shape[1:], strict=True)
        )
        top, left = rows.min(), columns.min()
        seen: NDArray[np.generic] = stack[number, top : rows.max() + 1, left : columns.max() + 1]
        return np.asarray(seen[rows - top][:, columns - left])


def reflected(position: NDArray[np.intp], side: int) -> NDArray[np.intp]:
    """Turn positions that may lie beyond an axis of `side` pixels into indices, as `np.pad` with mode reflect."""
    period = max(2 * (side - 1), 1)
    position = position % period
    return np.minimum(position, period - position)
