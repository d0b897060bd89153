"""Training: its records are true, it can be stopped anywhere, and it never goes on with garbage."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest
import torch

from napari_direct_denoiser.co_model import CoModel, HDNLoss
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.patches import PatchSampler, split
from napari_direct_denoiser.errors import SettingError, TrainingError
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.normalization import NetworkInput, Normalization
from napari_direct_denoiser.presets import PRESETS, ScheduleConfig
from napari_direct_denoiser.progress import TrainingProgress
from napari_direct_denoiser.training import loop
from napari_direct_denoiser.training.co_trainer import CoTrainer, StudentTargets
from napari_direct_denoiser.training.loop import train_steps
from napari_direct_denoiser.training.validation import Validator

CONFIG = ModelConfig(
    hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False),
    units="noise",
)
SCHEDULE = PRESETS["quick"].schedule.model_copy(
    update={"patch": 16, "batch": 4, "micro_batch": 4, "validate_every": 10}
)
PLATEAU = SCHEDULE.model_copy(
    update={"stop_after": 30, "anneal": "plateau", "ema_decay": 0.0, "patience": 0, "validate_every": 1}
)


def signal() -> np.ndarray:
    y, x = np.mgrid[:48, :48]
    return np.asarray(200 + 60 * np.sin(x / 2.5) * np.cos(y / 3.5))


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray:
    return (signal() + rng.normal(0, 20, (8, 48, 48))).astype(np.float32)


def build(stack: np.ndarray) -> CoModel:
    noise = GaussianNoise(20.0)
    return CoModel.initialized(CONFIG, noise, Normalization.of([stack], CONFIG.units, noise), 0).eval()


def weights(model: CoModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(
    stack: np.ndarray, schedule: ScheduleConfig = SCHEDULE, **limits: float
) -> tuple[CoModel, list[TrainingProgress]]:
    model = build(stack)
    return model, list(train_steps(model, [stack], schedule, **limits))  # type: ignore[arg-type]


def test_records_end_at_the_given_number_of_steps(stack: np.ndarray) -> None:
    _, records = run(stack, max_steps=25)
    last = records[-1]
    assert (last.step, last.total_steps, last.fraction, last.remaining_seconds) == (25, 25, 1.0, 0.0)
    assert last.stopped == "finished"
    assert all(r.stopped is None for r in records[:-1])
    assert last.validation_neg_elbo is not None
    assert last.neg_elbo == pytest.approx(last.reconstruction + last.kl)


@pytest.mark.parametrize(("side_by_side", "expected"), [(True, 1), (False, 2)])
def test_small_networks_share_the_threads_and_outside_steps_they_are_as_many_as_before(
    stack: np.ndarray, monkeypatch: pytest.MonkeyPatch, side_by_side: bool, expected: int
) -> None:
    seen: dict[str, set[int]] = {"hdn": set(), "direct": set()}
    hdn_loss, direct_loss = CoModel.hdn_loss, CoModel.direct_loss

    def watched_hdn(*args: Any) -> object:
        seen["hdn"].add(torch.get_num_threads())
        return hdn_loss(*args)

    def watched_direct(*args: Any) -> object:
        seen["direct"].add(torch.get_num_threads())
        return direct_loss(*args)

    monkeypatch.setattr(CoModel, "hdn_loss", watched_hdn)
    monkeypatch.setattr(CoModel, "direct_loss", watched_direct)
    schedule = SCHEDULE.model_copy(update={"side_by_side": side_by_side})
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in train_steps(build(stack), [stack], schedule, max_steps=5):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)
    assert seen == {"hdn": {expected}, "direct": {expected}}


@pytest.mark.parametrize("ending", ["finished", "closed", "cancelled"])
def test_nothing_of_a_training_is_left_when_memory_is_given_back(
    stack: np.ndarray, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    learners: list[weakref.ref[CoModel]] = []
    left: list[bool] = []

    class Watched(CoTrainer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            learners.append(weakref.ref(self.learner))

    @contextmanager
    def giving_back(device: torch.device) -> Iterator[None]:
        try:
            yield
        finally:
            left.extend(learner() is not None for learner in learners)

    monkeypatch.setattr(loop, "CoTrainer", Watched)
    monkeypatch.setattr(loop, "reusing_memory", giving_back)
    stop: list[bool] = []
    steps = train_steps(build(stack), [stack], SCHEDULE, max_steps=20, cancelled=lambda: bool(stop))
    # the first optimizer of a process imports parts of torch, which keep the frames of that until the next collection
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    gc.disable()
    try:
        next(steps)
        stop += [True] if ending == "cancelled" else []
        if ending == "closed":
            steps.close()  # type: ignore[attr-defined]
        else:
            list(steps)
    finally:
        gc.enable()
    assert left == [False]


def test_a_time_limit_ends_training_and_time_outside_does_not_count(stack: np.ndarray) -> None:
    began, records = time.perf_counter(), []
    for record in train_steps(build(stack), [stack], SCHEDULE, max_minutes=0.5 / 60):
        records.append(record)
        time.sleep(0.3)  # more than the limit in all
    assert records[-1].stopped == "finished"
    assert records[-1].elapsed_seconds >= 0.5
    assert records[-1].elapsed_seconds <= time.perf_counter() - began - 0.3 * len(records)


def test_jumps_of_the_time_of_day_change_neither_the_budget_nor_the_time_left(
    stack: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = itertools.cycle((86_400.0, -86_400.0, 0.0))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(days))
    list(train_steps(build(stack), [stack], SCHEDULE, max_steps=1))  # the first step of a process prepares libraries
    began = time.perf_counter()
    records = list(train_steps(build(stack), [stack], SCHEDULE, max_minutes=0.5 / 60))
    assert 0.5 <= records[-1].elapsed_seconds <= time.perf_counter() - began
    assert len(records) > 2
    left = [record.remaining_seconds for record in records if record.remaining_seconds is not None]
    assert len(left) > 2
    assert 0 <= min(left) <= max(left) <= 0.5


def test_both_networks_learn(stack: np.ndarray) -> None:
    model, noisy, clean = build(stack), torch.from_numpy(stack[:, None]), torch.from_numpy(signal()).float()
    untrained = copy.deepcopy(model)
    fast = {"redrawn_every": 0, "validate_every": 50, "hdn_rate": 1e-3, "direct_rate": 1.5e-3}
    list(train_steps(model, [stack], SCHEDULE.model_copy(update=fast), max_steps=150))
    with torch.no_grad():
        losses = [float(m.hdn_loss(m.prepare(noisy)).loss) for m in (untrained, model)]
        errors = [float((m.direct(noisy) - clean).square().mean()) for m in (untrained, model)]
    assert losses[1] < losses[0] - 0.3
    assert errors[1] < 0.5 * errors[0]


def test_every_fourth_batch_of_hdn_has_noise_drawn_anew(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    learn = CoModel.hdn_loss

    def hdn_loss(model: CoModel, inputs: NetworkInput, *others: Any) -> HDNLoss:
        if model.training:
            seen.append(inputs.noisy)
        return learn(model, inputs, *others)

    monkeypatch.setattr(CoModel, "hdn_loss", hdn_loss)
    list(train_steps(build(stack), [stack], SCHEDULE, max_steps=12))
    real = np.unique(stack)
    drawn_anew = [not np.isin(batch.numpy(), real).all() for batch in seen]
    assert drawn_anew == [step > 0 and step % 4 == 0 for step in range(len(seen))]


def test_same_seed_gives_the_same_weights_and_another_seed_others(stack: np.ndarray) -> None:
    first, again, other = (run(stack, max_steps=5, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("steps", [1, 3])
def test_stopping_at_any_yield_leaves_a_usable_model(stack: np.ndarray, steps: int) -> None:
    model = build(stack)
    before = weights(model)
    progress = train_steps(model, [stack], SCHEDULE, max_steps=1000)
    list(itertools.islice(progress, steps))  # and the generator is left suspended, as napari's workers leave it
    assert not torch.equal(weights(model), before)
    assert not model.training
    with torch.no_grad():
        assert model.direct(torch.from_numpy(stack[:1, None])).isfinite().all()


def make_trainer(model: CoModel, stack: np.ndarray, schedule: ScheduleConfig) -> tuple[CoTrainer, Validator]:
    training, validation = (PatchSampler(parts, schedule.patch, 0) for parts in split([stack], schedule.patch))
    return CoTrainer(model, training, schedule, 0), Validator(model, validation, schedule)


def broken(network: torch.nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)


@pytest.mark.parametrize("wrecked", ["hdn", "unet"])
def test_each_network_keeps_its_best_weights_by_its_own_measure(stack: np.ndarray, wrecked: str) -> None:
    """One network gets worse and the other better: the first stays as it was, the second is replaced."""
    model = build(stack)
    trainer, validator = make_trainer(model, stack, SCHEDULE)
    for number in range(15):
        trainer.step(number / 150)
    assert validator.validate(trainer, 15) is None
    before = copy.deepcopy(model)
    for number in range(15, 60):
        trainer.step(number / 150)
    broken(getattr(trainer.average, wrecked), 3)
    assert validator.validate(trainer, 60) is None
    assert validator.best_step == 60
    for name in ("hdn", "unet"):
        same = [
            torch.equal(kept, old)
            for kept, old in zip(getattr(model, name).parameters(), getattr(before, name).parameters(), strict=True)
        ]
        assert all(same) if name == wrecked else not all(same)


def test_the_rates_of_the_plateau_schedule_are_halved_and_then_it_stops(stack: np.ndarray) -> None:
    frozen = PLATEAU.model_copy(update={"hdn_rate": 0.0, "direct_rate": 0.0, "stop_after": 4})
    _, records = run(stack, frozen, max_steps=100)
    assert records[-1].step == 5  # nothing learns, so the first validation stays the best
    assert records[-1].stopped == "no better validation since step 1"
    trainer, _ = make_trainer(build(stack), stack, PLATEAU)
    rates = []
    for loss in (1.0, 1.0, 1.0):
        trainer.optimizers.reduce_on_plateau(loss, loss)
        rates.append(trainer.optimizers.hdn.param_groups[0]["lr"])
    assert rates == pytest.approx([PLATEAU.hdn_rate, PLATEAU.hdn_rate / 2, PLATEAU.hdn_rate / 4])


def test_a_budget_is_used_whole_even_if_nothing_improves(stack: np.ndarray) -> None:
    idle = SCHEDULE.model_copy(update={"hdn_rate": 0.0, "direct_rate": 0.0, "validate_every": 1})
    _, records = run(stack, idle, max_steps=35)  # `paper` would stop after 30
    assert (records[-1].step, records[-1].stopped) == (35, "finished")


@pytest.mark.parametrize("preset", ["quick", "balanced"])
def test_presets_on_a_budget_never_stop_early(preset: Literal["quick", "balanced"]) -> None:
    assert PRESETS[preset].schedule.stop_after is None


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"max_minutes": -1.0}, {"max_minutes": 0.0}])
def test_a_budget_of_nothing_is_refused(stack: np.ndarray, limits: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=r"max_(steps|minutes)"):
        next(train_steps(build(stack), [stack], SCHEDULE, **limits))  # type: ignore[arg-type]


def test_the_random_state_of_the_caller_is_left_alone(stack: np.ndarray) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = run(stack, max_steps=12)[0]
    torch.manual_seed(7)
    assert torch.equal(torch.get_rng_state(), before)
    model = build(stack)
    torch.manual_seed(8)
    state = torch.get_rng_state()
    for _ in train_steps(model, [stack], SCHEDULE, max_steps=12):
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(3)  # what the caller draws meanwhile changes nothing
        state = torch.get_rng_state()
    assert torch.equal(weights(model), weights(first))


def test_dropout_draws_from_the_generator_of_the_training(stack: np.ndarray) -> None:
    gated = CONFIG.model_copy(update={"hdn": CONFIG.hdn.model_copy(update={"gated": True, "dropout": 0.2})})
    found = []
    for outside in (1, 2):
        noise = GaussianNoise(20.0)
        model = CoModel.initialized(gated, noise, Normalization.of([stack], gated.units, noise), 0)
        torch.manual_seed(outside)
        list(train_steps(model, [stack], SCHEDULE, max_steps=4))
        found.append(weights(model))
    assert torch.equal(*found)


def test_a_loss_that_is_not_a_number_stops_with_the_reason(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(stack)
    step, made = CoTrainer.step, []

    def failing(self: CoTrainer, fraction: float) -> torch.Tensor:
        losses = step(self, fraction)
        made.append(losses)
        return losses * (math.nan if len(made) > 15 else 1)

    monkeypatch.setattr(CoTrainer, "step", failing)
    last = list(train_steps(model, [stack], SCHEDULE, max_steps=500))[-1]
    assert last.stopped is not None
    assert "not a number" in last.stopped
    assert "kept the weights of step 10" in last.stopped
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_loss_that_is_never_a_number_is_an_error(stack: np.ndarray) -> None:
    model = build(stack)
    with torch.no_grad():
        next(model.hdn.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match="not a number at step"):
        list(train_steps(model, [stack], SCHEDULE, max_steps=50))


def test_hdn_is_frozen_in_the_last_part_of_the_budget(stack: np.ndarray) -> None:
    """Its best weights are kept and draw; the Direct Denoiser goes on, and is validated on the same pairs."""
    model = build(stack)
    schedule = SCHEDULE.model_copy(update={"student_only_fraction": 0.5, "ema_decay": 0.0, "validate_every": 8})
    hdn: list[torch.Tensor] = []
    unet: list[torch.Tensor] = []
    neg_elbos: set[float | None] = set()
    for record in train_steps(model, [stack], schedule, max_steps=80):
        if record.fraction > 0.55:
            hdn.append(torch.cat([p.detach().flatten() for p in model.hdn.parameters()]))
            unet.append(torch.cat([p.detach().flatten() for p in model.unet.parameters()]))
            neg_elbos.add(record.validation_neg_elbo)
    assert len(hdn) > 2
    assert all(torch.equal(each, hdn[0]) for each in hdn)
    assert not torch.equal(unet[0], unet[-1])
    assert len(neg_elbos) <= 2  # the best HDN is measured once more when it is frozen, and then no more


def test_while_hdn_is_frozen_its_best_weights_draw_and_the_reported_loss_stays(stack: np.ndarray) -> None:
    model = build(stack)
    trainer, validator = make_trainer(model, stack, SCHEDULE)
    for number in range(30):
        trainer.step(number / 100)
    validator.validate(trainer, 30)
    trainer.freeze_hdn(model)
    reported = torch.stack([trainer.step(0.7)[:2] for _ in range(3)])
    assert torch.equal(reported, reported[:1].expand(3, 2))
    for each in (trainer.learner, trainer.average, trainer.targets.teacher):
        for found, best in zip(each.hdn.parameters(), model.hdn.parameters(), strict=True):
            torch.testing.assert_close(found, best, rtol=0, atol=0)


def test_targets_are_part_sample_and_part_own_prediction_with_noise_drawn_anew(stack: np.ndarray) -> None:
    model = build(stack)
    targets = StudentTargets(model, 0.25, resample_noise=True)
    inputs = model.prepare(torch.from_numpy(stack[:, None]))
    sample = torch.full_like(inputs.noisy, 250.0)
    made, clean = targets.pair(inputs, sample, torch.Generator().manual_seed(0))
    torch.testing.assert_close(clean, 0.75 * sample + 0.25 * model.direct(inputs.noisy).detach())
    assert not clean.requires_grad
    noise = made.noisy - clean
    assert noise.std() == pytest.approx(20, rel=0.02)
    assert torch.corrcoef(torch.stack([noise.flatten(), (inputs.noisy - clean).flatten()]))[0, 1].abs() < 0.05


@pytest.mark.parametrize("structured", [True, False])
def test_the_paper_and_structured_noise_pair_a_sample_with_its_own_image(stack: np.ndarray, structured: bool) -> None:
    config = CONFIG.model_copy(update={"hdn": CONFIG.hdn.model_copy(update={"structured": structured})})
    noise = GaussianNoise(20.0)
    model = CoModel.initialized(config, noise, Normalization.of([stack], config.units, noise), 0)
    schedule = SCHEDULE if structured else PRESETS["paper"].schedule.model_copy(update={"patch": 16})
    trainer, _ = make_trainer(model, stack, schedule)
    inputs = model.prepare(torch.from_numpy(stack[:, None]))
    sample = torch.zeros_like(inputs.noisy)
    made, clean = trainer.targets.pair(inputs, sample, trainer.generator)
    assert made is inputs
    assert clean is sample


@pytest.mark.parametrize("network", ["hdn", "unet"])
def test_out_of_memory_is_met_with_fewer_patches_at_a_time_and_said_once(
    stack: np.ndarray, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with room for one patch."""
    model = build(stack)
    kind, met = type(getattr(model, network)), []
    begins = "encode" if network == "hdn" else "forward"
    forward = getattr(kind, begins)

    def cramped(self: torch.nn.Module, x: torch.Tensor, *args: Any) -> object:
        if torch.is_grad_enabled() and len(x) > 1:
            met.append(len(x))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, *args)

    monkeypatch.setattr(kind, begins, cramped)
    with pytest.warns(UserWarning, match="fewer patches at a time") as said:
        records = list(train_steps(model, [stack], SCHEDULE, max_steps=12))
    assert met == [4, 2]
    assert len(said) == 1
    assert records[-1].step == 12


@pytest.mark.parametrize("blocks", [{}, {"gated": True, "dropout": 0.2}], ids=["plain", "batch norm"])
def test_a_step_that_begins_anew_after_out_of_memory_is_as_if_it_had_begun_so(
    stack: np.ndarray, blocks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out when a part of the batch has passed HDN."""
    hdn = CONFIG.hdn.model_copy(update=blocks)
    monkeypatch.setitem(globals(), "CONFIG", CONFIG.model_copy(update={"hdn": hdn}))
    schedule = SCHEDULE.model_copy(update={"batch": 8})
    expected = run(stack, schedule.model_copy(update={"micro_batch": 2}), max_steps=12)[0].state_dict()
    model, calls = build(stack), list[int]()
    encode = type(model.hdn).encode

    def cramped(self: torch.nn.Module, x: torch.Tensor) -> object:
        if torch.is_grad_enabled():
            calls.append(len(x))
            if len(calls) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, x)

    monkeypatch.setattr(type(model.hdn), "encode", cramped)
    with pytest.warns(UserWarning, match="fewer patches at a time"):
        list(train_steps(model, [stack], schedule, max_steps=12))
    assert calls[:4] == [4, 4, 2, 2]
    found = model.state_dict()
    assert any("running" in name for name in found) == bool(blocks)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_no_memory_for_one_patch_is_an_error_that_says_so(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(stack)

    def full(self: torch.nn.Module, x: torch.Tensor) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(type(model.unet), "forward", full)
    with pytest.warns(UserWarning, match="Out of memory"), pytest.raises(TrainingError, match="one patch at a time"):
        list(train_steps(model, [stack], SCHEDULE, max_steps=2))


def test_a_training_with_the_second_head_gives_the_same_direct_prediction(
    stack: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = SCHEDULE.model_copy(update={"student_only_fraction": 0.5})  # both kinds of steps
    without = run(stack, schedule, max_steps=20)[0]
    direct = CONFIG.direct.model_copy(update={"std": True})
    monkeypatch.setitem(globals(), "CONFIG", CONFIG.model_copy(update={"direct": direct}))
    both = run(stack, schedule, max_steps=20)[0]
    noisy = torch.from_numpy(stack[:1, None])
    with torch.no_grad():
        found, std = both.direct_with_std(noisy)
        assert torch.equal(found, without.direct(noisy))
        assert torch.equal(both.direct(noisy), found)
    assert float(std.std()) > 0  # the head has learned something
