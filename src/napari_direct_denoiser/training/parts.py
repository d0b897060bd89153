"""Which parts of the images are trained on, and which are held out to validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..co_model import CoModel
from ..data.patches import Part, PatchSampler, split
from ..presets import ScheduleConfig
from .frame_pairs import FramePairs, read_scenes
from .frame_referee import FrameReferee


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the stacks, and what frames of a static scene in them are good for.

    Attributes
    ----------
    training, held_out
        Parts of each stack.
    steps
        How many planes successive frames of a stack are apart.
    referee
        Judges by held-out frames; None if the images are no frames of static scenes.
    has_region
        Whether frames may be learned from: what is held out is a region that no part of `training` shows.
    """

    training: Sequence[Part]
    held_out: Sequence[Part]
    steps: Sequence[int]
    referee: FrameReferee | None
    has_region: bool

    @classmethod
    def of(cls, model: CoModel, stacks: Sequence[NDArray[np.generic]], patch: int, steps: Sequence[int]) -> Parts:
        """Divide stacks (planes, Y, X): by planes, or by regions where the planes show one static scene.

        Held-out planes would show what was learned from others of the scene.

        Parameters
        ----------
        steps
            How many planes successive frames are apart in each stack; empty if it is not known.
        """
        measured = [model.noise.measured(stack) for stack in stacks]
        for by_region in (True, False) if steps else ():
            training, held_out = split(measured, patch, by_region=by_region)
            referee = FrameReferee.of(held_out, steps, model.multiple, model.device)
            apart = by_region and all(_apart(*parts) for parts in zip(training, held_out, strict=True))
            if referee and (apart or not by_region):
                return cls(training, held_out, steps, referee, apart)
        return cls(*split(measured, patch), steps, None, False)

    def samplers(
        self, model: CoModel, schedule: ScheduleConfig, seed: int
    ) -> tuple[PatchSampler, PatchSampler, FramePairs | None]:
        """Training and validation patches, and those of frames, if the Direct Denoiser can learn from them.

        Patches have the context that whitening needs, and are turned as the noise allows.
        """
        augmentation, margin, period = model.noise.augmentation, model.noise.margin, model.noise.row_period
        if model.config.hdn.structured:
            augmentation = replace(augmentation, transpose=False)
        options: dict[str, Any] = {"augmentation": augmentation, "margin": margin, "row_period": period}
        training, validation = (
            PatchSampler(parts, schedule.patch, seed, **options) for parts in (self.training, self.held_out)
        )
        learns = self.has_region and schedule.learn_frames and model.config.loss == "l2"
        scenes = read_scenes(self.training, self.steps, period) if learns else []
        pairs = FramePairs(scenes, schedule.patch, seed, **options) if scenes else None
        return training, validation, pairs


def _apart(one: Part, other: Part) -> bool:
    return one.rows != other.rows or one.columns != other.columns
