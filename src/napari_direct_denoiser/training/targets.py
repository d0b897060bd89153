"""What the Direct Denoiser learns from: pairs of a noisy and a clean image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..co_model import CoModel
from ..config import UNetConfig
from ..normalization import NetworkInput
from .state import State, model_state, restore_model

CENTRAL = ("l2", "l1")
"""Losses whose predictions are near the mean, and may be a part of targets. Others need the samples as they are."""
Pair = tuple[NetworkInput, Tensor]
"""Input and target of the Direct Denoiser: a prepared noisy image, and a clean one, (B, 1, H, W) counts."""


class StudentTargets:
    """Makes input and target of the Direct Denoiser from posterior samples.

    The paper takes the noisy image and the sample that HDN drew for it (eq. 7). With `resample_noise` the clean image
    comes first, and noise is drawn anew for it; any clean image that looks like a true one will do. With a perfect HDN
    both give pairs of the same distribution. With a real one, what HDN loses when it encodes an image is not learned.
    The student's own prediction is nearer to the truth than a sample of HDN: mixed in, it makes a better clean image.
    A student of a finished teacher takes that of the teacher's own student, if it estimates the mean or the median.

    Parameters
    ----------
    teacher
        The model whose student predicts.
    self_target_weight
        Share of the prediction in the clean image.
    resample_noise
        Whether to draw noise anew.
    """

    def __init__(self, teacher: CoModel, self_target_weight: float, *, resample_noise: bool) -> None:
        self.teacher, self.self_target_weight, self.resample_noise = teacher, self_target_weight, resample_noise

    @torch.no_grad()
    def pair(
        self, inputs: NetworkInput, sample: Tensor, generator: torch.Generator, predicted: Tensor | None = None
    ) -> Pair:
        """Make a pair of a prepared noisy image and the sample (B, 1, H, W) that HDN drew for it.

        ``predicted`` is the prediction of the teacher's student, if it is known.
        """
        if not self.resample_noise:
            return inputs, sample
        clean = sample
        if self.self_target_weight and self.teacher.config.loss in CENTRAL:
            predicted = self.teacher.denoise(inputs) if predicted is None else predicted
            clean = sample.lerp(predicted, self.self_target_weight)
        return self.teacher.prepare_white(self.teacher.noise.white_sample(clean, generator)), clean

    def state(self) -> State:
        """The teacher, whose student may be of another size than the one that learns."""
        config = self.teacher.config
        shape = {"direct": config.direct.model_dump(mode="json"), "loss": config.loss}
        return {**model_state(self.teacher), **shape}

    def restore(self, state: State, teacher: CoModel) -> None:
        """Go on with the teacher of a `state`, made from a model of the same HDN."""
        unet = teacher.new_unet(UNetConfig(**state["direct"]))
        self.teacher = teacher.with_student(unet, state["loss"], teacher.calibration)
        restore_model(self.teacher, state)
