"""The training loop, as a generator of progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..co_model import CoModel
from ..errors import TrainingError, reason
from ..networks.blocks import GatedBlock, PlainBlock, SharedConvBlock
from ..presets import ScheduleConfig
from ..progress import TrainingProgress
from ..system import reusing_memory
from .clock import Clock
from .co_trainer import CoTrainer
from .parts import Parts
from .refit_noise import refit_noise
from .state import State
from .threads import using_threads
from .validation import Validator
from .world import ALONE, World

_REFIT_NOISE_AT = 0.25  # of the budget


class Training:
    """A training of a model in place, which can be saved and gone on with.

    At every yield of `steps` the model holds usable weights: the moving average, from the first validation on the best
    weights. Time spent outside the generator does not count.

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
    world
        The processes that train together, each with the same arguments.
    state
        What `state` gave in an earlier training of the same images: it goes on there. The noise model of `model` is
        the one it had then.
    teacher
        Draws the targets and predicts a part of them, if only the Direct Denoiser learns; `model` itself if not given.

    Attributes
    ----------
    learns_frames
        Whether the Direct Denoiser also learns from other frames of a static scene; known once `steps` runs.

    Raises
    ------
    SettingError
        If a limit is not positive.
    """

    def __init__(
        self,
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
        world: World = ALONE,
        state: State | None = None,
        teacher: CoModel | None = None,
    ) -> None:
        self._teacher = teacher
        self._model, self._stacks, self._schedule, self._seed = model, stacks, schedule, seed
        self._to_refine, self._trained, self._frame_steps = refine_noise, trained, frame_steps
        self._cancelled, self._world, self._saved = cancelled, world, state
        self._clock = Clock.of(schedule, max_minutes, max_steps, world)
        self.learns_frames = False
        self._trainer: CoTrainer
        self._validator: Validator

    def steps(self) -> Iterator[TrainingProgress]:
        """Train, yielding progress at most ten times a second.

        Raises
        ------
        TrainingError
            If the loss is not a number before there are good weights, memory runs out with one patch, or another
            process ended.
        """
        model, schedule, world = self._model, self._schedule, self._world
        with reusing_memory(model.device):
            parts = Parts.of(model, self._stacks, schedule.patch, self._frame_steps)
            training, validation, pairs = parts.samplers(model, schedule, self._seed)
            self.learns_frames = pairs is not None
            self._trainer = CoTrainer(model, training, schedule, self._seed, world, pairs)
            self._validator = Validator(model, validation, schedule, parts.referee)
            del parts
            try:
                self._begin()
                yield from self._run()
            except _CancelledError:
                return
            finally:
                self._trainer.close()
                del self._trainer, self._validator  # their memory is given back next

    def state(self) -> State:
        """All that the next steps depend on, at a yield of `steps`. All processes must call this."""
        return {
            "seconds": self._clock.elapsed,
            "to_refine": self._to_refine,
            "trainer": self._trainer.state(),
            "validator": self._validator.state(),
        }

    def _begin(self) -> None:
        """Go on with what was saved, or measure the weights to start from."""
        if self._world.size == 1:  # others would wait for a step that one abandons
            for network in (self._trainer.learner, self._trainer.average):
                raise_when_cancelled(network, self._cancelled)
        saved, self._saved = self._saved, None
        if saved is not None:
            try:
                self._clock.elapsed, self._to_refine = saved["seconds"], saved["to_refine"]
                self._trainer.restore(saved["trainer"])
                self._validator.restore(saved["validator"])
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise TrainingError(
                    f"Expected the state of a training, found another ({reason(error)}): "
                    "delete the file of the interrupted training to start from the beginning"
                ) from error
        elif self._trained:
            with using_threads(self._trainer.threads):
                if self._schedule.student_only_fraction == 1:
                    self._trainer.freeze_hdn(self._model, self._teacher)
                self._validator.validate(self._trainer, 0)

    def _run(self) -> Iterator[TrainingProgress]:
        """Take steps until the budget is used or there is another reason to stop."""
        trainer, validator, clock, world = self._trainer, self._validator, self._clock, self._world
        schedule, recent = trainer.schedule, list[Tensor]()
        clock.tick(trainer.steps)
        stopped: str | None = None
        while stopped is None:
            with using_threads(trainer.threads):
                if schedule.student_only_fraction and clock.fraction >= 1 - schedule.student_only_fraction:
                    _freeze_hdn(trainer, validator, world)
                recent.append(trainer.step(clock.fraction))
                step = trainer.steps
                clock.tick(step, cancelled=self._cancelled())
                if clock.cancelled:
                    raise _CancelledError
                if self._to_refine and clock.fraction >= _REFIT_NOISE_AT:
                    _refit_noise(trainer, validator, self._seed)
                    self._to_refine = False
                is_over = clock.fraction >= 1
                due = is_over or step % schedule.validate_every == 0
                if not due and not clock.is_due:
                    continue
                mean = torch.stack(recent).mean(0)
                world.average([mean])
                losses = mean.tolist()
                recent.clear()
                if not all(map(math.isfinite, losses)):
                    stopped = validator.diverged(step)
                elif due:
                    stopped = validator.validate(trainer, step, clock.fraction) or ("finished" if is_over else None)
                if validator.best_step is None:
                    validator.model.take(trainer.average)
                (ends,) = world.of_first(stopped is not None)
                stopped = (stopped or "finished") if ends else None
                clock.tick(step)
            yield _progress(step, clock, losses, validator, stopped)
            clock.start()


def train_steps(
    model: CoModel, stacks: Sequence[NDArray[np.generic]], schedule: ScheduleConfig, **options: Any
) -> Iterator[TrainingProgress]:
    """Train a model in place, yielding progress; see `Training`."""
    return Training(model, stacks, schedule, **options).steps()


def _freeze_hdn(trainer: CoTrainer, validator: Validator, world: World) -> None:
    """Freeze HDN at its best weights, once: only the Direct Denoiser learns in the last part of the budget."""
    if trainer.hdn_frozen:
        return
    if validator.best_step is not None:
        validator.validate(trainer, trainer.steps)  # HDN has learned since the last validation
        best = validator.model
    else:
        best = trainer.average
    world.copy_first(best.hdn)
    best.correct_bias(*world.of_first(best.normalization.hdn_scale, best.normalization.hdn_shift))
    trainer.freeze_hdn(best)


def _refit_noise(trainer: CoTrainer, validator: Validator, seed: int) -> None:
    """Fit the noise model to the current predictions."""
    noise = refit_noise(trainer.average, trainer.patches, seed)
    validator.model.change_noise(noise)
    trainer.change_noise(noise)
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


def _progress(
    step: int, clock: Clock, losses: list[float], validator: Validator, stopped: str | None
) -> TrainingProgress:
    elapsed, fraction = clock.elapsed, clock.fraction
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
