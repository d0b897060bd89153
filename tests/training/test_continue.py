"""Training further what was trained before, and ending it within a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser import Denoiser, SettingError, TrainingError, TrainSettings, load, train
from napari_direct_denoiser.data.synthetic import simulate

pytestmark = pytest.mark.usefixtures("small_networks")
NOISE = "poisson:2,100,3"


@pytest.fixture(scope="module")
def stack():
    return simulate(planes=8, size=96, seed=0)


@pytest.fixture(scope="module")
def trained(stack, small_networks):
    return train(stack.noisy, preset="quick", noise=NOISE, max_steps=15, device="cpu")


def weights(denoiser):
    return torch.cat([parameter.flatten() for parameter in denoiser.model.parameters()]).clone()


def validation(denoiser):
    return denoiser.provenance.history[-1].validation_neg_elbo


@pytest.mark.slow
def test_more_training_makes_a_copy_that_is_as_good_or_better(stack, trained):
    before = weights(trained)
    copy = trained.continued(stack.noisy, max_steps=30, device="cpu")
    records = list(copy.train_steps())
    assert torch.equal(weights(trained), before)
    assert copy.provenance.steps == records[-1].step == records[-1].total_steps == 45
    assert copy.provenance.seconds > trained.provenance.seconds
    assert copy.provenance.history[: len(trained.provenance.history)] == trained.provenance.history
    assert copy.provenance.settings.max_steps == 30
    of_hdn = {"hdn_scale": 1.0, "hdn_shift": 0.0}  # follow its weights
    kept, before_it = (each.model.normalization.model_copy(update=of_hdn) for each in (copy, trained))
    assert kept == before_it
    assert copy.model.noise.document() == trained.model.noise.document()
    assert copy.noise_fit is not None
    error, worse = (np.mean((each.denoise(stack.noisy) - stack.truth) ** 2) for each in (copy, trained))
    assert error < 1.005 * worse


def test_training_that_makes_it_worse_leaves_the_weights_as_they_were(stack, trained):
    copy = trained.continued(stack.noisy, max_steps=4, device="cpu")
    steps = copy.train_steps()
    first = next(steps)
    assert first.validation_neg_elbo is not None  # measured before the first step
    assert torch.equal(weights(copy), weights(trained))
    steps.close()


def test_a_loaded_model_is_trained_further_on_other_images(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    other = simulate(planes=3, size=80, seed=1).noisy
    copy = load(tmp_path / "model.safetensors").continued([other, other[:1]], "TYX", max_steps=2, device="cpu")
    for _ in copy.train_steps():
        pass
    copy.save(tmp_path / "more.safetensors")
    assert load(tmp_path / "more.safetensors").provenance.steps == 17


def test_what_cannot_be_trained_further_is_refused(stack, trained):
    with pytest.raises(TrainingError, match="continued"):
        next(trained.train_steps())  # its images were let go
    with pytest.raises(SettingError, match=r"Device (mps|cuda) is not available"):
        trained.continued(stack.noisy, device="mps" if not torch.backends.mps.is_available() else "cuda")


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"max_minutes": -1}])
def test_a_budget_of_nothing_is_refused(stack, trained, limits):
    with pytest.raises(SettingError, match=r"max_(steps|minutes).*greater than"):
        trained.continued(stack.noisy, device="cpu", **limits)


@pytest.mark.parametrize("preset", ["quick", "balanced"])
def test_a_cancelled_step_is_left_undone(stack, preset):
    denoiser = Denoiser.for_images(stack.noisy, TrainSettings(preset=preset, noise=NOISE, device="cpu", max_steps=50))
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > 3

    before = weights(denoiser)
    assert list(denoiser.train_steps(cancelled)) == []
    assert len(asked) < 10  # at once, though both networks ask
    assert torch.equal(weights(denoiser), before)
