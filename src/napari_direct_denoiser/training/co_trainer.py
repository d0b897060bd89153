"""The co-training step of HDN and the Direct Denoiser (Salmon & Krull 2023, section 4).

Read `CoTrainer.step` from top to bottom to follow one step from patches to weights.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, Adamax, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..co_model import CoModel
from ..data.patches import PatchSampler
from ..errors import TrainingError
from ..networks.blocks import ChannelDropout
from ..normalization import NetworkInput
from ..presets import ScheduleConfig
from ..system import free_memory, is_out_of_memory, sent
from .bias import BiasCorrection, unbiased
from .state import State, model_state, optimizer_state, restore_model, restore_optimizer
from .targets import CENTRAL, Pair, StudentTargets
from .world import ALONE, SharedLoss, World, explaining_loss

_WARM_UP_STEPS = 20
_MAX_GRADIENT = 10.0
_MAX_THREADS = 4  # for each of two small networks
_HDN_LOSS_SMOOTHING = 0.02
_SAMPLE, _NOISE, _PAIR = range(3)  # what random numbers are for


class CoTrainer:
    """Trains both networks of a model together.

    Parameters
    ----------
    model
        Where training starts from. Its weights are not changed.
    patches
        Noisy training patches.
    schedule
        Batch size, learning rates, and how they fall.
    seed
        Of everything that is drawn but the patches. What is drawn depends on the seed, the step and the part of the
        batch alone: a training that goes on after an interruption draws the same.
    world
        The processes that train together.

    Attributes
    ----------
    learner
        The model that takes gradient steps.
    average
        Exponential moving average of its weights: the model that is validated and kept.
    """

    def __init__(
        self, model: CoModel, patches: PatchSampler, schedule: ScheduleConfig, seed: int, world: World = ALONE
    ) -> None:
        self.schedule, self.patches, self.device = schedule, patches, model.device
        self._seed, self._world = seed, world
        self.generator, self._noise_generator = (torch.Generator(device=model.device) for _ in range(2))
        model.freeze_encoder(model.hdn)
        self._start = model
        self.learner = copy.deepcopy(model).train()
        for module in self.learner.modules():
            if isinstance(module, ChannelDropout):
                module.generator = self.generator
        self.average = copy.deepcopy(model.eval())
        # Structured noise has a part that the noise model does not describe: it cannot be drawn anew.
        resample_noise = schedule.resample_noise and not model.config.hdn.structured
        own = schedule.self_target_weight if model.config.loss in CENTRAL else 0.0
        self.targets = StudentTargets(self.average, own, resample_noise=resample_noise)
        self.hdn_optimizer = _optimizer(schedule, [list(self.learner.hdn.parameters())], schedule.hdn_rate)
        self.direct_optimizer = _optimizer(schedule, self.learner.unet.parameter_groups(), schedule.direct_rate)
        self._plateaus = [
            ReduceLROnPlateau(optimizer, factor=0.5, patience=schedule.patience)
            for optimizer in (self.hdn_optimizer, self.direct_optimizer)
        ]
        available = torch.get_num_threads()
        self.side_by_side = schedule.side_by_side and model.device.type == "cpu" and (world.size == 1 or available > 1)
        self.threads = min(max(available // 2, 1), _MAX_THREADS) if self.side_by_side else available
        self._student_thread: Executor = ThreadPoolExecutor(1, "direct-denoiser") if self.side_by_side else _Immediate()
        self._share = world.share_of(schedule.batch)
        self._most = self.micro_batch = math.gcd(schedule.micro_batch, self._share)  # unless memory runs out
        structured = model.config.hdn.structured
        self._hdn_loss_of = SharedLoss(world, self.learner.hdn, self.learner.hdn_loss, skips=structured)
        self._direct_losses_of = SharedLoss(world, self.learner.unet, partial(_direct_losses, self.learner))
        self.steps = 0
        self._fraction = 0.0  # of the budget, at the last step
        self.hdn_frozen = False
        self._hdn_loss = torch.zeros(2, device=model.device)  # running HDN loss, reported while HDN is frozen
        self._redrawn: NetworkInput | None = None  # the last image with noise drawn anew
        self._next_pair: Pair | None = None
        self._bias = BiasCorrection(world)
        self._line: Tensor | None = None  # of the bias, after the last step

    def step(self, fraction: float) -> Tensor:
        """Take one step at this fraction of the budget.

        Returns
        -------
        Tensor
            (3,): reconstruction and KL of HDN in nats per pixel, and the loss of the Direct Denoiser.
        """
        self._set_learning_rates(fraction)
        self._fraction = fraction
        losses: Tensor | None = None
        bias = self._bias.state()
        while losses is None:
            self.hdn_optimizer.zero_grad()
            self.direct_optimizer.zero_grad()
            try:
                losses = self.student_step() if self.hdn_frozen else self.joint_step()
            except (RuntimeError, MemoryError) as error:
                self._bias.restore(bias, self.device)  # all parts of the batch are drawn again
                self._reduce_micro_batch(error)
                for current, before in zip(self.learner.buffers(), self.average.buffers(), strict=True):
                    current.copy_(before)  # forget what batch normalization has seen of this step
        self.steps += 1
        self._world.average([buffer for buffer in self.learner.hdn.buffers() if buffer.is_floating_point()])
        self._update_average()
        return losses

    def joint_step(self) -> Tensor:
        """Both networks on one batch: HDN draws a clean image (eq. 3), the Direct Denoiser learns it (eq. 7).

        What the noise model does not describe of the noise, HDN learns to encode. So a part of its steps takes images
        of the Direct Denoiser, with noise drawn from the model: these hold nothing of it.
        """
        parts = self._share // self.micro_batch
        losses = torch.zeros(3, device=self.device)
        for part in range(parts):
            last = part == parts - 1
            redrawn = self._redrawn if self._redrawn and self.steps % self.schedule.redrawn_every == 0 else None
            inputs = redrawn or self._draw_inputs(self.steps, part)
            self.generator.manual_seed(self._seed_of(self.steps, part, _SAMPLE))
            with self._hdn_loss_of.gradients(shared=last):
                hdn = self._hdn_loss_of(inputs, self.generator)
                if redrawn is None:
                    self._bias.add(inputs, hdn.signal)
                # The target has no gradient: from here on the two networks run side by side.
                sample = hdn.sample if self._line is None else unbiased(hdn.signal, self._line)
                student = self._student_thread.submit(self._learn_sample, inputs, sample, part)
                (hdn.loss / parts).backward()
            losses += torch.stack([hdn.reconstruction, hdn.kl.sum(), student.result()]) / parts
        self._update_weights(self.hdn_optimizer)
        self._update_weights(self.direct_optimizer)
        self._line = self._bias.line()
        self._hdn_loss.lerp_(losses[:2], max(1 / (self.steps + 1), _HDN_LOSS_SMOOTHING))
        return losses

    def student_step(self) -> Tensor:
        """Only the Direct Denoiser, on one batch, while the frozen HDN draws the targets of the next one."""
        parts = self._share // self.micro_batch
        direct_loss = torch.zeros((), device=self.device)
        for part in range(parts):
            pair = self._next_pair or self._draw_pair(self.steps, part)
            student = self._student_thread.submit(self._student_backward, pair, part)
            self._next_pair = self._draw_pair(*((self.steps, part + 1) if part < parts - 1 else (self.steps + 1, 0)))
            direct_loss += student.result() / parts
        self._update_weights(self.direct_optimizer)
        return torch.cat([self._hdn_loss, direct_loss[None]])

    def freeze_hdn(self, best: CoModel, teacher: CoModel | None = None) -> None:
        """Keep this HDN from now on; it draws the targets, with a fixed prediction of the student, or of a teacher."""
        for model in (self.learner, self.average):
            model.take_hdn(best)
        self.targets.teacher = teacher or copy.deepcopy(self.average)
        self.hdn_frozen = True
        if not self.steps:
            with torch.no_grad():
                loss = best.hdn_loss(self._draw_inputs(0, 0), self.generator.manual_seed(self._seed))
            self._hdn_loss = torch.stack([loss.reconstruction, loss.kl.sum()])

    def close(self) -> None:
        """End the thread of the student, after what it still does."""
        self._student_thread.shutdown()

    def reduce_rates_on_plateau(self, neg_elbo: float, direct_loss: float) -> None:
        """Tell the schedule `plateau` of a validation."""
        if self.schedule.anneal == "plateau":
            for plateau, loss in zip(self._plateaus, (neg_elbo, direct_loss), strict=True):
                plateau.step(loss)

    def _draw_inputs(self, step: int, part: int) -> NetworkInput:
        patches = self.patches.draw(self.schedule.batch, step, self._part_of_batch(part))
        return self.learner.prepare(sent(patches, self.device), self.patches.margin)

    @torch.no_grad()
    def _draw_pair(self, step: int, part: int) -> Pair:
        inputs = self._draw_inputs(step, part)
        self.generator.manual_seed(self._seed_of(step, part, _PAIR))
        sample = self.targets.teacher.hdn_loss(inputs, self.generator).sample
        return self.targets.pair(inputs, sample, self.generator)

    def _part_of_batch(self, part: int) -> tuple[int, int]:
        """Which part of the batch of all processes a part of this one is, and how many there are."""
        parts = self._share // self.micro_batch
        return self._world.rank * parts + part, self._world.size * parts

    def _seed_of(self, step: int, part: int, purpose: int) -> int:
        numbers = (self._seed, step, *self._part_of_batch(part), purpose)
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

    def _learn_sample(self, inputs: NetworkInput, sample: Tensor, part: int) -> Tensor:
        self._noise_generator.manual_seed(self._seed_of(self.steps, part, _NOISE))
        pair = self.targets.pair(inputs, sample, self._noise_generator)
        if self.targets.resample_noise and self.schedule.redrawn_every:
            self._redrawn = pair[0]
        return self._student_backward(pair, part)

    def _student_backward(self, pair: Pair, part: int) -> Tensor:
        parts = self._share // self.micro_batch
        with self._direct_losses_of.gradients(shared=part == parts - 1):
            total, loss = self._direct_losses_of(*pair, self._fraction)
            (total / parts).backward()
        return cast(Tensor, loss.detach())

    def _update_weights(self, optimizer: Optimizer) -> None:
        if self.schedule.anneal == "budget":  # the published schedule does not clip gradients
            for group in optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], _MAX_GRADIENT)
        optimizer.step()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the weights of this step; it forgets the first steps sooner.

        The `AveragedModel` of torch does the same, but waits for the GPU in every step.
        """
        decay = min(self.schedule.ema_decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.learner.parameters()), 1 - decay)
        for kept, current in zip(self.average.buffers(), self.learner.buffers(), strict=True):
            kept.copy_(current)

    def _set_learning_rates(self, fraction: float) -> None:
        """Cosine over the budget. That of HDN ends where the Direct Denoiser goes on alone."""
        schedule = self.schedule
        if schedule.anneal == "plateau":
            return
        warm_up = min(1.0, (self.steps + 1) / _WARM_UP_STEPS)
        for optimizer, rate, end in (
            (self.hdn_optimizer, schedule.hdn_rate, 1 - schedule.student_only_fraction),
            (self.direct_optimizer, schedule.direct_rate, 1.0),
        ):
            cosine = 0.5 * (1 + math.cos(math.pi * min(fraction / end, 1.0))) if end else 0.0
            for group in optimizer.param_groups:
                group["lr"] = rate * warm_up * cosine

    def _reduce_micro_batch(self, error: Exception) -> None:
        """After an out-of-memory error, halve the patches that pass the networks at a time; re-raise any other."""
        self._student_thread.submit(int).result()  # wait for what the other thread still does
        if not is_out_of_memory(error):
            with explaining_loss():
                raise error
        if self._world.size > 1:  # the others wait for the gradients of this step
            raise TrainingError(
                f"Out of memory on process {self._world.rank + 1} of {self._world.size}: start more processes, so that "
                "each has a smaller share of the batch, or choose another preset"
            ) from error
        self._next_pair = self._redrawn = None
        free_memory(self.device)
        if self.micro_batch == 1:
            raise TrainingError(
                "Out of memory with one patch at a time: close other programs, or train on another device"
            ) from error
        if self.micro_batch == self.schedule.micro_batch:
            warnings.warn("Out of memory: training goes on with fewer patches at a time, more slowly", stacklevel=2)
        self.micro_batch //= 2

    def state(self) -> State:
        """What the next steps depend on, with that of all processes: all of them must call this."""
        return {
            "steps": self.steps,
            "reduced": self._most // self.micro_batch,
            "learner": model_state(self.learner),
            "average": model_state(self.average),
            "teacher": self.targets.state() if self.hdn_frozen else None,
            "optimizers": [optimizer_state(each) for each in (self.hdn_optimizer, self.direct_optimizer)],
            "plateaus": [dict(plateau.state_dict()) for plateau in self._plateaus],
            "hdn_loss": self._hdn_loss,
            "encoder": dict(self._start.encoder.state_dict()) if self._start.encoder else None,
            "redrawn": None if self._redrawn is None else [self._world.gathered(each) for each in self._redrawn],
            "bias": self._bias.state(),
        }

    def restore(self, state: State) -> None:
        """Go on where another trainer of the same images stood, which may have had more or fewer processes."""
        self.steps = state["steps"]
        self.micro_batch = max(self._most // state["reduced"], 1)
        restore_model(self.learner, state["learner"])
        restore_model(self.average, state["average"])
        if state["teacher"] is not None:
            self.targets.restore(state["teacher"], copy.deepcopy(self.average))
            self.hdn_frozen = True
        if state["encoder"] is not None:
            encoder = copy.deepcopy(self.learner.hdn)
            encoder.load_state_dict(state["encoder"])
            for model in (self._start, self.learner, self.average):
                model.freeze_encoder(encoder)
        for optimizer, saved in zip((self.hdn_optimizer, self.direct_optimizer), state["optimizers"], strict=True):
            restore_optimizer(optimizer, saved)
        for plateau, saved in zip(self._plateaus, state["plateaus"], strict=True):
            plateau.load_state_dict(saved)
        self._hdn_loss = state["hdn_loss"].to(self.device)
        if state["redrawn"] is not None:
            of_all = (each.to(self.device).tensor_split(self._world.size) for each in state["redrawn"])
            self._redrawn = NetworkInput(*(parts[self._world.rank] for parts in of_all))
        self._bias.restore(state["bias"], self.device)
        self._line = self._bias.line()


def _direct_losses(learner: CoModel, inputs: NetworkInput, clean: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """The sum of all losses of the Direct Denoiser, and that of its prediction."""
    if not learner.has_std:
        loss = learner.direct_loss(inputs, clean, fraction)
        return loss, loss
    loss, std_loss = learner.direct_losses(
        inputs, clean, fraction
    )  # the second has a gradient to the second head alone
    return loss + std_loss, loss


class _Immediate(Executor):
    """Runs what it is given at once, in the calling thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future


def _optimizer(schedule: ScheduleConfig, parameters: list[list[torch.nn.Parameter]], rate: float) -> Optimizer:
    """Make an optimizer; the gradients of each list of parameters are clipped apart."""
    groups = [{"params": each} for each in parameters]
    if schedule.optimizer == "adamax":
        return Adamax(groups, lr=rate, foreach=True)
    fused = parameters[0][0].device.type in ("cpu", "cuda")
    return Adam(groups, lr=rate, betas=(0.9, 0.99), fused=fused)  # reacts soon to a burst of gradients
