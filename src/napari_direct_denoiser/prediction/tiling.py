"""Tiles of a plane, and the plan of which output is computed with which tiles. Geometry only, no networks.

A plane is padded by reflection at its lower and right edge until both sides divide by `multiple`, and divided into
cores on a regular grid. A tile is a core with up to `halo` pixels of context on every side (together its window). At
the edges of the plane no context is added, so that a network sees the same edge in a tile as in the whole plane.

`tiles` cuts a plane. `plan_tiles` chooses the size of tiles for each output. It depends on the shape of the plane, the
networks and the number of samples alone, never on free memory: the same seed gives the same samples on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.patches import reflected

if TYPE_CHECKING:
    from ..co_model import CoModel

Output = Literal["direct", "std", "mean", "median", "mode", "sample_std", "sample"]
"""The direct prediction and the standard deviation of its error, statistics of posterior samples, samples."""
HELD: tuple[Output, ...] = ("median", "mode")
"""Outputs that need all samples at once."""

DIRECT_TILE = 1024
"""Side in pixels of the core of a tile of the direct pass. Small working sets are faster, on a CPU too."""
WHOLE_PIXELS = 2048 * 2048
"""Planes of up to this many pixels are sampled whole, so that a sample is one coherent image; larger ones in tiles."""
WHOLE_BYTES = 5 * 2**29
"""Most memory of one call of the networks, by `CoModel.pixel_bytes` (2.5 GiB; about half of it in bfloat16)."""
BATCH_BYTES = 5 * 2**27
"""Memory of the samples that are drawn in one call of HDN (640 MiB; at least one sample)."""
HELD_PIXELS = 256 * 1024 * 1024
"""Samples times pixels held at once (1 GiB). A plane that needs more is cut into smaller tiles."""


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
        rows = reflected(np.arange(self.rows.start, self.rows.stop), plane.shape[0])
        columns = reflected(np.arange(self.columns.start, self.columns.stop), plane.shape[1])
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


@dataclass(frozen=True, eq=False)
class TilePlan:
    """How some outputs of a plane are computed."""

    outputs: list[Output]
    tiles: list[Tile]
    samples: int
    """Samples of each tile; 0 for the direct pass."""
    batch: int
    """Samples drawn in one call of HDN, if memory allows."""
    call_bytes: int
    """Estimated memory of one call of a network for one sample of the largest window."""
    held_bytes: int
    """Memory of the samples of a tile that are held at once."""

    @property
    def work(self) -> int:
        """Number of passes of a tile through a network."""
        return len(self.tiles) * max(self.samples, 1)

    @property
    def bytes(self) -> int:
        """Estimated memory, without the results."""
        return self.batch * self.call_bytes + self.held_bytes

    def batch_within(self, free: float) -> int:
        """Samples that can be drawn in one call with so many bytes of free memory; at least 1."""
        return max(min(int((free - self.held_bytes) // self.call_bytes), self.batch), 1)


def in_one_pass(model: CoModel, output: Output) -> bool:
    """Whether the direct pass gives an output, without samples; older models give no standard deviation that way."""
    return output == "direct" or (output == "std" and model.has_std)


def plan_tiles(model: CoModel, shape: tuple[int, int], outputs: Sequence[Output], samples: int) -> list[TilePlan]:
    """Plan the tiles and batches with which each output of a plane is computed.

    Where the samples of a plane cannot be held all at once, the outputs that need this get samples of their own, in
    smaller tiles. The other outputs then are as they are without them.

    Parameters
    ----------
    model
        Trained networks.
    shape
        Height and width of the plane, pixels.
    outputs, samples
        What to compute, and from how many samples.
    """
    largest = min(WHOLE_PIXELS, WHOLE_BYTES // model.pixel_bytes)  # pixels of a window
    whole = math.prod(padded(side, model.multiple) for side in shape)
    held = HELD_PIXELS // samples
    direct = [name for name in outputs if in_one_pass(model, name)]
    apart = [name for name in outputs if name in HELD] if held < min(whole, largest) else []
    together = [name for name in outputs if name not in (*direct, *apart)]
    small, halo = min((DIRECT_TILE + 2 * model.halo) ** 2, largest), model.halo
    plans = []
    # A window is a core and two halos. What is kept of it, and held at once, is a core and two half halos.
    for names, most, around, blend, count in (
        (direct, small, 2 * halo, 0, 0),
        (together, largest, 2 * halo, halo, samples),
        (apart, held, halo, halo, samples),
    ):
        if names:
            core = whole if whole <= most else math.isqrt(most) - around
            plans.append(
                _plan(model, tiles(shape, tile=core, halo=halo, multiple=model.multiple, blend=blend), names, count)
            )
    return plans


def _plan(model: CoModel, cut: list[Tile], outputs: list[Output], samples: int) -> TilePlan:
    call_bytes = model.pixel_bytes * max(math.prod(tile.window_shape) for tile in cut)
    held = 4 * samples * max(tile.weights.size for tile in cut) if set(outputs) & set(HELD) else 0
    return TilePlan(outputs, cut, samples, max(min(BATCH_BYTES // call_bytes, samples), 1), call_bytes, held)
