"""The co-training step of HDN and the Direct Denoiser (Salmon & Krull 2023, section 4).

Read `CoTrainer.step` from top to bottom to follow one step from patches to weights.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..co_model import CoModel
from ..cuda_graphs import CudaGraphs, Tensors
from ..data.patches import PatchSampler
from ..errors import TrainingError
from ..networks.blocks import ChannelDropout
from ..noise import NoiseModel
from ..normalization import NetworkInput
from ..presets import ScheduleConfig
from ..system import free_memory, is_out_of_memory, sent
from .average import MovingAverage
from .bias import BiasCorrection, unbiased
from .frame_pairs import FramePairs
from .optimizers import Optimizers
from .state import State, model_state, restore_model
from .targets import CENTRAL, StudentTargets
from .threads import Immediate
from .world import ALONE, SharedLoss, World, explaining_loss

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
    frames
        Frames of a static scene, which the Direct Denoiser also learns from. The mean of HDN's samples learns from it.

    Attributes
    ----------
    learner
        The model that takes gradient steps.
    average
        Exponential moving average of its weights: the model that is validated and kept.
    """

    def __init__(
        self,
        model: CoModel,
        patches: PatchSampler,
        schedule: ScheduleConfig,
        seed: int,
        world: World = ALONE,
        frames: FramePairs | None = None,
    ) -> None:
        self.schedule, self.patches, self.device, self._frames = schedule, patches, model.device, frames
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
        structured = model.config.hdn.structured
        resample_noise = schedule.resample_noise and not structured
        own = schedule.self_target_weight if model.config.loss in CENTRAL else 0.0
        self.targets = StudentTargets(self.average, own, resample_noise=resample_noise)
        self.optimizers = Optimizers(schedule, self.learner)
        self._moving = MovingAverage(self.average, self.learner)
        available = torch.get_num_threads()
        self.side_by_side = schedule.side_by_side and model.device.type == "cpu" and (world.size == 1 or available > 1)
        self.threads = min(max(available // 2, 1), _MAX_THREADS) if self.side_by_side else available
        self._student_thread: Executor = ThreadPoolExecutor(1, "direct-denoiser") if self.side_by_side else Immediate()
        self._share = world.share_of(schedule.batch)
        self._most = self.micro_batch = math.gcd(schedule.micro_batch, self._share)  # unless memory runs out
        self._hdn_loss_of = SharedLoss(world, self.learner.hdn, self.learner.hdn_loss, skips=structured)
        self._direct_losses_of = SharedLoss(world, self.learner.unet, self.learner.total_direct_loss)
        self.steps = 0
        self._fraction = torch.zeros((), device=model.device)  # of the budget, at this step
        self.hdn_frozen = False
        self._hdn_loss = torch.zeros(2, device=model.device)  # running HDN loss, reported while HDN is frozen
        self._redrawn: NetworkInput | None = None  # the last image with noise drawn anew
        self._next_pair: Tensors | None = None
        self._bias = BiasCorrection(model.device, world)
        known = model.normalization
        self._line = torch.tensor([known.hdn_scale, known.hdn_shift], device=model.device)  # of the bias, by now
        self._graphs = CudaGraphs(model.device, [self.generator, self._noise_generator], usable=world.size == 1)

    def step(self, fraction: float) -> Tensor:
        """Take one step at this fraction of the budget.

        Returns
        -------
        Tensor
            (3,): reconstruction and KL of HDN in nats per pixel, and the loss of the Direct Denoiser.
        """
        self.optimizers.set_rates(self.steps, fraction)
        self._fraction.fill_(fraction)
        losses: Tensor | None = None
        bias = self._bias.running.clone()
        while losses is None:
            self.optimizers.zero_grad(set_to_none=not self._graphs.usable)
            try:
                losses = self.student_step() if self.hdn_frozen else self.joint_step()
            except (RuntimeError, MemoryError) as error:
                self._bias.running.copy_(bias)  # all parts of the batch are drawn again
                self._reduce_micro_batch(error)
                self._moving.forget_step()
        self.steps += 1
        if self._world.size > 1:
            self._world.average([buffer for buffer in self.learner.hdn.buffers() if buffer.is_floating_point()])
        self._moving.update(min(self.schedule.ema_decay, self.steps / (self.steps + 10)))
        return losses

    def joint_step(self) -> Tensor:
        """Both networks on one batch: HDN draws a clean image (eq. 3), the Direct Denoiser learns it (eq. 7).

        What the noise model does not describe of the noise, HDN learns to encode. So a part of its steps takes images
        of the Direct Denoiser, with noise drawn from the model: these hold nothing of it.
        """
        losses = torch.zeros(3, device=self.device)
        for part in range(self._parts):
            self.generator.manual_seed(self._seed_of(self.steps, part, _SAMPLE))
            self._noise_generator.manual_seed(self._seed_of(self.steps, part, _NOISE))
            frames = self._draw_frames(self.steps, part)
            with self._gradients(part):
                if self._redrawn and self.steps % self.schedule.redrawn_every == 0:
                    learned, *redrawn = self._graphs.call(self._learn_redrawn, *self._redrawn, *frames)
                else:
                    patches = self._draw_patches(self.steps, part)
                    learned, *redrawn = self._graphs.call(self._learn_new, patches, *frames)
            losses += learned / self._parts
            if redrawn and self.schedule.redrawn_every:
                self._redrawn = NetworkInput(*redrawn)
        self.optimizers.step(hdn=True)
        self._line.copy_(self._bias.line())
        self._hdn_loss.lerp_(losses[:2], max(1 / (self.steps + 1), _HDN_LOSS_SMOOTHING))
        return losses

    def student_step(self) -> Tensor:
        """Only the Direct Denoiser, on one batch, while the frozen HDN draws the targets of the next one."""
        direct_loss = torch.zeros((), device=self.device)
        for part in range(self._parts):
            pair = self._next_pair or self._draw_pair(self.steps, part)
            frames = self._draw_frames(self.steps, part)
            with self._gradients(part):
                student = self._student_thread.submit(self._graphs.call, self._learn_pair, *pair, *frames)
                self._next_pair = self._draw_pair(*divmod(self.steps * self._parts + part + 1, self._parts))
                direct_loss += student.result()[0] / self._parts
        self.optimizers.step(hdn=False)
        return torch.cat([self._hdn_loss, direct_loss[None]])

    def _learn_new(self, patches: Tensor, *frames: Tensor) -> Tensors:
        return self._learn(self.learner.prepare(patches, self.patches.margin), frames, is_new=True)

    def _learn_redrawn(self, noisy: Tensor, views: Tensor, base: Tensor, step: Tensor, *frames: Tensor) -> Tensors:
        return self._learn(NetworkInput(noisy, views, base, step), frames, is_new=False)

    def _learn(self, inputs: NetworkInput, frames: Tensors, *, is_new: bool) -> Tensors:
        """Gradients of both networks; their losses, and what `_learn_sample` made."""
        mean = self.mean_of_samples(inputs)
        hdn = self._hdn_loss_of(inputs, self.generator, mean)
        if is_new:
            self._bias.add(inputs, hdn.signal)
        # The target has no gradient: from here on the two networks run side by side.
        student = self._student_thread.submit(
            self._learn_sample, inputs, unbiased(hdn.signal, self._line), mean, frames
        )
        ((hdn.loss + hdn.of_mean) / self._parts).backward()
        loss, *redrawn = student.result()
        return torch.stack([hdn.reconstruction, hdn.kl.sum(), loss]), *redrawn

    def _learn_sample(self, inputs: NetworkInput, sample: Tensor, mean: Tensor | None, frames: Tensors) -> Tensors:
        """Gradients of the Direct Denoiser; its loss, and the image with noise drawn anew, if there is one."""
        seen, clean = self.targets.pair(inputs, sample, self._noise_generator, mean)
        return *self._learn_pair(*seen, clean, *frames), *(seen if self.targets.resample_noise else ())

    def _learn_pair(
        self, noisy: Tensor, views: Tensor, base: Tensor, step: Tensor, clean: Tensor, *frames: Tensor
    ) -> Tensors:
        inputs = NetworkInput(noisy, views, base, step)
        total, loss = self._direct_losses_of(inputs, clean, self._fraction, self.patches.margin, *frames)
        (total / self._parts).backward()
        return (loss.detach(),)

    @torch.no_grad()
    def mean_of_samples(self, inputs: NetworkInput) -> Tensor | None:
        """Target of the mean of HDN's samples: the direct prediction, if it is better because it learns from frames."""
        return self.average.denoise(inputs) if self._frames else None

    def freeze_hdn(self, best: CoModel, teacher: CoModel | None = None) -> None:
        """Keep this HDN from now on; it draws the targets, with a fixed prediction of the student, or of a teacher."""
        for model in (self.learner, self.average):
            model.take_hdn(best)
        self.targets.teacher = teacher or copy.deepcopy(self.average)
        self.hdn_frozen = True
        self._graphs.forget()
        if not self.steps:
            inputs = self.learner.prepare(self._draw_patches(0, 0), self.patches.margin)
            with torch.no_grad():
                loss = best.hdn_loss(inputs, self.generator.manual_seed(self._seed))
            self._hdn_loss = torch.stack([loss.reconstruction, loss.kl.sum()])

    def close(self) -> None:
        """End the thread of the student, after what it still does."""
        self._student_thread.shutdown()
        self._graphs.forget()

    def change_noise(self, noise: NoiseModel) -> None:
        """From now on, the noise is that of another model."""
        for model in (self.learner, self.average):
            model.change_noise(noise)
        self._moving = MovingAverage(self.average, self.learner)
        self._graphs.forget()

    def _draw_patches(self, step: int, part: int) -> Tensor:
        return sent(self.patches.draw(self.schedule.batch, step, self._part_of_batch(part)), self.device)

    def _draw_frames(self, step: int, part: int) -> Tensors:
        """Patches of frames and of others of the scene, half as many as of other images; none without frames."""
        if self._frames is None:
            return ()
        number, parts = self._part_of_batch(part)
        drawn = self._frames.draw(max(self.schedule.batch // 2, parts), step, (number, parts))
        return tuple(sent(patches, self.device) for patches in drawn)

    def _draw_pair(self, step: int, part: int) -> Tensors:
        self.generator.manual_seed(self._seed_of(step, part, _PAIR))
        return self._graphs.call(self._make_pair, self._draw_patches(step, part))

    @torch.no_grad()
    def _make_pair(self, patches: Tensor) -> Tensors:
        inputs = self.learner.prepare(patches, self.patches.margin)
        sample = self.targets.teacher.hdn_loss(inputs, self.generator).sample
        seen, clean = self.targets.pair(inputs, sample, self.generator)
        return *seen, clean

    @property
    def _parts(self) -> int:
        """Of the share of a batch, which pass the networks one after the other."""
        return self._share // self.micro_batch

    @contextmanager
    def _gradients(self, part: int) -> Iterator[None]:
        """Context of the losses of a part, whose gradients other processes wait for after the last one."""
        is_last = part == self._parts - 1
        with self._hdn_loss_of.gradients(shared=is_last), self._direct_losses_of.gradients(shared=is_last):
            yield

    def _part_of_batch(self, part: int) -> tuple[int, int]:
        """Which part of the batch of all processes a part of this one is, and how many there are."""
        return self._world.rank * self._parts + part, self._world.size * self._parts

    def _seed_of(self, step: int, part: int, purpose: int) -> int:
        numbers = (self._seed, step, *self._part_of_batch(part), purpose)
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

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
        self._graphs.forget()
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
            **self.optimizers.state(),
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
        self.optimizers.restore(state)
        self._hdn_loss = state["hdn_loss"].to(self.device)
        if state["redrawn"] is not None:
            of_all = (each.to(self.device).tensor_split(self._world.size) for each in state["redrawn"])
            self._redrawn = NetworkInput(*(parts[self._world.rank] for parts in of_all))
        self._bias.restore(state["bias"])
        if state["bias"]["added"]:
            self._line.copy_(self._bias.line())
