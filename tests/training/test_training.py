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
from typing import Any

import numpy as np
import pytest
import torch

from napari_direct_denoiser import training
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import PRESETS, HDNConfig, ModelConfig, ScheduleConfig, UNetConfig
from napari_direct_denoiser.errors import TrainingError
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.progress import TrainingProgress
from napari_direct_denoiser.training.co_trainer import Run
from napari_direct_denoiser.training.loop import train_steps

CONFIG = ModelConfig(
    hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False),
    units="noise",
)
SCHEDULE = PRESETS["quick"].schedule.model_copy(
    update={"patch": 16, "batch": 4, "micro_batch": 4, "validate_every": 10}
)
PLATEAU = SCHEDULE.model_copy(update={"anneal": "plateau", "averaging": 0.0, "patience": 0, "validate_every": 1})


def signal() -> np.ndarray:
    y, x = np.mgrid[:48, :48]
    return np.asarray(200 + 60 * np.sin(x / 2.5) * np.cos(y / 3.5))


@pytest.fixture
def stack(rng: np.random.Generator) -> np.ndarray:
    return (signal() + rng.normal(0, 20, (8, 48, 48))).astype(np.float32)


def build(stack: np.ndarray) -> CoModel:
    torch.manual_seed(0)
    noise = GaussianNoise(20.0)
    return CoModel(CONFIG, noise, Normalization.of([stack], CONFIG.units, noise)).eval()


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

    class Watched(training.Run):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            learners.append(weakref.ref(self.learner))

    @contextmanager
    def giving_back(device: torch.device) -> Iterator[None]:
        try:
            yield
        finally:
            left.extend(learner() is not None for learner in learners)

    monkeypatch.setattr(training, "Run", Watched)
    monkeypatch.setattr(training, "reusing_memory", giving_back)
    stop: list[bool] = []
    steps = train_steps(build(stack), [stack], SCHEDULE, max_steps=20, cancelled=lambda: bool(stop))
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


def test_both_networks_learn(stack: np.ndarray) -> None:
    model, noisy, clean = build(stack), torch.from_numpy(stack[:, None]), torch.from_numpy(signal()).float()
    untrained = copy.deepcopy(model)
    list(train_steps(model, [stack], SCHEDULE, max_steps=300))
    with torch.no_grad():
        losses = [float(m.hdn_loss(m.prepare(noisy)).loss) for m in (untrained, model)]
        errors = [float((m.direct(noisy) - clean).square().mean()) for m in (untrained, model)]
    assert losses[1] < losses[0] - 0.3
    assert errors[1] < 0.5 * errors[0]


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


def test_the_best_validated_weights_are_kept(stack: np.ndarray) -> None:
    """A learning rate that wrecks the network after the first validation must not reach the model."""
    model = build(stack)
    progress = train_steps(model, [stack], PLATEAU.model_copy(update={"validate_every": 40}), max_steps=80)
    state: dict[str, torch.Tensor] = {}
    for record in progress:
        if record.step >= 40 and not state:
            state = copy.deepcopy(model.state_dict())
            assert progress.gi_frame is not None  # type: ignore[attr-defined]
            learner = progress.gi_frame.f_locals["run"].learner  # type: ignore[attr-defined]
            with torch.no_grad():
                for p in learner.parameters():
                    p.mul_(3)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_plateau_halves_the_rates_and_then_stops(stack: np.ndarray) -> None:
    frozen = PLATEAU.model_copy(update={"hdn_rate": 0.0, "direct_rate": 0.0, "stop_after": 4})
    _, records = run(stack, frozen, max_steps=100)
    assert records[-1].step == 5  # nothing learns, so the first validation stays the best
    assert records[-1].stopped == "no better validation since step 1"
    rates = []
    progress = train_steps(build(stack), [stack], PLATEAU, max_steps=400)
    for _ in progress:
        rates.append(progress.gi_frame.f_locals["run"].hdn_optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]
    assert min(rates) < SCHEDULE.hdn_rate
    assert all(math.isclose(math.log2(SCHEDULE.hdn_rate / rate) % 1, 0, abs_tol=1e-6) for rate in rates)


def test_a_loss_that_is_not_a_number_stops_with_the_reason(stack: np.ndarray) -> None:
    model = build(stack)
    progress = train_steps(model, [stack], SCHEDULE, max_steps=500)
    good: dict[str, torch.Tensor] = {}
    for record in progress:
        if record.step >= 10 and not good:
            good = copy.deepcopy(model.state_dict())
            learner = progress.gi_frame.f_locals["run"].learner  # type: ignore[attr-defined]
            with torch.no_grad():
                next(learner.hdn.parameters()).fill_(math.nan)
        last = record
    assert last.stopped is not None
    assert "not a number" in last.stopped
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_loss_that_is_never_a_number_is_an_error(stack: np.ndarray) -> None:
    model = build(stack)
    with torch.no_grad():
        next(model.hdn.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match="not a number at step"):
        list(train_steps(model, [stack], SCHEDULE, max_steps=50))


def test_hdn_rests_in_the_last_part_of_the_budget(stack: np.ndarray) -> None:
    schedule = SCHEDULE.model_copy(update={"student_only_fraction": 0.5, "averaging": 0.0})
    progress = train_steps(build(stack), [stack], schedule, max_steps=200)
    rested: torch.Tensor | None = None
    for record in progress:
        hdn = progress.gi_frame.f_locals["run"].learner.hdn if progress.gi_frame else None  # type: ignore[attr-defined]
        if hdn is not None and record.fraction > 0.55:
            found = torch.cat([p.detach().flatten() for p in hdn.parameters()])
            rested = found if rested is None else rested
            assert torch.equal(found, rested)
    assert rested is not None


def test_what_the_direct_denoiser_learns_is_part_drawn_and_part_its_own_with_noise_drawn_anew(
    stack: np.ndarray,
) -> None:
    model = build(stack)
    learning = Run(model, [stack], SCHEDULE.model_copy(update={"self_target_weight": 0.25}), 0)
    seen = model.prepare(torch.from_numpy(stack[:, None]))
    drawn = torch.full_like(seen.noisy, 250.0)
    made, clean = learning._pair(seen, drawn)
    torch.testing.assert_close(clean, 0.75 * drawn + 0.25 * learning.average.direct(seen.noisy))
    assert not clean.requires_grad
    noise = made.noisy - clean
    assert noise.std() == pytest.approx(20, rel=0.02)
    assert torch.corrcoef(torch.stack([noise.flatten(), (seen.noisy - clean).flatten()]))[0, 1].abs() < 0.05


def test_the_paper_learns_what_was_drawn_for_the_image_itself(stack: np.ndarray) -> None:
    model = build(stack)
    learning = Run(model, [stack], PRESETS["paper"].schedule.model_copy(update={"patch": 16}), 0)
    seen = model.prepare(torch.from_numpy(stack[:, None]))
    drawn = torch.zeros_like(seen.noisy)
    made, clean = learning._pair(seen, drawn)
    assert made is seen
    assert clean is drawn


def test_while_hdn_rests_what_is_learned_and_validated_with_stays(stack: np.ndarray) -> None:
    schedule = SCHEDULE.model_copy(update={"student_only_fraction": 0.8})
    learning = Run(build(stack), [stack], schedule, 0)
    teachers, pairs, unets = [], [], []
    for number in range(100):
        learning.step(number / 100)
        if number % 10 == 9:
            learning.validate(number)
        if number in (59, 99):
            teachers.append(weights(learning.teacher))
            pairs.append(torch.cat([clean for _, clean in learning.held_out]))
            unets.append(next(learning.average.unet.parameters()).detach().clone())
    torch.testing.assert_close(*teachers, rtol=0, atol=0)
    torch.testing.assert_close(*pairs, rtol=0, atol=0)
    assert not torch.equal(*unets)
    assert learning.best is not None
    assert math.isfinite(learning.best[1])
    for model in (learning.model, learning.average):  # what is kept draws as the teacher does
        for kept, teaching in zip(model.hdn.parameters(), learning.teacher.hdn.parameters(), strict=True):
            torch.testing.assert_close(kept, teaching, rtol=0, atol=0)


@pytest.mark.parametrize("network", ["hdn", "unet"])
def test_out_of_memory_is_met_with_fewer_patches_at_a_time_and_said_once(
    stack: np.ndarray, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with room for one patch."""
    model = build(stack)
    kind, met = type(getattr(model, network)), []
    forward = kind.forward

    def cramped(self: torch.nn.Module, x: torch.Tensor) -> object:
        if torch.is_grad_enabled() and len(x) > 1:
            met.append(len(x))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(kind, "forward", cramped)
    with pytest.warns(UserWarning, match="fewer patches at a time") as said:
        records = list(train_steps(model, [stack], SCHEDULE, max_steps=12))
    assert met == [4, 2]
    assert len(said) == 1
    assert records[-1].step == 12


def test_no_memory_for_one_patch_is_an_error_that_says_so(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(stack)

    def full(self: torch.nn.Module, x: torch.Tensor) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(type(model.unet), "forward", full)
    with pytest.warns(UserWarning, match="Out of memory"), pytest.raises(TrainingError, match="one patch at a time"):
        list(train_steps(model, [stack], SCHEDULE, max_steps=2))
