"""Which weights a training keeps: those nearer to the truth, found without it; and how good it says they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.data.patches import PatchSampler, split
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import GaussianNoise, PoissonGaussianNoise
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.risk import Gain, Response
from napari_direct_denoiser.training.co_trainer import CoTrainer
from napari_direct_denoiser.training.frame_referee import FrameReferee
from napari_direct_denoiser.training.loop import train_steps
from napari_direct_denoiser.training.patch_referee import Measured
from napari_direct_denoiser.training.validation import Validator

STACK = simulate(planes=7, size=128, seed=1)
SCHEDULE = PRESETS["quick"].schedule.model_copy(update={"patch": 32, "validate_every": 4})


@pytest.fixture(scope="module")
def start() -> Denoiser:
    """The weights that come with the package."""
    return Denoiser.for_images(STACK.noisy, TrainSettings(noise="poisson:2,100,3", device="cpu"))


def parts(start: Denoiser, referee: FrameReferee | None = None) -> tuple[CoTrainer, Validator]:
    model = copy.deepcopy(start.model)
    training, held_out = (PatchSampler(part, SCHEDULE.patch, 0) for part in split([STACK.noisy], SCHEDULE.patch))
    return CoTrainer(model, training, SCHEDULE, 0), Validator(model, held_out, SCHEDULE, referee)


def blurring(trainer: CoTrainer) -> None:
    """The blur that an untrained network starts from."""
    for parameter in trainer.average.unet.parameters():
        parameter.zero_()


def overdoing(trainer: CoTrainer) -> None:
    """A network that is only a little worse."""
    for parameter in trainer.average.unet.parameters():
        parameter.mul_(1.08)


@pytest.mark.parametrize("worsen", [blurring, overdoing])
def test_the_weights_that_are_nearer_to_the_truth_are_kept(
    start: Denoiser, worsen: Callable[[CoTrainer], None]
) -> None:
    noisy = torch.from_numpy(STACK.noisy[3:4, None].astype(np.float32))
    trainer, validator = parts(start)
    with torch.no_grad():
        good = trainer.average.unet.state_dict()
        good = {name: value.clone() for name, value in good.items()}
        worsen(trainer)
        errors = [
            float((model.direct(noisy) - torch.from_numpy(STACK.truth[3:4, None])).square().mean())
            for model in (trainer.average, validator.model)
        ]
        assert errors[0] > errors[1]
        validator.validate(trainer, 0)
        assert validator.gain is not None
        worse = validator.gain.db
        trainer.average.unet.load_state_dict(good)
        validator.validate(trainer, 1)
        assert validator.best_step == 1
        assert validator.gain.db > worse
        better = validator.gain.db
        worsen(trainer)
        validator.validate(trainer, 2)
    assert validator.best_step == 1
    assert validator.gain.db == better
    assert all(torch.equal(value, good[name]) for name, value in validator.model.unet.state_dict().items())


class UnsureReferee(FrameReferee):
    """Knows that weights which are larger by 1 % are worse by 0.2 dB, and is sure of 1.5 dB."""

    def __init__(self, start: CoModel) -> None:
        super().__init__([])
        self.start = next(start.unet.parameters()).clone()

    def larger(self, model: CoModel) -> torch.Tensor:
        return (next(model.unet.parameters()) / self.start).nanmean() - 1

    def measure(self, model: CoModel) -> Measured:
        larger = self.larger(model)
        return Measured(Response(larger, larger), 10 ** (2 * larger), None)

    def gain(self, measured: Measured, other: Measured | None = None) -> Gain:
        than = float(other.squared_error) if other else 1.0
        return Gain(10 * math.log10(than / float(measured.squared_error)), 0.5)


def test_small_steps_towards_a_poor_teacher_do_not_add_up(start: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    referee = UnsureReferee(start.model)
    monkeypatch.setattr(CoModel, "direct_loss", lambda model, *pair: -referee.larger(model))  # what the teacher wants
    trainer, validator = parts(start, referee)
    with torch.no_grad():
        good = {name: value.clone() for name, value in trainer.average.unet.state_dict().items()}
        for step in range(7):
            trainer.average.unet.load_state_dict({name: value * (1 + 0.01 * step) for name, value in good.items()})
            validator.validate(trainer, step)
    assert validator.best_step == 2  # 0.4 dB worse than the start; 0.6 would be over one standard error


def test_the_gain_in_the_records_is_that_of_the_held_out_plane(start: Denoiser) -> None:
    model = copy.deepcopy(start.model)
    records = list(train_steps(model, [STACK.noisy], SCHEDULE, max_steps=4, trained=True))
    gain, error = records[-1].estimated_gain_db, records[-1].estimated_gain_error_db
    assert records[-1].estimated_gain_why is None
    assert gain is not None
    assert error is not None
    with torch.no_grad():
        direct = model.direct(torch.from_numpy(STACK.noisy[3:4, None].astype(np.float32)))[0, 0].numpy()
    truth = STACK.truth[3]
    blurs = [gaussian_filter(STACK.noisy[3].astype(np.float64), sigma) for sigma in (0.75, 1.0, 1.25)]
    best = min(float(np.mean((blur - truth) ** 2)) for blur in blurs)
    assert gain == pytest.approx(10 * math.log10(best / np.mean((direct - truth) ** 2)), abs=max(2 * error, 0.5))
    assert records[-1].estimated_rise_db == pytest.approx(0, abs=0.2)  # hardly longer than nothing
    assert all(record.estimated_rise_db is None for record in records[:-1])


def test_where_the_noise_model_is_wrong_there_is_a_reason_and_training_goes_on(start: Denoiser) -> None:
    model = copy.deepcopy(start.model)
    model.noise = PoissonGaussianNoise(3.5, 100.0, 3.0)
    last = list(train_steps(model, [STACK.noisy], SCHEDULE, max_steps=2, trained=True))[-1]
    assert last.stopped == "finished"
    assert (last.estimated_gain_db, last.estimated_gain_error_db, last.estimated_rise_db) == (None, None, None)
    assert last.estimated_gain_why is not None
    assert "variance of the noise" in last.estimated_gain_why


def test_a_new_noise_model_is_judged_anew(start: Denoiser) -> None:
    trainer, validator = parts(start)
    validator.validate(trainer, 0)
    assert validator.gain is not None
    for model in (validator.model, trainer.average):
        model.noise = GaussianNoise(1.0)
    validator.forget()
    validator.validate(trainer, 1)
    assert validator.gain is None
    assert validator.why_no_gain is not None


def test_frames_of_a_static_scene_judge_by_themselves(start: Denoiser) -> None:
    rng = np.random.default_rng(1)
    truth = np.broadcast_to(STACK.truth[:1], (9, 128, 128))
    frames = (100 + 2 * rng.poisson((truth - 100) / 2) + rng.normal(0, 3, truth.shape)).astype(np.float32)
    model = copy.deepcopy(start.model)
    model.noise = PoissonGaussianNoise(2.7, 100.0, 3.0)  # wrong, which does not matter
    held_out = split([frames], SCHEDULE.patch)[1]
    referee = FrameReferee.of(held_out, [1], model.multiple, model.device)
    assert referee is not None
    with torch.no_grad():
        measured = referee.measure(model)
        gain = referee.gain(measured)
        error = float(
            (model.direct(torch.from_numpy(frames[3:4, None])) - torch.from_numpy(truth[3:4, None].copy()))[
                ..., 8:-8, 8:-8
            ]
            .square()
            .mean()
        )
        assert float(measured.squared_error.mean()) == pytest.approx(error, rel=0.2)
        weak = copy.deepcopy(model)
        for parameter in weak.unet.parameters():
            parameter.zero_()
        worse = referee.measure(weak)
    assert gain is not None
    assert gain.db > 0.5
    assert measured.why is None
    better = referee.gain(measured, worse)
    assert better is not None
    assert better.db > 3 * better.error_db
    moving = split([STACK.noisy], SCHEDULE.patch)[1]
    assert FrameReferee.of(moving, [1], model.multiple, model.device) is None
