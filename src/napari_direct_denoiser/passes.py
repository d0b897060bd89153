"""Which ways lead through a plane: the tiles and batches in which each output is computed, and the memory they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .tiling import Tile, padded, tiles

if TYPE_CHECKING:
    from .co_model import CoModel

Output = Literal["direct", "mean", "median", "deviation", "sample"]

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
class Pass:
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
) -> list[Pass]:
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
) -> tuple[float, list[Pass]] | None:
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
) -> Pass:
    cut = tiles(shape, tile=side, halo=model.halo, multiple=model.multiple, blend=blend)
    window = max(math.prod(tile.window_shape) for tile in cut)
    batch = max(min(min(BATCH_BYTES // model.pixel_bytes, at_once) // window, samples), 1)
    taken = batch * window * model.pixel_bytes
    if "median" in outputs:
        taken += 4 * samples * max(tile.weights.size for tile in cut)
    return Pass(outputs, cut, samples, batch, taken)
