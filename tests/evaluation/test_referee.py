"""The referee: its gain is the true one, it finds the best blur, and it refuses a noise model that is wrong."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.evaluation.referee import EstimatedGain, referee_steps
from napari_direct_denoiser.noise import NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.progress import drain

STACK = simulate(planes=3, size=128, seed=1)


@pytest.fixture(scope="module")
def model() -> CoModel:
    """The weights that come with the package, not trained further."""
    return Denoiser.for_images(STACK.noisy, TrainSettings(noise="poisson:2,100,3", device="cpu")).model


def judged(model: CoModel, planes: np.ndarray, noise: NoiseModel | None = None, step: int = 1) -> EstimatedGain:
    model = copy.deepcopy(model)
    model.noise = noise or model.noise
    return drain(referee_steps(model, Frames(planes, step)))


def true_error(estimate: np.ndarray, truth: np.ndarray = STACK.truth) -> float:
    return float(np.mean((estimate - truth.astype(np.float64)) ** 2))


def direct(model: CoModel, planes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.direct(torch.from_numpy(planes.astype(np.float32))[:, None])[:, 0].numpy()


def true_gain(model: CoModel, planes: np.ndarray, sigma: float, truth: np.ndarray = STACK.truth) -> float:
    blurred = gaussian_filter(planes.astype(np.float64), (0, sigma, sigma))
    return 10 * math.log10(true_error(blurred, truth) / true_error(direct(model, planes), truth))


def test_the_gain_and_the_best_blur_are_the_true_ones(model: CoModel) -> None:
    found = judged(model, STACK.noisy)
    assert found.why is None
    assert found.gain_db is not None
    assert found.error_db is not None
    assert found.blur_sigma is not None
    true = true_gain(model, STACK.noisy, found.blur_sigma)
    assert found.gain_db == pytest.approx(true, abs=min(3 * found.error_db, 0.6))
    sigmas = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    best = min(sigmas, key=lambda sigma: true_gain(model, STACK.noisy, sigma))
    assert abs(found.blur_sigma - best) <= 0.25
    assert found.best == "direct"
    assert f"sigma {found.blur_sigma:g}" in found.words


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_a_gain_of_the_camera_that_is_wrong_is_refused(model: CoModel, factor: float) -> None:
    found = judged(model, STACK.noisy, PoissonGaussianNoise(2.0 * factor, 100.0, 3.0 * factor**0.5))
    assert (found.gain_db, found.error_db, found.best) == (None, None, None)
    assert found.why is not None
    assert "variance of the noise" in found.why
    assert found.why in found.words


def test_noise_that_neighbours_share_is_refused_by_a_model_of_white_noise(model: CoModel) -> None:
    rng = np.random.default_rng(0)
    drawn = lfilter([math.sqrt(0.75)], [1.0, -0.5], rng.normal(size=STACK.truth.shape))
    noisy = STACK.truth + drawn * np.sqrt(2 * (STACK.truth - 100) + 9)
    found = judged(model, noisy.astype(np.float32))
    assert found.why is not None
    assert "share noise along x" in found.why


def test_clipped_images_are_refused(model: CoModel) -> None:
    found = judged(model, np.maximum(STACK.noisy, 104))
    assert found.why is not None
    assert "clipped" in found.why


def test_structured_noise_is_not_judged_by_the_noise_model(model: CoModel) -> None:
    other = copy.deepcopy(model)
    hdn = other.config.hdn.model_copy(update={"structured": True})
    other.config = other.config.model_copy(update={"hdn": hdn})
    found = judged(other, STACK.noisy)
    assert found.why is not None
    assert "Structured noise" in found.why


@pytest.mark.parametrize("drift", [0.0, 0.2], ids=["steady lamp", "lamp that drifts"])
def test_frames_of_a_static_scene_judge_by_themselves_whatever_the_noise_model_says(
    model: CoModel, drift: float
) -> None:
    rng = np.random.default_rng(1)
    light = (STACK.truth[:1] - 100) * (1 + drift * np.cos(np.arange(5)))[:, None, None]
    truth = (100 + light).astype(np.float32)
    frames = (100 + 2 * rng.poisson((truth - 100) / 2) + rng.normal(0, 3, truth.shape)).astype(np.float32)
    found = judged(model, frames, PoissonGaussianNoise(1.0, 100.0, 0.0))
    assert found.gain_db is not None
    assert found.error_db is not None
    assert found.blur_sigma is not None
    wrong = copy.deepcopy(model)
    wrong.noise = PoissonGaussianNoise(1.0, 100.0, 0.0)
    true = true_gain(wrong, frames, found.blur_sigma, truth)
    assert found.gain_db == pytest.approx(true, abs=0.3)


def test_a_model_that_only_blurs_is_no_better_than_a_blur_and_it_is_said(model: CoModel) -> None:
    weak = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in weak.unet.parameters():
            parameter.zero_()  # what is left is the blur that it starts from
    found = judged(weak, STACK.noisy)
    assert found.best == "blur"
    assert "blur would do" in found.words


def test_the_mean_of_samples_is_judged_as_well(model: CoModel) -> None:
    planes = STACK.noisy[:1, :64, :64]
    found = drain(referee_steps(model, Frames(planes), samples=2))
    assert found.over_mean_db is not None
    assert found.over_mean_db > 0
    assert found.best == "direct"


def test_where_a_blur_is_best_it_is_said() -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(2, 128, 128)), (0, 2, 2))  # whose best estimate is nearly a blur
    truth = 140 + 6 * smooth / smooth.std()
    noisy = (100 + 2 * rng.poisson((truth - 100) / 2) + rng.normal(0, 3, truth.shape)).astype(np.float32)
    settings = TrainSettings(noise="poisson:2,100,3", device="cpu")
    found = judged(Denoiser.for_images(noisy, settings).model, noisy, step=len(noisy))
    assert found.blur_sigma is not None
    assert found.gain_db == pytest.approx(0, abs=0.1)
    assert "the blur would do" in found.words
