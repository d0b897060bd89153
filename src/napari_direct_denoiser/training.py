"""Co-training of HDN and the Direct Denoiser (Salmon & Krull 2023, section 4), as a generator of progress."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam, Adamax, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .bootstrap import refit_noise
from .co_model import CoModel
from .config import ScheduleConfig
from .errors import TrainingError
from .networks.blocks import GatedBlock, PlainBlock, SharedConvBlock
from .patches import PatchSampler, split

_VALIDATION_PATCHES = 32
_YIELD_SECONDS = 0.1
_WARM_UP_STEPS = 20
_MAX_GRADIENT = 10.0
_REFINE_AT = 0.25


@dataclass(frozen=True)
class TrainingProgress:
    """Where training stands. Losses are running means since the last record, lower is better."""

    step: int
    total_steps: int | None
    fraction: float
    """Part of the budget that is used up, 0 to 1."""
    elapsed_seconds: float
    remaining_seconds: float | None
    elbo: float
    """Negative evidence lower bound, nats per pixel: reconstruction + kl."""
    reconstruction: float
    kl: float
    direct_loss: float
    """Mean squared (l2) or absolute (l1) distance to drawn clean images, normalised units."""
    validation_elbo: float | None
    validation_direct_loss: float | None
    stopped: str | None
    """On the last record: why training ended."""


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
    run = _Run(model, stacks, schedule, seed)
    for network in (run.learner, run.average):
        _ask_in_blocks(network, cancelled)
    try:
        if trained:
            with _threads(run.cpu_threads):
                run.validate(0)
        yield from _records(run, _Clock(max_minutes, max_steps), seed if refine_noise else None)
    except _CancelledError:
        return


def _records(run: _Run, clock: _Clock, refine_seed: int | None) -> Iterator[TrainingProgress]:
    """Make steps until the budget is used up or there is another reason to stop."""
    recent: list[Tensor] = []
    stopped: str | None = None
    step = 0
    while stopped is None:
        with _threads(run.cpu_threads):
            recent.append(run.step(clock.fraction(step)))
            step += 1
            fraction = clock.fraction(step)
            if refine_seed is not None and fraction >= _REFINE_AT:
                run.refine(refine_seed)
                refine_seed = None
            validate = fraction >= 1 or step % run.schedule.validate_every == 0
            if not validate and clock.since_yield() < _YIELD_SECONDS:
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
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads an operation, and then as many as before: outside it is the caller's choice."""
    before = torch.get_num_threads()
    if count is None or count >= before:
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
    run: _Run,
    stopped: str | None,
) -> TrainingProgress:
    elapsed = clock.elapsed
    reconstruction, kl, direct = means
    elbo, direct_validation = run.last if run.last is not None else (None, None)
    return TrainingProgress(
        step=step,
        total_steps=total,
        fraction=min(fraction, 1.0),
        elapsed_seconds=elapsed,
        remaining_seconds=0.0 if stopped else elapsed * (1 - fraction) / fraction if 0 < fraction <= 1 else None,
        elbo=reconstruction + kl,
        reconstruction=reconstruction,
        kl=kl,
        direct_loss=direct,
        validation_elbo=elbo,
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


class _Run:
    """State of one training: the learner, the average of its weights, and the best of those in ``model``."""

    def __init__(
        self, model: CoModel, stacks: Sequence[NDArray[np.generic]], schedule: ScheduleConfig, seed: int
    ) -> None:
        self.model, self.schedule = model, schedule
        self.learner = copy.deepcopy(model).train()
        self.average = copy.deepcopy(model).eval()
        parts = split(stacks, schedule.patch, model.device)
        rotate = not model.config.hdn.structured
        self.patches = PatchSampler(parts.training, schedule.patch, seed, rotate=rotate)
        held_out = PatchSampler(parts.validation, schedule.patch, seed, rotate=rotate)
        self.validation = held_out.draw(_VALIDATION_PATCHES).split(schedule.virtual_batch)  # type: ignore[no-untyped-call]
        self.hdn_optimizer = _optimizer(schedule, self.learner.hdn, schedule.hdn_rate)
        self.direct_optimizer = _optimizer(schedule, self.learner.unet, schedule.direct_rate)
        self.plateaus = [
            ReduceLROnPlateau(optimizer, factor=0.5, patience=schedule.patience)
            for optimizer in (self.hdn_optimizer, self.direct_optimizer)
        ]
        self.cpu_threads = schedule.cpu_threads if model.device.type == "cpu" else None
        self.beside = ThreadPoolExecutor(1, thread_name_prefix="direct-denoiser")
        self.steps = 0
        self.hdn_rests = False
        self.best: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None
        self.best_step = self.validations_since_best = 0

    def step(self, fraction: float) -> Tensor:
        """One step of both networks at this part of the budget: (reconstruction, kl, direct loss)."""
        schedule = self.schedule
        self._anneal(fraction)
        self.hdn_optimizer.zero_grad()
        self.direct_optimizer.zero_grad()
        total = torch.zeros(3, device=self.model.device)
        parts = schedule.batch // schedule.virtual_batch
        for _ in range(parts):
            noisy = self.patches.draw(schedule.virtual_batch)
            with torch.set_grad_enabled(not self.hdn_rests):
                hdn = self.learner.hdn_loss(noisy)
            # from here on the networks have nothing to do with each other: on a CPU they learn side by side
            learning = self.beside.submit(self._learn_direct, noisy, hdn.sample, parts)
            if not self.hdn_rests:
                (hdn.loss / parts).backward()  # type: ignore[no-untyped-call]
            total += torch.stack([hdn.reconstruction, hdn.kl.sum(), learning.result()]) / parts
        if not self.hdn_rests:
            self._take(self.hdn_optimizer, self.learner.hdn)
        self._take(self.direct_optimizer, self.learner.unet)
        self.steps += 1
        self._update_average()
        return total

    def _learn_direct(self, noisy: Tensor, sample: Tensor, parts: int) -> Tensor:
        loss = self.learner.direct_loss(noisy, sample)
        (loss / parts).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _take(self, optimizer: Optimizer, network: torch.nn.Module) -> None:
        if self.schedule.anneal == "budget":  # the published schedule does not clip
            torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
        optimizer.step()

    def _anneal(self, fraction: float) -> None:
        """Cosine over the budget; HDN's ends earlier, where the Direct Denoiser goes on alone."""
        schedule = self.schedule
        if schedule.anneal == "plateau":
            return
        warm = min(1.0, (self.steps + 1) / _WARM_UP_STEPS)
        together = 1 - schedule.direct_only
        if fraction >= together and not self.hdn_rests:
            self.hdn_rests = True
            # the best HDN is the teacher; its loss will not change any more, so that the direct loss decides
            if self.best is not None:
                self.validate(self.steps)  # it has learned since the last time
            teacher = self.average if self.best is None else self.model
            self.average.hdn.load_state_dict(teacher.hdn.state_dict())
            self.learner.hdn.load_state_dict(teacher.hdn.state_dict())
            self.learner.hdn.eval()
        for optimizer, rate, end in (
            (self.hdn_optimizer, schedule.hdn_rate, together),
            (self.direct_optimizer, schedule.direct_rate, 1.0),
        ):
            cosine = 0.5 * (1 + math.cos(math.pi * min(fraction / end, 1.0)))
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * cosine

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.schedule.averaging, self.steps / (self.steps + 10))  # forget the first steps soon
        torch._foreach_lerp_(list(self.average.parameters()), list(self.learner.parameters()), 1 - decay)
        for kept, current in zip(self.average.buffers(), self.learner.buffers(), strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def validate(self, step: int) -> str | None:
        """Measure the averaged weights; keep them if they are the best. Returns why to stop, if so."""
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(0)  # the same draws every time, so that figures can be compared
            results = []
            for noisy in self.validation:
                hdn = self.average.hdn_loss(noisy)
                direct = self.average.direct_loss(noisy, hdn.sample)
                results.append(torch.stack([hdn.loss, direct]))
        elbo, direct_loss = torch.stack(results).mean(0).tolist()
        self.last = (elbo, direct_loss)
        if not math.isfinite(elbo):
            return self.broken(step)
        if self.schedule.anneal == "plateau":
            for plateau, value in zip(self.plateaus, self.last, strict=True):
                plateau.step(value)
        if self.best is None or self.last < self.best:
            self.best, self.best_step, self.validations_since_best = self.last, step, 0
            self.model.load_state_dict(self.average.state_dict())
            return None
        self.validations_since_best += 1
        if self.validations_since_best >= self.schedule.stop_after:
            return f"no better validation since step {self.best_step}"
        return None

    def refine(self, seed: int) -> None:
        """Fit the noise model to what the average makes of the images; losses before and after do not compare."""
        noise = refit_noise(self.average, self.patches, seed).to(self.model.device)
        for model in (self.model, self.learner, self.average):
            model.noise = noise
        self.best = None

    def publish_unvalidated(self) -> None:
        """Before the first validation the average is the best there is."""
        if self.best is None:
            self.model.load_state_dict(self.average.state_dict())
            self.model.eval()

    def broken(self, step: int) -> str:
        """Why training stops when the loss is no longer a number; an error if nothing good was kept."""
        if self.best is None:
            raise TrainingError(
                f"The loss was not a number at step {step}, before there was a good model: "
                "check the noise model and the image for extreme values"
            )
        return f"the loss was not a number at step {step}: kept the weights of step {self.best_step}"


def _optimizer(schedule: ScheduleConfig, network: torch.nn.Module, rate: float) -> Optimizer:
    if schedule.optimizer == "adamax":
        return Adamax(network.parameters(), lr=rate, foreach=True)
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    return Adam(network.parameters(), lr=rate, betas=(0.9, 0.99), fused=fused)  # quick to heed a burst of gradients
