"""How a plane of any size is cut into tiles and put together again: geometry only, numpy only.

A plane is thought of as padded by reflection at its lower and right edge until both sides divide by `multiple`, and
divided into cores on a regular grid. A tile is a core with up to `halo` pixels of context on every side. At the edges
of the plane no context is added, so that a network sees the same edge in a tile as in the whole plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Span:
    """One tile along one axis.

    Attributes
    ----------
    start, stop : int
        The window that the network sees, in the padded axis. The length divides by `multiple`.
    low, high : int
        The part of the axis that the tile contributes to, inside the window and inside the unpadded axis.
    weights : ndarray of float32, shape (high - low,)
        Share of this tile in every pixel of that part. The shares of all tiles add up to 1.
    """

    start: int
    stop: int
    low: int
    high: int
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of a plane: one span along each axis."""

    rows: Span
    columns: Span

    @property
    def kept(self) -> tuple[slice, slice]:
        """Where the result belongs, in the unpadded plane."""
        return slice(self.rows.low, self.rows.high), slice(self.columns.low, self.columns.high)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where that part lies in the window."""
        y, x = self.rows.start, self.columns.start
        return slice(self.rows.low - y, self.rows.high - y), slice(self.columns.low - x, self.columns.high - x)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Sides of the window in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def weights(self) -> NDArray[np.float32]:
        """Share of this tile in every kept pixel."""
        return np.outer(self.rows.weights, self.columns.weights)

    def cut(self, plane: NDArray[np.generic]) -> NDArray[np.float32]:
        """Cut the window out of a plane (H, W) as float32, reflected where it reaches beyond the plane."""
        rows = _reflected(self.rows.start, self.rows.stop, plane.shape[0])
        columns = _reflected(self.columns.start, self.columns.stop, plane.shape[1])
        return plane[rows][:, columns].astype(np.float32)


def tiles(shape: tuple[int, int], *, tile: int, halo: int, multiple: int, blend: int = 0) -> list[Tile]:
    """Cut a plane into tiles.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane in pixels, at least 1 each.
    tile : int
        Largest side of a core in pixels; a side no longer than this is not cut.
    halo : int
        Pixels of context around a core.
    multiple : int
        Windows start at, and have sides of, multiples of this.
    blend : int
        Width in pixels of the linear transition between neighbours, at most `2 * halo`. 0 cuts at the core.

    Returns
    -------
    list of Tile
        Row by row.
    """
    rows, columns = (_spans(side, tile, halo, multiple, blend) for side in shape)
    return [Tile(row, column) for row in rows for column in columns]


def padded(side: int, multiple: int) -> int:
    """Round `side` up to a multiple of `multiple`."""
    return -(-side // multiple) * multiple


def _spans(side: int, tile: int, halo: int, multiple: int, blend: int) -> list[Span]:
    length = padded(side, multiple)
    halo = padded(halo, multiple)
    half = min(blend // 2, halo)
    # Cores of equal size: no sliver at the end that is nearly all halo.
    core = padded(-(-length // -(-length // max(tile, multiple))), multiple)
    if core > tile >= multiple:  # rounding up to the grid must not exceed the limit
        core = tile // multiple * multiple
    spans = []
    for begin in range(0, length, core):
        end = min(begin + core, length)
        low = max(begin - half, 0)
        high = min(end + half, side)
        centres = np.arange(low, high, dtype=np.float64) + 0.5
        # A ramp up less the ramp up of the next tile: the sum of all telescopes to 1, however narrow the cores are.
        rise = _ramp(centres, begin, half) if begin > 0 else np.ones_like(centres)
        weights = rise - _ramp(centres, end, half) if end < length else rise
        window = max(begin - halo, 0), min(end + halo, length)
        spans.append(Span(*window, low, high, weights.astype(np.float32)))
    return spans


def _ramp(centres: NDArray[np.floating], at: int, half: int) -> NDArray[np.floating]:
    """Rise from 0 to 1 in the `2 * half` pixels around `at`."""
    if half == 0:
        return (centres > at).astype(centres.dtype)
    return np.clip((centres - at) / (2 * half) + 0.5, 0.0, 1.0)


def _reflected(start: int, stop: int, side: int) -> NDArray[np.intp]:
    """Turn positions that may lie beyond an axis of `side` pixels into indices, as `np.pad` with mode reflect."""
    period = max(2 * (side - 1), 1)
    position = np.arange(start, stop) % period
    return np.minimum(position, period - position)
