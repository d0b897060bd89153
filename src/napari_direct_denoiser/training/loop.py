"""The training loop, as a generator of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..co_model import CoModel
from ..config import ScheduleConfig
from ..data.patches import Part, PatchSampler, split
from ..errors import SettingError
from ..networks.blocks import GatedBlock, PlainBlock, SharedConvBlock
from ..progress import YIELD_SECONDS, TrainingProgress
from ..system import reusing_memory
from .co_trainer import CoTrainer
from .frame_referee import FrameReferee
from .refit_noise import refit_noise
from .validation import Validator

_REFIT_NOISE_AT = 0.25  # of the budget


def train_steps(
    model: CoModel,
    stacks: Sequence[NDArray[np.generic]],
    schedule: ScheduleConfig,
    *,
    max_minutes: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    refine_noise: bool = False,
    trained: bool = False,
    frame_steps: Sequence[int] = (),
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[TrainingProgress]:
    """Train a model in place on noisy images, yielding progress at most ten times a second.

    At every yield `model` holds usable weights: the moving average, from the first validation on the best weights.
    Time spent outside the generator does not count.

    Parameters
    ----------
    model
        Networks to train.
    stacks
        Noisy images, (planes, Y, X) each, counts.
    schedule
        How to train.
    max_minutes, max_steps
        The budget; that of the schedule if neither is given.
    seed, refine_noise
        Of everything random; whether to fit the noise model anew after a quarter of the budget.
    trained
        The weights of `model` are the best until others are better.
    frame_steps
        For each stack, how many planes successive frames of a field are apart: frames of a static scene judge best.
    cancelled
        Once it returns true, the step is abandoned and the generator ends. Called in every block of the networks.

    Raises
    ------
    SettingError
        If a limit is not positive.
    TrainingError
        If the loss is not a number before there are good weights, or memory runs out with one patch.
    """
    clock = _Clock.of(schedule, max_minutes, max_steps)
    with reusing_memory(model.device):
        training, validation, held_out = _patches(model, stacks, schedule, seed)
        frames = FrameReferee.of(held_out, frame_steps, model.multiple, model.device) if frame_steps else None
        trainer, validator = CoTrainer(model, training, schedule, seed), Validator(model, validation, schedule, frames)
        for network in (trainer.learner, trainer.average):
            raise_when_cancelled(network, cancelled)
        try:
            if trained:
                with using_threads(trainer.threads):
                    validator.validate(trainer, 0)
            yield from _run(trainer, validator, clock, refit_seed=seed if refine_noise else None)
        except _CancelledError:
            return
        finally:
            del trainer, validator, network  # their memory is given back next


def _patches(
    model: CoModel, stacks: Sequence[NDArray[np.generic]], schedule: ScheduleConfig, seed: int
) -> tuple[PatchSampler, PatchSampler, list[Part]]:
    """Training and validation patches, and the parts of the stacks that the latter are from.

    Patches have the context that whitening needs, and are turned as the noise allows.
    """
    augmentation, margin = model.noise.augmentation, model.noise.margin
    if model.config.hdn.structured:
        augmentation = replace(augmentation, transpose=False)
    parts = split([model.noise.without_lines(stack) for stack in stacks], schedule.patch)
    training, validation = (
        PatchSampler(part, schedule.patch, seed, augmentation=augmentation, margin=margin) for part in parts
    )
    return training, validation, parts[1]


def _run(trainer: CoTrainer, validator: Validator, clock: _Clock, refit_seed: int | None) -> Iterator[TrainingProgress]:
    """Take steps until the budget is used or there is another reason to stop."""
    schedule, recent = trainer.schedule, list[Tensor]()
    stopped: str | None = None
    while stopped is None:
        with using_threads(trainer.threads):
            fraction = clock.fraction(trainer.steps)
            if schedule.student_only_fraction and fraction >= 1 - schedule.student_only_fraction:
                _freeze_hdn(trainer, validator)
            recent.append(trainer.step(fraction))
            step, fraction = trainer.steps, clock.fraction(trainer.steps)
            if refit_seed is not None and fraction >= _REFIT_NOISE_AT:
                _refit_noise(trainer, validator, refit_seed)
                refit_seed = None
            due = fraction >= 1 or step % schedule.validate_every == 0
            if not due and clock.seconds_since_yield() < YIELD_SECONDS:
                continue
            losses = torch.stack(recent).mean(0).tolist()
            recent.clear()
            if not all(map(math.isfinite, losses)):
                stopped = validator.diverged(step)
            elif due:
                stopped = validator.validate(trainer, step, fraction) or ("finished" if fraction >= 1 else None)
            if validator.best_step is None:
                validator.model.take(trainer.average)
        clock.pause()
        yield _progress(step, clock, losses, validator, stopped)
        clock.resume()


def _freeze_hdn(trainer: CoTrainer, validator: Validator) -> None:
    """Freeze HDN at its best weights, once: only the Direct Denoiser learns in the last part of the budget."""
    if trainer.hdn_frozen:
        return
    if validator.best_step is not None:
        validator.validate(trainer, trainer.steps)  # HDN has learned since the last validation
        trainer.freeze_hdn(validator.model)
    else:
        trainer.freeze_hdn(trainer.average)


def _refit_noise(trainer: CoTrainer, validator: Validator, seed: int) -> None:
    """Fit the noise model to the current predictions."""
    noise = refit_noise(trainer.average, trainer.patches, seed).to(trainer.device)
    for model in (validator.model, trainer.learner, trainer.average):
        model.noise = noise
    validator.forget()


class _CancelledError(Exception):
    """The caller wants no more steps."""


def raise_when_cancelled(network: torch.nn.Module, cancelled: Callable[[], bool]) -> None:
    """Raise in the next block, forward or backward: one step of large networks takes a CPU many seconds."""

    def check(gradient: Tensor | None = None) -> None:
        if cancelled():
            raise _CancelledError

    def check_both_ways(block: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        check()
        if output.requires_grad:
            output.register_hook(check)  # type: ignore[no-untyped-call]

    for module in network.modules():
        if isinstance(module, GatedBlock | PlainBlock | SharedConvBlock):
            module.register_forward_hook(check_both_ways)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads an operation inside, and as many as before outside."""
    before = torch.get_num_threads()
    if count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _progress(
    step: int, clock: _Clock, losses: list[float], validator: Validator, stopped: str | None
) -> TrainingProgress:
    elapsed, fraction = clock.elapsed, clock.fraction(step)
    reconstruction, kl, direct_loss = losses
    return TrainingProgress(
        step=step,
        total_steps=clock.max_steps,
        fraction=min(fraction, 1.0),
        elapsed_seconds=elapsed,
        remaining_seconds=0.0 if stopped else elapsed * (1 - fraction) / fraction if 0 < fraction <= 1 else None,
        neg_elbo=reconstruction + kl,
        reconstruction=reconstruction,
        kl=kl,
        direct_loss=direct_loss,
        validation_neg_elbo=validator.neg_elbo,
        validation_direct_loss=validator.direct_loss,
        stopped=stopped,
        estimated_gain_db=None if validator.gain is None else validator.gain.db,
        estimated_gain_error_db=None if validator.gain is None else validator.gain.error_db,
        estimated_gain_why=validator.why_no_gain,
        estimated_rise_db=validator.rise_db if stopped else None,
    )


class _Clock:
    """Seconds that training itself took, and the fraction of the budget that is used."""

    def __init__(self, max_minutes: float | None, max_steps: int | None) -> None:
        if max_minutes is not None and not max_minutes > 0:
            raise SettingError(f"Expected max_minutes above 0, found {max_minutes:g}: give the minutes to train")
        if max_steps is not None and max_steps < 1:
            raise SettingError(f"Expected max_steps of at least 1, found {max_steps}: give the steps to train")
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.max_steps = max_steps
        self._before = 0.0
        self._since = self._last_yield = time.perf_counter()

    @classmethod
    def of(cls, schedule: ScheduleConfig, max_minutes: float | None, max_steps: int | None) -> _Clock:
        """Take the limits of the schedule if neither is given."""
        if max_minutes is None and max_steps is None:
            return cls(schedule.max_minutes, schedule.max_steps)
        return cls(max_minutes, max_steps)

    @property
    def elapsed(self) -> float:
        return self._before + (time.perf_counter() - self._since)

    def fraction(self, step: int) -> float:
        used = [step / self.max_steps] if self.max_steps else []
        used += [self.elapsed / self.max_seconds] if self.max_seconds else []
        return max(used, default=0.0)

    def seconds_since_yield(self) -> float:
        return time.perf_counter() - self._last_yield

    def pause(self) -> None:
        self._before = self.elapsed
        self._since = time.perf_counter()

    def resume(self) -> None:
        self._since = self._last_yield = time.perf_counter()
