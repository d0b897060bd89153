"""Blocks of an image: what is read, denoised and written at once. Geometry only.

A block is a plane. A plane of more than `TILE` x `TILE` pixels is cut into tiles of that side where one pass gives all
outputs, so that memory stays bounded. Samples are drawn of whole planes, and so is the direct pass where the noise
model needs whole planes: offsets of lines are seen in whole rows only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..data.axes import Region
from .tiling import Output, in_one_pass

if TYPE_CHECKING:
    from ..co_model import CoModel

TILE = 4096
"""Side of a tile in pixels, and of the largest plane that is not cut."""


@dataclass(frozen=True)
class Block:
    """A part of an image that is denoised at once.

    Attributes
    ----------
    plane
        Number of its plane.
    region
        Where it lies in the image: one slice for each axis.
    window
        What is read for it: the region, and up to `CoModel.halo` pixels around a tile.
    """

    plane: int
    region: Region
    window: Region

    @property
    def inner(self) -> Region:
        """Where the region lies in the window."""
        pairs = zip(self.region, self.window, strict=True)
        return tuple(slice(part.start - whole.start, part.stop - whole.start) for part, whole in pairs)

    @property
    def is_tile(self) -> bool:
        """Whether it is a part of its plane."""
        return self.window != self.region

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return math.prod(part.stop - part.start for part in self.region)


def block_sides(model: CoModel, shape: tuple[int, ...], axes: str, outputs: Collection[Output]) -> tuple[int, int]:
    """Sides along Y and X of the blocks of an image, pixels: its planes, or tiles of them."""
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    whole = model.noise.whole_planes or not all(in_one_pass(model, output) for output in outputs)
    return (height, width) if whole or height * width <= TILE**2 else (min(height, TILE), min(width, TILE))


def cut_into_blocks(shape: tuple[int, ...], axes: str, sides: tuple[int, int], halo: int) -> Iterator[Block]:
    """Cut an image into blocks, plane by plane and row by row."""
    sizes = dict(zip(axes, shape, strict=True))
    tiles = list(product(*(_cut(sizes[axis], side, halo) for axis, side in zip("YX", sides, strict=True))))
    for number, index in enumerate(np.ndindex(*(size for axis, size in sizes.items() if axis not in "YX"))):
        for tile in tiles:
            others = (2 * (slice(at, at + 1),) for at in index)
            pairs = [tile["YX".index(axis)] if axis in "YX" else next(others) for axis in axes]
            yield Block(number, tuple(region for region, _ in pairs), tuple(window for _, window in pairs))


def _cut(size: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    """Cut an axis into tiles, and give the window of each."""
    bounds = ((begin, min(begin + side, size)) for begin in range(0, size, side))
    return [(slice(begin, end), slice(max(begin - halo, 0), min(end + halo, size))) for begin, end in bounds]
