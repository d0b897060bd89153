"""Pyramids of images that are written block by block: shapes and parts of the levels, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axes import Region

_SMALLEST = 512  # no smaller level follows one whose sides are within this, pixels


@dataclass(frozen=True)
class Level:
    """Shape of one level, and of its parts along each axis.

    Attributes
    ----------
    shape
        Of the level. The first level is the image; each further one has half the pixels along Y and X, rounded up.
    chunks
        What is read at once.
    blocks
        What is written at once, a multiple of the chunks. It may reach beyond the end of the level.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    blocks: tuple[int, ...]


def pyramid(shape: Sequence[int], axes: str, block: tuple[int, int], longest: int) -> list[Level]:
    """Levels down to a small one, or for as long as blocks can be halved.

    Parameters
    ----------
    shape, axes
        Of the image, one letter for each axis.
    block
        Sides along Y and X of what is written at once, pixels. One that is not smaller than the plane is the plane.
    longest
        Of the sides of a chunk, pixels.
    """
    tiles = dict(zip("YX", block, strict=True))
    levels: list[Level] = []
    while True:
        number = len(levels)
        parts = [
            _parts(side, tiles[axis], number, longest) if axis in tiles else (side, 1, 1)
            for axis, side in zip(axes, shape, strict=True)
        ]
        levels.append(Level(*(tuple(each) for each in zip(*parts, strict=True))))
        sides = {axis: levels[-1].shape[axes.index(axis)] for axis in tiles}
        odd = any(tiles[axis] < shape[axes.index(axis)] and (tiles[axis] >> number) % 2 for axis in tiles)
        if odd or max(sides.values()) <= _SMALLEST:
            return levels


def _parts(side: int, tile: int, level: int, longest: int) -> tuple[int, int, int]:
    """Lengths of a level, a chunk and a block along Y or X."""
    left = -(-side // 2**level)
    if tile >= side:
        chunk = min(left, longest)
        return left, chunk, -(-left // chunk) * chunk
    block = tile >> level
    return left, next(part for part in range(min(block, longest), 0, -1) if block % part == 0), block


def halved(pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Mean of 2 x 2 pixels along Y and X, rounded for integers. An odd side is continued by its last pixel."""
    at = axes.index("Y"), axes.index("X")
    moved = np.moveaxis(pixels, at, (-2, -1))
    height, width = moved.shape[-2:]
    moved = np.pad(moved, [(0, 0)] * (moved.ndim - 2) + [(0, height % 2), (0, width % 2)], mode="edge")
    wide = np.result_type(pixels.dtype, np.float32)
    quarters = [moved[..., y::2, x::2].astype(wide) * wide.type(0.25) for y in (0, 1) for x in (0, 1)]
    mean = quarters[0] + quarters[1] + quarters[2] + quarters[3]
    mean = np.rint(mean) if pixels.dtype.kind in "ui" else mean
    return np.moveaxis(mean.astype(pixels.dtype), (-2, -1), at)


def halved_region(region: Region, axes: str) -> Region:
    """Where a region with whole bounds lies in the next level."""
    return tuple(
        slice(part.start // 2, -(-part.stop // 2)) if axis in "YX" else part
        for axis, part in zip(axes, region, strict=True)
    )
