"""One training of both networks: their steps, rates, running averages and validations."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam, Adamax, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..co_model import CoModel
from ..config import ScheduleConfig
from ..data.patches import PatchSampler, split
from ..errors import TrainingError
from ..normalization import NetworkInput
from ..system import free_memory, is_out_of_memory
from .refit_noise import refit_noise

_VALIDATION_PATCHES = 32
_WARM_UP_STEPS = 20
_MAX_GRADIENT = 10.0
_MOST_THREADS = 4  # for each of two small networks

Pair = tuple[NetworkInput, Tensor]
"""A noisy image as the networks see it, and the clean one (B, 1, H, W), counts, that belongs to it."""


class Run:
    """State of one training: the learner, the average of its weights, and the best of those in ``model``."""

    def __init__(
        self, model: CoModel, stacks: Sequence[NDArray[np.generic]], schedule: ScheduleConfig, seed: int
    ) -> None:
        self.model, self.schedule = model, schedule
        self.learner = copy.deepcopy(model).train()
        self.average = copy.deepcopy(model).eval()
        self.teacher = self.average  # whose prediction is part of what is learned; a copy of it when HDN rests
        parts = split(stacks, schedule.patch, model.device)
        rotate = not model.config.hdn.structured
        self.patches = PatchSampler(parts.training, schedule.patch, seed, rotate=rotate)
        held_out = PatchSampler(parts.validation, schedule.patch, seed, rotate=rotate)
        batches = held_out.draw(_VALIDATION_PATCHES).split(schedule.micro_batch)  # type: ignore[no-untyped-call]
        self.validation = [model.prepare(batch) for batch in batches]
        self.hdn_optimizer = _optimizer(schedule, self.learner.hdn, schedule.hdn_rate)
        self.direct_optimizer = _optimizer(schedule, self.learner.unet, schedule.direct_rate)
        self.plateaus = [
            ReduceLROnPlateau(optimizer, factor=0.5, patience=schedule.patience)
            for optimizer in (self.hdn_optimizer, self.direct_optimizer)
        ]
        side_by_side = schedule.side_by_side and model.device.type == "cpu"
        usual = torch.get_num_threads()
        self.threads = min(max(usual // 2, 1), _MOST_THREADS) if side_by_side else usual
        self.beside: Executor = ThreadPoolExecutor(1, "direct-denoiser") if side_by_side else _InTurn()
        self.micro_batch = schedule.micro_batch
        self.steps = 0
        self.hdn_frozen = False
        # structured noise is more than the noise model knows of
        self.resample_noise = schedule.resample_noise and not model.config.hdn.structured
        self.measured = torch.zeros(2, device=model.device)  # HDN's losses of late, told again while it rests
        self.drawn: Pair | None = None
        self.held_out: list[Pair] = []
        self.held_out_neg_elbo = math.nan
        self.best: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None
        self.best_step = self.validations_since_best = 0

    def step(self, fraction: float) -> Tensor:
        """One step of both networks at this part of the budget: (reconstruction, kl, direct loss)."""
        self._anneal(fraction)
        total = None
        while total is None:
            self.hdn_optimizer.zero_grad()
            self.direct_optimizer.zero_grad()
            try:
                total = self._learn_alone() if self.hdn_frozen else self._learn_together()
            except (RuntimeError, MemoryError) as error:
                self._take_less_memory(error)
        self._take(self.direct_optimizer, self.learner.unet)
        self.steps += 1
        self._update_average()
        return total

    def _take_less_memory(self, error: Exception) -> None:
        """After an error for want of memory, let half as many patches pass the networks at a time."""
        self.beside.submit(int).result()  # what the other thread was about may still be going on
        if not is_out_of_memory(error):
            raise error
        self.drawn = None
        free_memory(self.model.device)
        if self.micro_batch == 1:
            raise TrainingError(
                "Out of memory with one patch at a time: close other programs, or train on another device"
            ) from error
        if self.micro_batch == self.schedule.micro_batch:
            warnings.warn("Out of memory: going on with fewer patches at a time, which is slower", stacklevel=2)
        self.micro_batch //= 2

    def _learn_together(self) -> Tensor:
        parts = self.schedule.batch // self.micro_batch
        total = torch.zeros(3, device=self.model.device)
        for _ in range(parts):
            seen = self._see()
            hdn = self.learner.hdn_loss(seen)
            # from here on the networks have nothing to do with each other: small ones learn side by side
            learning = self.beside.submit(self._learn_what_was_drawn, seen, hdn.sample, parts)
            (hdn.loss / parts).backward()  # type: ignore[no-untyped-call]
            total += torch.stack([hdn.reconstruction, hdn.kl.sum(), learning.result()]) / parts
        self._take(self.hdn_optimizer, self.learner.hdn)
        self.measured.lerp_(total[:2], max(1 / (self.steps + 1), 0.02))
        return total

    def _learn_alone(self) -> Tensor:
        """A step of the Direct Denoiser, while HDN draws what is learned in the next one."""
        direct = torch.zeros((), device=self.model.device)
        parts = self.schedule.batch // self.micro_batch
        for _ in range(parts):
            learning = self.beside.submit(self._learn_direct, *(self.drawn or self._draw()), parts)
            self.drawn = self._draw()
            direct += learning.result() / parts
        return torch.cat([self.measured, direct[None]])

    @torch.no_grad()
    def _draw(self) -> Pair:
        seen = self._see()
        return self._pair(seen, self.teacher.hdn_loss(seen).sample)

    def _see(self) -> NetworkInput:
        return self.learner.prepare(self.patches.draw(self.micro_batch))

    @torch.no_grad()
    def _pair(self, seen: NetworkInput, sample: Tensor) -> Pair:
        """A noisy image and the clean one that the Direct Denoiser learns from it.

        The paper takes the image and what HDN drew for it (eq. 7). With noise drawn anew the clean image comes first,
        and any that looks like a true one will do. Where HDN is perfect both make pairs of the same distribution.
        Where it is not, what it loses when it encodes an image is not learned; and the prediction of the Direct
        Denoiser, nearer to the truth than the mean of HDN, makes the clean image a better one.
        """
        if not self.resample_noise:
            return seen, sample
        clean = sample.lerp(self.teacher.denoise(seen), self.schedule.self_target_weight)
        return self.learner.prepare(self.learner.noise.sample(clean)), clean

    def _learn_what_was_drawn(self, seen: NetworkInput, sample: Tensor, parts: int) -> Tensor:
        return self._learn_direct(*self._pair(seen, sample), parts)

    def _learn_direct(self, seen: NetworkInput, clean: Tensor, parts: int) -> Tensor:
        loss = self.learner.direct_loss(seen, clean)
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
        together = 1 - schedule.student_only_fraction
        if fraction >= together and not self.hdn_frozen:
            self._rest()
        for optimizer, rate, end in (
            (self.hdn_optimizer, schedule.hdn_rate, together),
            (self.direct_optimizer, schedule.direct_rate, 1.0),
        ):
            cosine = 0.5 * (1 + math.cos(math.pi * min(fraction / end, 1.0)))
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * cosine

    def _rest(self) -> None:
        """From here on HDN learns no more: the best one draws, and only the direct loss decides what is best."""
        if self.best is not None:
            self.validate(self.steps)  # it has learned since the last time
            self.average.hdn.load_state_dict(self.model.hdn.state_dict())
            self.best = (math.inf, math.inf)  # losses before and after do not compare
        self.learner.hdn.load_state_dict(self.average.hdn.state_dict())
        self.teacher = copy.deepcopy(self.average)
        self.hdn_frozen = True
        self.held_out.clear()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.schedule.ema_decay, self.steps / (self.steps + 10))  # forget the first steps soon
        torch._foreach_lerp_(list(self.average.parameters()), list(self.learner.parameters()), 1 - decay)
        for kept, current in zip(self.average.buffers(), self.learner.buffers(), strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def validate(self, step: int) -> str | None:
        """Measure the averaged weights; keep them if they are the best. Returns why to stop, if so."""
        if not (self.hdn_frozen and self.held_out):  # while HDN rests they remain the same
            self._draw_held_out()
        direct_loss = torch.stack([self.average.direct_loss(*pair) for pair in self.held_out]).mean()
        self.last = (self.held_out_neg_elbo, float(direct_loss))
        if not all(map(math.isfinite, self.last)):
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

    def _draw_held_out(self) -> None:
        """Pairs to validate with, drawn with the same random numbers every time, so that figures can be compared."""
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(0)
            hdn = [self.average.hdn_loss(seen) for seen in self.validation]
            self.held_out = [self._pair(seen, loss.sample) for seen, loss in zip(self.validation, hdn, strict=True)]
        self.held_out_neg_elbo = float(torch.stack([loss.loss for loss in hdn]).mean())

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


class _InTurn(Executor):
    """Does at once what it is given, in the same thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future


def _optimizer(schedule: ScheduleConfig, network: torch.nn.Module, rate: float) -> Optimizer:
    if schedule.optimizer == "adamax":
        return Adamax(network.parameters(), lr=rate, foreach=True)
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    return Adam(network.parameters(), lr=rate, betas=(0.9, 0.99), fused=fused)  # quick to heed a burst of gradients
