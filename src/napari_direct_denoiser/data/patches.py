"""Random patches of the training and the validation part of the images, with 8-fold augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_VALIDATION_SHARE = 0.15
_MIN_PLANES = 7  # stacks with fewer planes are split into regions instead of planes
_WINDOW = 0.75  # of the planes that are kept: the others are still kept when the window moves on
_PATCHES_PER_PLANE = 64


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


def split_frames(
    stacks: Sequence[NDArray[np.generic]], steps: Sequence[int], fewest: int
) -> tuple[list[Part], list[Part], list[int]] | None:
    """Divide stacks (planes, Y, X) into a training part and at least ``fewest`` frames of every field to validate.

    Parameters
    ----------
    steps
        How many planes successive frames of a field are apart in each stack.

    Returns
    -------
    training, validation, steps
        How many planes successive frames of the validation part are apart. None if a stack has fewer than
        ``fewest`` x ``fewest`` frames: too many of them would be held out.
    """
    training, validation, apart = [], [], []
    for stack, step in zip(stacks, steps, strict=True):
        period = min(len(stack) // step // fewest, _MIN_PLANES)
        if period < fewest:
            return None
        whole = Part.whole(stack)
        held_out = whole.planes // step % period == period // 2
        training.append(replace(whole, planes=whole.planes[~held_out]))
        validation.append(replace(whole, planes=whole.planes[held_out]))
        apart.append(period * step)
    return training, validation, apart


def split(
    stacks: Sequence[NDArray[np.generic]], patch: int, *, by_region: bool = False
) -> tuple[list[Part], list[Part]]:
    """Divide stacks (planes, Y, X) into a training and a validation part (15 %).

    Of a stack with 7 planes or more, every seventh plane is held out; of fewer, or `by_region`, the end of the longer
    side of each plane. A plane too small for two patches side by side is used for both.
    """
    training, validation = [], []
    for stack in stacks:
        whole = Part.whole(stack)
        planes, rows, columns = whole.planes, whole.rows, whole.columns
        if len(stack) >= _MIN_PLANES and not by_region:
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
    half_turns: bool = False
    """Whether rows and columns may only be reversed together."""


_ALL = Augmentation()


class PatchSampler:
    """Draws random square patches; every position of every plane is equally likely.

    Of stacks that are read when needed and keep fewer planes in memory than there are, patches come from a window of
    planes, which moves on slowly through all of them in random order: each plane is read once for many patches.

    Parameters
    ----------
    parts
        Where to draw from: parts of stacks or whole stacks (planes, Y, X), with sides of at least `patch`. A stack that
        is read when needed says in an attribute `cached_planes` how many planes it keeps, of all stacks together.
    patch
        Side, pixels.
    seed
        Of positions and augmentation.
    augmentation
        How to turn patches. Noise that is correlated along one axis does not allow everything.
    margin
        Pixels of context on every side of a patch, which are drawn as well; reflected at the edge of a plane.
    row_period
        Patches begin at rows of a plane that are multiples of it, one or two.
    """

    def __init__(
        self,
        parts: Sequence[Part | NDArray[np.generic]],
        patch: int,
        seed: int,
        *,
        augmentation: Augmentation = _ALL,
        margin: int = 0,
        row_period: int = 1,
    ) -> None:
        self._parts = [
            _from_multiple(part if isinstance(part, Part) else Part.whole(part), row_period) for part in parts
        ]
        self.patch, self.margin, self.augmentation, self._row_period = patch, margin, augmentation, row_period
        self._seed = seed
        self._part_of = np.repeat(np.arange(len(self._parts)), [len(part.planes) for part in self._parts])
        self._plane = np.concatenate([part.planes for part in self._parts])
        positions = [(len(p.rows) - patch + 1) * (len(p.columns) - patch + 1) for p in self._parts]
        self._weight = np.array(positions, float)[self._part_of]
        cached = [getattr(part.stack, "cached_planes", None) for part in self._parts]
        is_read = np.array([each is not None for each in cached])[self._part_of]
        self._held, self._read = np.flatnonzero(~is_read), np.flatnonzero(is_read)
        self._window = max(int(_WINDOW * min((each for each in cached if each is not None), default=0)), 1)
        if self._window >= len(self._read):
            self._held, self._read = np.arange(len(self._plane)), self._read[:0]
        np.random.default_rng(seed).shuffle(self._read)
        self._weight_read = self._weight[self._read].sum()

    def draw(self, count: int, number: int = 0, share: tuple[int, int] = (0, 1)) -> Tensor:
        """Draw (count, 1, patch + 2 margin, patch + 2 margin) float32, on the CPU.

        Parameters
        ----------
        count
            Patches of the whole draw.
        number
            Which draw this is, from 0: the same number gives the same patches.
        share
            Read only this part of so many equal parts of the draw.
        """
        planes, weight = self._planes(count * number)
        chance = np.random.default_rng([self._seed, number]).random((count, 6))
        part, parts = share
        chance = chance[count * part // parts : count * (part + 1) // parts]
        shares = np.cumsum(weight)
        drawn = planes[np.searchsorted(shares, chance[:, 0] * shares[-1], side="right").clip(max=len(planes) - 1)]
        side = self.patch + 2 * self.margin
        patches = np.empty((len(chance), 1, side, side), np.float32)
        for place, (plane, (_, *where)) in enumerate(zip(drawn, chance, strict=True)):
            patches[place, 0] = self._one(plane, *where)
        return torch.from_numpy(patches)

    def _planes(self, drawn: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The planes that patches may come from after so many were drawn, and the weight of each."""
        if not len(self._read):
            return self._held, self._weight[self._held]
        window = self._read[(drawn // _PATCHES_PER_PLANE + np.arange(self._window)) % len(self._read)]
        weight = self._weight[window] * (self._weight_read / self._weight[window].sum())
        return np.concatenate([self._held, window]), np.concatenate([self._weight[self._held], weight])

    def _one(self, place: int, *chance: float) -> NDArray[np.generic]:
        """Read a patch of a plane; five numbers below 1 tell where, and how it is turned."""
        part, number = self._parts[self._part_of[place]], self._plane[place]
        y, x = (
            int(c * (len(side) - self.patch + 1)) for c, side in zip(chance, (part.rows, part.columns), strict=False)
        )
        y -= y % self._row_period
        if self.margin:
            patch = self._with_margin(part.stack, number, part.rows[y], part.columns[x])
        else:
            rows, columns = part.rows[y : y + self.patch], part.columns[x : x + self.patch]
            patch = part.stack[number, rows.start : rows.stop, columns.start : columns.stop]
        allowed = self.augmentation.flip_y, self.augmentation.flip_x
        turned = (chance[2], chance[2 if self.augmentation.half_turns else 3])
        flips = [axis for axis in (0, 1) if turned[axis] < 0.5 and allowed[axis]]
        patch = np.flip(patch, tuple(flips)) if flips else patch
        return patch.T if self.augmentation.transpose and chance[4] < 0.5 else patch

    def _with_margin(self, stack: NDArray[np.generic], number: int, y: int, x: int) -> NDArray[np.generic]:
        """Read the patch and what its margin shows of the plane, not the whole plane: that may have to be computed."""
        rows, columns = (
            reflected(np.arange(first - self.margin, first + self.patch + self.margin), side)
            for first, side in zip((y, x), stack.shape[1:], strict=True)
        )
        top, left = rows.min(), columns.min()
        seen: NDArray[np.generic] = stack[number, top : rows.max() + 1, left : columns.max() + 1]
        return np.asarray(seen[rows - top][:, columns - left])


def _from_multiple(part: Part, row_period: int) -> Part:
    """The part from a row that is a multiple of the period; a row or so is added."""
    return replace(part, rows=range(part.rows.start - part.rows.start % row_period, part.rows.stop))


def reflected(position: NDArray[np.intp], side: int) -> NDArray[np.intp]:
    """Turn positions that may lie beyond an axis of `side` pixels into indices, as `np.pad` with mode reflect."""
    period = max(2 * (side - 1), 1)
    position = position % period
    return np.minimum(position, period - position)
