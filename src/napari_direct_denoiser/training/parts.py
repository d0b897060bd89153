"""Which parts of the images are trained on, and which are held out to validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..co_model import CoModel
from ..data.patches import Part, PatchSampler, split, split_frames
from ..noise.scene import FEWEST_FRAMES
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
    has_frames
        Whether other frames may be learned from, because the referee judges by none of these.
    """

    training: Sequence[Part]
    held_out: Sequence[Part]
    steps: Sequence[int]
    referee: FrameReferee | None = None
    has_frames: bool = False

    @classmethod
    def of(cls, model: CoModel, stacks: Sequence[NDArray[np.generic]], patch: int, steps: Sequence[int]) -> Parts:
        """Divide stacks (planes, Y, X).

        Of nine frames of a static scene or more, at least three are held out: they judge each other. Of fewer, a region
        is held out. Frames that are learned from could not judge: the networks know their noise. Other stacks are
        divided by planes.

        Parameters
        ----------
        steps
            How many planes successive frames are apart in each stack; empty if it is not known.
        """
        measured = [model.noise.measured(stack) for stack in stacks]
        if not steps:
            return cls(*split(measured, patch), steps)
        if divided := split_frames(measured, steps, FEWEST_FRAMES):
            *parts, apart = divided
            if referee := FrameReferee.of(parts[1], apart, model.multiple, model.device):
                return cls(parts[0], parts[1], steps, referee, has_frames=True)
        for by_region in (True, False):
            training, held_out = split(measured, patch, by_region=by_region)
            referee = FrameReferee.of(held_out, steps, model.multiple, model.device)
            apart_in_space = by_region and all(map(_apart, training, held_out))
            if referee and (apart_in_space or not by_region):
                break
        return cls(training, held_out, steps, referee, apart_in_space)

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
        learns = self.has_frames and schedule.learn_frames and model.config.loss == "l2"
        scenes = read_scenes(self.training, self.steps, period) if learns else []
        pairs = FramePairs(scenes, schedule.patch, seed, **options) if scenes else None
        return training, validation, pairs


def _apart(one: Part, other: Part) -> bool:
    return one.rows != other.rows or one.columns != other.columns
