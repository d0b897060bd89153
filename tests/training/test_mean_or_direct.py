"""Whether the direct pass or the mean of samples is better is found without the truth, and told by the model file."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from napari_direct_denoiser import load
from napari_direct_denoiser.config import DenoiseSettings, TrainSettings, train_settings
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.progress import SAMPLES_OF_MEAN, best_result, mean_words
from napari_direct_denoiser.training.calibrate import calibrate
from napari_direct_denoiser.training.mean_or_direct import AgainstMean, direct_over_mean
from napari_direct_denoiser.training.provenance import Provenance, Record, summary

STACK = simulate(planes=2, size=128, seed=4)


@pytest.fixture(scope="module")
def untrained() -> Denoiser:
    return Denoiser.for_images(STACK.noisy, TrainSettings(noise="poisson:2,100,3", device="cpu"))


@pytest.mark.usefixtures("all_pixels_measured")
@pytest.mark.parametrize("spoiled", [False, True], ids=["pretrained", "direct pass spoiled"])
def test_the_gain_over_the_mean_is_the_true_one(untrained: Denoiser, spoiled: bool) -> None:
    denoiser = copy.deepcopy(untrained)
    model = denoiser.model
    if spoiled:
        with torch.no_grad():
            for parameter in model.unet.parameters():
                parameter.zero_()  # what is left is a blur
    model.calibration, against = calibrate(model, [Frames(STACK.noisy)])
    found = direct_over_mean(against)
    assert found is not None
    few = STACK.noisy[:, :, :64]
    direct, mean = denoiser.denoise(few), denoiser.posterior_mean(few, SAMPLES_OF_MEAN)
    errors = [float(np.mean((each - STACK.truth[:, :, :64]) ** 2)) for each in (direct, mean)]
    assert found.db == pytest.approx(10 * math.log10(errors[1] / errors[0]), abs=0.7)
    assert best_result(None, *found) == ("mean" if spoiled else "direct")


@pytest.mark.usefixtures("all_pixels_measured")
def test_frames_of_a_static_scene_tell_the_difference(untrained: Denoiser) -> None:
    model = untrained.model
    truth = np.repeat(STACK.truth[:1], 3, 0)
    noise = np.random.default_rng(0).normal(size=truth.shape) * np.sqrt(2 * (truth - 100).clip(0) + 9)
    noise[1:] *= 0.1  # only the first is denoised; so the others tell more
    scene = torch.from_numpy((truth + noise).astype(np.float32))[:, None]
    with torch.no_grad():
        found = AgainstMean.of(model, scene, seed=0)
        direct = model.direct(scene[:1])[..., 8:-8, 8:-8]
    inner = torch.from_numpy(truth[0])[8:-8, 8:-8]
    true = float((found.mean - inner).square().mean() - (direct - inner).square().mean() - found.variance.mean() / 8)
    assert float(found.worse.mean()) == pytest.approx(true, rel=0.2)
    assert found.unknown == 0.0  # no noise model is needed


def test_the_mean_is_that_of_as_many_samples_as_denoise_draws() -> None:
    assert DenoiseSettings().samples == SAMPLES_OF_MEAN


@pytest.mark.parametrize(
    ("gain", "over_mean", "error", "best"),
    [
        (1.0, None, None, "direct"),
        (1.0, 0.3, 0.05, "direct"),
        (1.0, -0.3, 0.05, "mean"),
        (1.0, -0.3, 0.2, "direct"),  # not for sure
        (1.0, -0.08, 0.01, "direct"),  # for sure, but it would hardly show
        (-0.5, -0.3, 0.05, "blur"),  # better than the direct pass, worse than the blur
        (-0.2, -0.3, 0.05, "mean"),
        (-0.2, None, None, "blur"),
    ],
)
def test_the_mean_is_recommended_only_if_it_is_better_for_sure(
    gain: float, over_mean: float | None, error: float | None, best: str
) -> None:
    assert best_result(gain, over_mean, error) == best
    assert (mean_words(gain, over_mean, error) is None) == (best != "mean")


def test_the_model_file_tells_what_to_use(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = train_settings(max_steps=1, noise="poisson:2,100,3", device="cpu")
    denoiser = Denoiser.for_images(STACK.noisy, settings)
    last = list(denoiser.train_steps())[-1]
    assert last.estimated_over_mean_db is not None
    denoiser.save(tmp_path / "m.safetensors")
    kept = load(tmp_path / "m.safetensors").provenance
    assert kept.history[-1].estimated_over_mean_db == last.estimated_over_mean_db
    assert (kept.best, kept.advice) == ("direct", "")
    gains = {"estimated_gain_db": 1.0, "estimated_over_mean_db": -0.4, "estimated_over_mean_error_db": 0.1}
    record = Record.model_validate({**kept.history[-1].model_dump(), **gains})
    better = kept.model_copy(update={"history": (record,)})
    assert (
        better.advice
        == "The mean of 50 samples is an estimated 0.40 dB (standard error 0.10) better than the direct pass"
    )
    assert summary(denoiser.model, better)["recommended"] == "mean"


def test_a_file_of_an_earlier_version_recommends_the_direct_pass() -> None:
    old = {"step": 1, "seconds": 1.0, "neg_elbo": 1.0, "direct_loss": 1.0}
    record = Record.model_validate({**old, "validation_neg_elbo": None, "validation_direct_loss": None})
    assert Provenance.begun(train_settings(), "TYX").best == "direct"
    assert Provenance.begun(train_settings(), "TYX").model_copy(update={"history": (record,)}).best == "direct"
