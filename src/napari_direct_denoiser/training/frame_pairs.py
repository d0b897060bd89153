"""Pairs of frames of a static scene, which the Direct Denoiser learns as Noise2Noise does (Lehtinen et al. 2018).

The noise of other frames is independent of that of a frame. So the mean of others, given a frame, is the mean of the
clean image given that frame: what the Direct Denoiser is to predict. It depends on no noise model and no HDN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..data.images import middle, spread_over
from ..data.patches import Part, PatchSampler
from ..noise.scene import FEWEST_FRAMES, Plane, changed, frames_of_scene

_SCENES = 24
_AWAY = 4  # frames before and after
_PIXELS = 8_000_000  # of all scenes at most: they stay in memory, and comparing their frames takes seconds
_SIDE = 1024  # pixels; of larger planes the middle is taken
_MOST_CHANGED = 5e-4  # of the pixels: where some flashes stand out of the noise, others do not


class FramePairs:
    """Draws patches of frames, and what other frames of the scene show there.

    Parameters
    ----------
    scenes
        Two stacks, (1, H, W) counts, for each scene: a frame, and the mean of others, which is NaN where it differs.
    options
        See `PatchSampler`.
    """

    def __init__(self, scenes: Sequence[tuple[Part, Part]], patch: int, seed: int, **options: Any) -> None:
        self._samplers = [PatchSampler(parts, patch, seed, **options) for parts in zip(*scenes, strict=True)]

    def draw(self, count: int, number: int, share: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Draw frames and others, (count, 1, H, W) each with margins, on the CPU; see `PatchSampler.draw`."""
        frames, others = (sampler.draw(count, number, share) for sampler in self._samplers)
        return frames, others


def read_scenes(parts: Sequence[Part], steps: Sequence[int], row_period: int) -> list[tuple[Part, Part]]:
    """Read some frames of parts of stacks, and the mean of others of the scene; nothing if a scene changes.

    Parameters
    ----------
    parts
        Planes of a stack, or a region of them, that are trained on.
    steps
        How many planes successive frames are apart in each stack.
    row_period
        Scenes begin at rows that are multiples of it.
    """
    places = [(part, step, int(plane)) for part, step in zip(parts, steps, strict=True) for plane in part.planes]
    largest = max(min(len(part.rows), _SIDE) * min(len(part.columns), _SIDE) for part in parts)
    scenes, shares = list[tuple[Part, Part]](), list[float]()
    for place in spread_over(len(places), min(_SCENES, _PIXELS // largest)):
        part, step, plane = places[place]
        rows, columns = (side[middle(len(side), _SIDE, 1, row_period)] for side in (part.rows, part.columns))
        region = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        first, *others = frames_of_scene(part.stack, plane, step, region, _AWAY, set(part.planes.tolist()))
        if len(others) + 1 < FEWEST_FRAMES:
            return []
        mean: Plane = np.stack(others).mean(axis=0)
        differs = changed(first, mean)
        shares.append(float(differs.mean()))
        mean[differs] = np.nan
        scenes.append((Part.whole(first[None]), Part.whole(mean[None])))
    return scenes if np.mean(shares) <= _MOST_CHANGED else []
