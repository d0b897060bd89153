"""Co-training of HDN and the Direct Denoiser (Salmon & Krull 2023, section 4), as a generator of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..co_model import CoModel
from ..config import ScheduleConfig
from ..networks.blocks import GatedBlock, PlainBlock, SharedConvBlock
from ..progress import YIELD_SECONDS, TrainingProgress
from ..system import reusing_memory
from .co_trainer import Run

_REFINE_AT = 0.25


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
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[TrainingProgress]:
    """Train ``model`` in place on noisy ``stacks`` (planes, Y, X), yielding at most ten times a second.

    At every yield ``model`` holds usable weights: the running average before the first validation,
    the best validated ones from then on. Time spent outside the generator does not count.
    Limits not given are those of the schedule. With ``refine_noise`` the noise model is fitted anew
    when a quarter of the budget is used up. The weights of a ``trained`` model are the best until
    others are better. Once ``cancelled`` says so, from any thread, the step is left undone and there
    are no more records. Raises `TrainingError` if the loss is not a number before there are good
    weights.
    """
    if max_minutes is None and max_steps is None:
        max_minutes, max_steps = schedule.max_minutes, schedule.max_steps
    torch.manual_seed(seed)
    with reusing_memory(model.device):
        run = Run(model, stacks, schedule, seed)
        for network in (run.learner, run.average):
            _ask_in_blocks(network, cancelled)
        try:
            if trained:
                with _threads(run.threads):
                    run.validate(0)
            yield from _records(run, _Clock(max_minutes, max_steps), seed if refine_noise else None)
        except _CancelledError:
            return
        finally:
            del run, network  # or their memory would not be given back


def _records(run: Run, clock: _Clock, refine_seed: int | None) -> Iterator[TrainingProgress]:
    """Make steps until the budget is used up or there is another reason to stop."""
    recent: list[Tensor] = []
    stopped: str | None = None
    step = 0
    while stopped is None:
        with _threads(run.threads):
            recent.append(run.step(clock.fraction(step)))
            step += 1
            fraction = clock.fraction(step)
            if refine_seed is not None and fraction >= _REFINE_AT:
                run.refine(refine_seed)
                refine_seed = None
            validate = fraction >= 1 or step % run.schedule.validate_every == 0
            if not validate and clock.since_yield() < YIELD_SECONDS:
                continue
            means = torch.stack(recent).mean(0).tolist()
            recent.clear()
            if not all(map(math.isfinite, means)):
                stopped = run.broken(step)
            elif validate:
                stopped = run.validate(step) or ("finished" if fraction >= 1 else None)
            run.publish_unvalidated()
        clock.pause()
        yield _progress(step, clock.max_steps, fraction, clock, means, run, stopped)
        clock.resume()


class _CancelledError(Exception):
    """The caller wants no more steps."""


def _ask_in_blocks(network: torch.nn.Module, cancelled: Callable[[], bool]) -> None:
    """Raise in the next block, forwards or backwards: one step of large networks takes a CPU many seconds."""

    def ask(gradient: Tensor | None = None) -> None:
        if cancelled():
            raise _CancelledError

    def ask_both_ways(block: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ask()
        if output.requires_grad:
            output.register_hook(ask)  # type: ignore[no-untyped-call]

    for module in network.modules():
        if isinstance(module, GatedBlock | PlainBlock | SharedConvBlock):
            module.register_forward_hook(ask_both_ways)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads an operation, and then as many as before: outside it is the caller's choice."""
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
    step: int,
    total: int | None,
    fraction: float,
    clock: _Clock,
    means: list[float],
    run: Run,
    stopped: str | None,
) -> TrainingProgress:
    elapsed = clock.elapsed
    reconstruction, kl, direct = means
    neg_elbo, direct_validation = run.last if run.last is not None else (None, None)
    return TrainingProgress(
        step=step,
        total_steps=total,
        fraction=min(fraction, 1.0),
        elapsed_seconds=elapsed,
        remaining_seconds=0.0 if stopped else elapsed * (1 - fraction) / fraction if 0 < fraction <= 1 else None,
        neg_elbo=reconstruction + kl,
        reconstruction=reconstruction,
        kl=kl,
        direct_loss=direct,
        validation_neg_elbo=neg_elbo,
        validation_direct_loss=direct_validation,
        stopped=stopped,
    )


class _Clock:
    """Seconds that training itself took, and the part of the budget that is used up."""

    def __init__(self, max_minutes: float | None, max_steps: int | None) -> None:
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.max_steps = max_steps
        self._before = 0.0
        self._since = self._last_yield = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return self._before + (time.perf_counter() - self._since)

    def fraction(self, step: int) -> float:
        used = [step / self.max_steps] if self.max_steps else []
        used += [self.elapsed / self.max_seconds] if self.max_seconds else []
        return max(used, default=0.0)

    def since_yield(self) -> float:
        return time.perf_counter() - self._last_yield

    def pause(self) -> None:
        self._before = self.elapsed
        self._since = time.perf_counter()

    def resume(self) -> None:
        self._since = self._last_yield = time.perf_counter()
