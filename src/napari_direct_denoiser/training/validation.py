"""Validation of a training: which weights are kept, and when to stop."""

from __future__ import annotations

import math

import torch

from ..co_model import CoModel
from ..data.patches import PatchSampler
from ..errors import TrainingError
from ..presets import ScheduleConfig
from ..risk import Gain
from .bias import BiasCorrection
from .co_trainer import CoTrainer
from .frame_referee import FrameReferee
from .patch_referee import Measured, PatchReferee, pairs_of
from .state import State, model_state, restore_model
from .targets import Pair

_PATCHES = 32
_SURE = 3  # standard errors; many weights are compared with the kept ones
_NUMBERS = (
    "neg_elbo",
    "direct_loss",
    "best_step",
    "why_no_gain",
    "_best_hdn_loss",
    "_validations_since_best",
    "_has_pairs_of_frozen_hdn",
)  # attributes of a validator
_LONG = 0.5  # of the budget: what the rest of it brings tells whether more would help


class Validator:
    """Keeps the best weights of each network in `model`, each by its own measure.

    HDN is measured by the negative ELBO of held-out patches, always with the same random numbers. The best HDN draws
    the targets of the Direct Denoiser. They change when HDN gets better and once when it is frozen, so the new weights
    of the Direct Denoiser and the kept ones are compared on the same targets. Where their estimated distances from the
    truth differ for sure, these decide instead: targets that HDN draws cannot show what HDN does wrong. The last
    weights that were better for sure bound what follows: many small steps towards samples of a poor HDN would add up.

    Parameters
    ----------
    model
        The model that takes the best weights.
    patches
        Held-out noisy patches.
    schedule
        Says after how many validations without a better one training stops.
    frames
        Judges the Direct Denoiser by frames of a static scene, if there are any.
    """

    def __init__(
        self, model: CoModel, patches: PatchSampler, schedule: ScheduleConfig, frames: FrameReferee | None = None
    ) -> None:
        self.model, self._stop_after = model, schedule.stop_after
        batches = patches.draw(_PATCHES).to(model.device).split(schedule.micro_batch)  # type: ignore[no-untyped-call]
        self._inputs = [model.prepare(batch, patches.margin) for batch in batches]
        self._referee = frames or PatchReferee(batches, patches.margin)
        self._kept: Measured | None = None
        self._sure: Measured | None = None
        self._halfway: Measured | None = None
        self.gain: Gain | None = None
        """Of the kept weights over the best blur; None if it cannot be estimated."""
        self.why_no_gain: str | None = None
        """Why it cannot."""
        self.neg_elbo: float | None = None
        self.direct_loss: float | None = None
        self.best_step: int | None = None
        """Step of the last validation that was better; None before the first."""
        self._best_hdn_loss = math.inf
        self._validations_since_best = 0
        self._pairs: list[Pair] = []
        self._has_pairs_of_frozen_hdn = False

    @torch.no_grad()
    def validate(self, trainer: CoTrainer, step: int, fraction: float = 0.0) -> str | None:
        """Measure the averaged weights, and keep those that are better. Returns why to stop, if so."""
        average = trainer.average
        better = False if self._has_pairs_of_frozen_hdn else self._validate_hdn(trainer)
        self.direct_loss = self._direct_loss(average)
        assert self.neg_elbo is not None
        if not (math.isfinite(self.neg_elbo) and math.isfinite(self.direct_loss)):
            return self.diverged(step)
        trainer.optimizers.reduce_on_plateau(self.neg_elbo, self.direct_loss)
        if self._is_better(average):
            self.model.unet.load_state_dict(average.unet.state_dict())
            better = True
        if fraction >= _LONG and self._halfway is None:
            self._halfway = self._kept
        if better:
            self.best_step, self._validations_since_best = step, 0
            return None
        self._validations_since_best += 1
        if self._stop_after is not None and self._validations_since_best >= self._stop_after:
            return f"no better validation since step {self.best_step}"
        return None

    def forget(self) -> None:
        """Compare both networks anew: the noise model has changed."""
        self._best_hdn_loss = math.inf
        self._kept = self._sure = self._halfway = None
        self._referee.forget()

    @property
    def rise_db(self) -> float | None:
        """What was gained in the second half of the budget, dB; None if that cannot be estimated."""
        if self._kept is None or self._halfway is None or self._kept.why or self._halfway.why:
            return None
        rise = self._referee.gain(self._kept, self._halfway)
        return None if rise is None else rise.db

    def diverged(self, step: int) -> str:
        """Why training stops when a loss is not a number; `TrainingError` if no good weights were kept."""
        if self.best_step is None:
            raise TrainingError(
                f"The loss was not a number at step {step}, before there was a good model: "
                "check the noise model and the image for extreme values"
            )
        return f"the loss was not a number at step {step}: kept the weights of step {self.best_step}"

    def state(self) -> State:
        """The kept weights, and all that later validations compare with."""
        measured = {"kept": self._kept, "sure": self._sure, "halfway": self._halfway}
        return {
            "model": model_state(self.model),
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
            "gain": None if self.gain is None else tuple(self.gain),
            "pairs": [(tuple(inputs), clean) for inputs, clean in self._pairs],
            "measured": {name: each and each.state() for name, each in measured.items()},
            "referee": self._referee.state(),
        }

    def restore(self, state: State) -> None:
        """Go on where another validator of the same images stood."""
        device = self.model.device
        restore_model(self.model, state["model"])
        for name in _NUMBERS:
            setattr(self, name, state["numbers"][name])
        self.gain = None if state["gain"] is None else Gain(*state["gain"])
        self._pairs = pairs_of(state["pairs"], device)
        self._kept, self._sure, self._halfway = (
            None if measured is None else Measured.of(measured, device)
            for measured in (state["measured"].get(name) for name in ("kept", "sure", "halfway"))
        )
        self._referee.restore(state["referee"], device)

    def _validate_hdn(self, trainer: CoTrainer) -> bool:
        """Measure HDN with the same random numbers every time; the best one is kept and draws the targets."""
        generator = torch.Generator(device=self.model.device).manual_seed(0)
        bias = BiasCorrection(self.model.device)
        losses = [
            trainer.average.hdn_loss(inputs, generator, trainer.mean_of_samples(inputs)) for inputs in self._inputs
        ]
        for inputs, loss in zip(self._inputs, losses, strict=True):
            bias.add(inputs, loss.signal)
        if not trainer.hdn_frozen:
            trainer.average.correct_bias(*bias.line().tolist())
        self.neg_elbo = float(torch.stack([loss.loss for loss in losses]).mean())
        hdn_loss = self.neg_elbo + float(torch.stack([loss.of_mean for loss in losses]).mean())
        better = hdn_loss < self._best_hdn_loss
        if better or trainer.hdn_frozen or not self._pairs:
            self._pairs = [
                trainer.targets.pair(inputs, trainer.average.normalization.unbiased(loss.signal), generator)
                for inputs, loss in zip(self._inputs, losses, strict=True)
            ]
            samples = [trainer.average.normalization.unbiased(loss.signal) for loss in losses]
            self._referee.redraw(trainer.average, list(zip(self._inputs, samples, strict=True)), generator)
        self._has_pairs_of_frozen_hdn = trainer.hdn_frozen
        if better:
            self.model.take_hdn(trainer.average)
            self._best_hdn_loss = hdn_loss
        return better

    def _is_better(self, new: CoModel) -> bool:
        """Whether weights of the Direct Denoiser are better than the kept ones; the better ones are judged."""
        assert self.direct_loss is not None
        measured = self._referee.measure(new)
        if self.best_step is None:
            better = True
        else:
            better = self.direct_loss < self._direct_loss(self.model)
            if measured.why is None and self.model.config.loss == "l2":
                self._kept = self._kept or self._referee.measure(self.model)
                self._sure = self._sure or self._kept
                gain = self._referee.gain(measured, self._kept)
                if gain is not None and abs(gain.db) > _SURE * gain.error_db:
                    better = gain.db > 0
                    self._sure = measured if better else self._sure
                elif better:
                    gain = self._referee.gain(measured, self._sure)
                    better = gain is None or gain.db > -gain.error_db
        if better or self._kept is None:
            self._kept = measured if better else self._referee.measure(self.model)
            self.why_no_gain = self._kept.why
            self.gain = None if self._kept.why else self._referee.gain(self._kept)
        return better

    def _direct_loss(self, model: CoModel) -> float:
        return float(torch.stack([model.direct_loss(*pair) for pair in self._pairs]).mean())
