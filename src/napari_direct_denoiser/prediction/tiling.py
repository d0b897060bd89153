"""How a plane of any size is cut into tiles and put together again: geometry only, numpy only.

A plane is thought of as padded by reflection at its lower and right edge until both sides divide by `multiple`, and
divided into cores on a regular grid. A tile is a core with up to `halo` pixels of context on every side. At the edges
of the plane no context is added, so that a network sees the same edge in a tile as in the whole plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..co_model import CoModel


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


Output = Literal["direct", "mean", "median", "std", "sample"]

DIRECT_TILE = 1024
"""Side in pixels of the core of a tile of the direct pass: small working sets are quicker, on a CPU too."""
WHOLE_PIXELS = 2048 * 2048
"""Planes of up to so many pixels are sampled whole, so that a sample is one coherent image; larger ones in tiles."""
WHOLE_BYTES = 5 * 2**29
"""What a tile may take at most, by `CoModel.pixel_bytes` (2.5 GiB; about half of it in bfloat16)."""
BATCH_BYTES = 5 * 2**27
"""Memory of the samples that are drawn in one call of the model (640 MiB; one sample at least)."""
MEDIAN_PIXELS = 256 * 1024 * 1024
"""Samples times pixels held for a median (1 GiB). Where a whole plane needs more, it is cut into smaller tiles."""

_LEAST_SHARE = 2.0**-16


@dataclass(frozen=True)
class TilePlan:
    """One way through a plane: which outputs it makes, with which tiles, out of how many samples (0: direct)."""

    outputs: list[Output]
    tiles: list[Tile]
    samples: int
    batch: int
    """Samples drawn in one call of the model."""
    bytes: int
    """Memory that it takes, about, beside the results."""

    @property
    def work(self) -> int:
        """Passes of a tile through a network."""
        return len(self.tiles) * max(self.samples, 1)


def plan(
    model: CoModel, shape: tuple[int, int], outputs: Sequence[Output], samples: int, share: float = 1.0
) -> list[TilePlan]:
    """Decide with which tiles and batches each output of a plane is computed.

    Samples that a median cannot hold at once are drawn apart, in smaller tiles: what the other outputs look like then
    does not depend on whether a median is asked for.

    Parameters
    ----------
    model
        Trained networks.
    shape
        Of the plane, pixels.
    outputs, samples
        What to compute, and from how many samples.
    share
        Part of the usual number of pixels that may be at work at once: where it is less than 1, fewer samples are
        drawn at a time, which changes nothing but rounding, and then tiles are smaller.
    """
    at_once = int(share * max(WHOLE_PIXELS, BATCH_BYTES // model.pixel_bytes))
    limit = min(WHOLE_PIXELS, WHOLE_BYTES // model.pixel_bytes, at_once)
    whole = math.prod(padded(side, model.multiple) for side in shape)
    held = int(share * MEDIAN_PIXELS) // samples
    direct: list[Output] = ["direct"] if "direct" in outputs else []
    apart: list[Output] = ["median"] if "median" in outputs and held < min(whole, limit) else []
    together = [name for name in outputs if name not in (*direct, *apart)]
    small, halo = min((DIRECT_TILE + 2 * model.halo) ** 2, limit), model.halo
    passes = []
    # A window is a core and two halos; what is kept of it, and held for a median, a core and two half halos.
    for names, most, around, blend, count in (
        (direct, small, 2 * halo, 0, 0),
        (together, limit, 2 * halo, halo, samples),
        (apart, held, halo, halo, samples),
    ):
        if names:
            side = whole if whole <= most else math.isqrt(most) - around
            passes.append(_pass(model, shape, names, count, side, blend, at_once))
    return passes


def plan_with_less(
    model: CoModel, shape: tuple[int, int], outputs: Sequence[Output], samples: int, than: int
) -> tuple[float, list[TilePlan]] | None:
    """Find the largest share, out of halves of halves, with which every pass takes less than so many bytes.

    Returns the share and its plan; None where the smallest tiles and batches take as much.
    """
    share = model.memory_share
    while share > _LEAST_SHARE:
        share /= 2
        passes = plan(model, shape, outputs, samples, share)
        if max(each.bytes for each in passes) < than:
            return share, passes
    return None


def _pass(
    model: CoModel, shape: tuple[int, int], outputs: list[Output], samples: int, side: int, blend: int, at_once: int
) -> TilePlan:
    cut = tiles(shape, tile=side, halo=model.halo, multiple=model.multiple, blend=blend)
    window = max(math.prod(tile.window_shape) for tile in cut)
    batch = max(min(min(BATCH_BYTES // model.pixel_bytes, at_once) // window, samples), 1)
    taken = batch * window * model.pixel_bytes
    if "median" in outputs:
        taken += 4 * samples * max(tile.weights.size for tile in cut)
    return TilePlan(outputs, cut, samples, batch, taken)
