"""Which weights are nearer to the truth, where frames of a static scene tell: their noise is independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..co_model import CoModel
from ..data.images import middle, spread_over
from ..data.patches import Part
from ..noise.scene import FEWEST_FRAMES, frames_of_scene
from ..risk import Gain, Response, blurs, gain, repeated_error, unjudged
from ..system import double
from .patch_referee import Measured, Pairs
from .state import State

_SIDE = 256  # pixels of the part of a plane that is judged; of a narrow one, a longer part
_PLANES = 4  # of that size, or more that are smaller
_BORDER = 8  # pixels at the edge of the part that are not judged


class FrameReferee:
    """Compares estimates of frames with the other frames of the scene. It needs no noise model.

    Parameters
    ----------
    scenes
        (1 + others, 1, H, W) each, counts: the frame that is denoised, and others.
    """

    def __init__(self, scenes: Sequence[Tensor]) -> None:
        self._scenes = scenes
        self._blur_error: Tensor | None = None

    @classmethod
    def of(
        cls, parts: Sequence[Part], steps: Sequence[int], multiple: int, device: torch.device
    ) -> FrameReferee | None:
        """Take some frames of held-out parts, whose successive frames are so far apart; None if a scene is not static.

        Sides are divisible by ``multiple``.
        """
        scenes = []
        for part, step in zip(parts, steps, strict=True):
            region = rows, columns = _region(part, multiple)
            pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
            for number in part.planes[spread_over(len(part.planes), _planes(pixels))]:
                scene = frames_of_scene(part.stack, int(number), step, region)
                if len(scene) < FEWEST_FRAMES or min(scene[0].shape) < 4 * _BORDER:
                    return None
                scenes.append(torch.from_numpy(np.stack(scene))[:, None].to(device))
        if not scenes:
            return None
        return cls([scenes[number] for number in spread_over(len(scenes), _planes(scenes[0][0].numel()))])

    def forget(self) -> None:
        """A new noise model changes nothing."""

    def state(self) -> State:
        """Nothing: frames follow from the images."""
        return {}

    def restore(self, state: State, device: torch.device) -> None:
        """Nothing was drawn."""

    def redraw(self, model: CoModel, pairs: Pairs, generator: torch.Generator) -> None:
        """No noise is needed."""

    def measure(self, model: CoModel) -> Measured:
        """Denoise the first frame of each scene."""
        direct = [model.direct(scene[:1]) for scene in self._scenes]
        error = self._error(direct)
        return Measured(Response(error, error), error, unjudged(model, by_frames=True))

    def gain(self, measured: Measured, other: Measured | None = None) -> Gain | None:
        """Gain over others, or over the best blur."""
        if self._blur_error is None:
            noisy = [list(blurs(Response(scene[:1], scene[:1]))) for scene in self._scenes]
            errors = [self._error([blur.estimate for _, blur in each]) for each in zip(*noisy, strict=True)]
            self._blur_error = min(errors, key=lambda error: float(error.mean()))
        worse = self._blur_error if other is None else other.squared_error
        return gain(measured.squared_error, worse - measured.squared_error)

    def _error(self, estimates: Sequence[Tensor]) -> Tensor:
        errors = [
            repeated_error(double(scene[1:]) - double(estimate))[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
            for scene, estimate in zip(self._scenes, estimates, strict=True)
        ]
        smallest = [min(error.shape[side] for error in errors) for side in (-2, -1)]
        return torch.stack([error[..., : smallest[0], : smallest[1]] for error in errors])


def _planes(pixels: int) -> int:
    """How many planes are judged, each of so many pixels."""
    return max(_PLANES * _SIDE**2 // max(pixels, 1), _PLANES)


def _region(part: Part, multiple: int) -> tuple[slice, slice]:
    """The middle of a part: about `_SIDE` x `_SIDE` pixels, also of a narrow one."""
    lengths = len(part.rows), len(part.columns)
    most = (max(_SIDE, _SIDE**2 // min(each, _SIDE)) for each in reversed(lengths))
    sides = (
        side[middle(length, longest, multiple)]
        for side, length, longest in zip((part.rows, part.columns), lengths, most, strict=True)
    )
    rows, columns = (slice(side.start, side.stop) for side in sides)
    return rows, columns
