"""The optimizers of both networks, and how their learning rates fall."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import Adam, Adamax, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..co_model import CoModel
from ..presets import ScheduleConfig
from .state import State, optimizer_state, restore_optimizer

_WARM_UP_STEPS = 20
_MAX_GRADIENT = 10.0


class Optimizers:
    """One optimizer for each network of a model.

    Parameters
    ----------
    schedule
        Which optimizer, learning rates, and how they fall: over the budget, or where validations see a plateau.
    model
        Whose weights they change.
    """

    def __init__(self, schedule: ScheduleConfig, model: CoModel) -> None:
        self._schedule = schedule
        self.hdn = _optimizer(schedule, [list(model.hdn.parameters())], schedule.hdn_rate)
        self.direct = _optimizer(schedule, model.unet.parameter_groups(), schedule.direct_rate)
        self._both = self.hdn, self.direct
        self._plateaus = [ReduceLROnPlateau(each, factor=0.5, patience=schedule.patience) for each in self._both]

    def zero_grad(self, *, set_to_none: bool) -> None:
        """Forget the gradients; set to zero they stay where they are in memory."""
        for optimizer in self._both:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self, *, hdn: bool) -> None:
        """Change the weights of the Direct Denoiser, and those of HDN. The published schedule clips no gradients."""
        for optimizer in self._both if hdn else (self.direct,):
            if self._schedule.anneal == "budget":
                for group in optimizer.param_groups:
                    nn.utils.clip_grad_norm_(group["params"], _MAX_GRADIENT)
            optimizer.step()

    def set_rates(self, steps: int, fraction: float) -> None:
        """Cosine over the budget. That of HDN ends where the Direct Denoiser goes on alone."""
        schedule = self._schedule
        if schedule.anneal == "plateau":
            return
        warm_up = min(1.0, (steps + 1) / _WARM_UP_STEPS)
        for optimizer, rate, end in (
            (self.hdn, schedule.hdn_rate, 1 - schedule.student_only_fraction),
            (self.direct, schedule.direct_rate, 1.0),
        ):
            cosine = 0.5 * (1 + math.cos(math.pi * min(fraction / end, 1.0))) if end else 0.0
            for group in optimizer.param_groups:
                group["lr"] = rate * warm_up * cosine

    def reduce_on_plateau(self, neg_elbo: float, direct_loss: float) -> None:
        """Tell the schedule `plateau` of a validation."""
        if self._schedule.anneal == "plateau":
            for plateau, loss in zip(self._plateaus, (neg_elbo, direct_loss), strict=True):
                plateau.step(loss)

    def state(self) -> State:
        """Moments, learning rates and plateaus."""
        return {
            "optimizers": [optimizer_state(each) for each in self._both],
            "plateaus": [dict(plateau.state_dict()) for plateau in self._plateaus],
        }

    def restore(self, state: State) -> None:
        """Go on with these."""
        for optimizer, saved in zip(self._both, state["optimizers"], strict=True):
            restore_optimizer(optimizer, saved)
        for plateau, saved in zip(self._plateaus, state["plateaus"], strict=True):
            plateau.load_state_dict(saved)


def _optimizer(schedule: ScheduleConfig, parameters: list[list[nn.Parameter]], rate: float) -> Optimizer:
    """Make an optimizer; the gradients of each list of parameters are clipped apart."""
    groups = [{"params": each} for each in parameters]
    if schedule.optimizer == "adamax":
        return Adamax(groups, lr=rate, foreach=True)
    fused = parameters[0][0].device.type in ("cpu", "cuda")
    return Adam(groups, lr=rate, betas=(0.9, 0.99), fused=fused)  # reacts soon to a burst of gradients
