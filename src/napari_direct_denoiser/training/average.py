"""The moving average of the weights that learn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..co_model import CoModel


class MovingAverage:
    """A model that is the exponential moving average of another, the learner.

    The `AveragedModel` of torch does the same, but waits for the GPU in every step. All tensors are listed once: to
    visit all modules takes longer than the kernels.
    """

    def __init__(self, average: CoModel, learner: CoModel) -> None:
        models = average, learner
        self._weights: list[list[Tensor]] = [[*model.parameters()] for model in models]
        self._buffers = [[*model.buffers()] for model in models]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the weights of the average towards those of the learner; take its buffers."""
        average, learner = self._weights
        torch._foreach_lerp_(average, learner, 1 - decay)
        for kept, current in zip(*self._buffers, strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def forget_step(self) -> None:
        """Give the learner back the buffers of the last update: what batch normalization has seen since."""
        for kept, current in zip(*self._buffers, strict=True):
            current.copy_(kept)
