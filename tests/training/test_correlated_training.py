"""Training on noise that neighbours share: found by itself, removed before training already, and HDN stays unbiased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from napari_direct_denoiser import load
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.data.patches import PatchSampler
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.evaluation.metrics import psnr
from napari_direct_denoiser.noise import CorrelatedNoise, PoissonGaussianNoise, ScaledCorrelatedNoise
from napari_direct_denoiser.noise.wrapped import without_whole_planes

Images = NDArray[np.float32]


def stack(along_x: float, along_y: float) -> tuple[Images, Images]:
    """Noisy planes and their truth: variance 2 (s - 100) + 9, as AR(1) along both axes."""
    truth = simulate(planes=4, size=128, seed=3).truth
    noise = np.random.default_rng(0).normal(size=(*truth.shape[:1], 160, 160))
    for axis, share in ((-1, along_x), (-2, along_y)):
        noise = lfilter([np.sqrt(1 - share**2)], [1, -share], noise, axis)
    noise = noise[:, 32:, 32:]  # after its start, the process is stationary
    noisy = truth + noise * np.sqrt(2 * (truth - 100) + 9)
    return noisy.astype(np.float32), truth


def mean_psnr(images: Images, truth: Images) -> float:
    return float(np.mean([psnr(*pair) for pair in zip(images, truth, strict=True)]))


@pytest.mark.parametrize("along", [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)], ids=["x", "y", "both"])
def test_before_training_the_direct_pass_is_above_every_blur(along: tuple[float, float]) -> None:
    noisy, truth = stack(*along)
    denoiser = Denoiser.for_images(noisy, TrainSettings(device="cpu"))
    assert isinstance(denoiser.model.noise, CorrelatedNoise)
    blurs = [mean_psnr(gaussian_filter(noisy, (0, sigma, sigma)), truth) for sigma in np.arange(0.5, 5, 0.25)]
    assert mean_psnr(denoiser.denoise(noisy), truth) > max(blurs)


@pytest.mark.slow
def test_training_keeps_hdn_unbiased_and_the_file_holds_its_correction(tmp_path: Path) -> None:
    noisy, truth = stack(0.5, 0.0)
    denoiser = Denoiser.for_images(noisy, TrainSettings(max_steps=30, device="cpu"))
    before = mean_psnr(denoiser.denoise(noisy), truth)
    for _ in denoiser.train_steps():
        pass
    direct = mean_psnr(denoiser.denoise(noisy), truth)
    mean = denoiser.posterior_mean(noisy, n=20)
    assert direct > before - 0.1
    assert mean_psnr(mean, truth) > direct - 1.9
    assert float(mean.mean()) == pytest.approx(float(truth.mean()), abs=0.5)
    denoiser.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", device="cpu")
    assert again.model.normalization == denoiser.model.normalization
    assert again.model.normalization.hdn_shift != 0
    np.testing.assert_array_equal(again.posterior_mean(noisy[:1], n=2), denoiser.posterior_mean(noisy[:1], n=2))


@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "filtered"])
def test_the_kind_of_correlated_noise_is_found(scaled: bool) -> None:
    """Noise that the signal scales after it was correlated, against photons that a slow detector counted."""
    shape, random = (2, 256, 256), np.random.default_rng(0)
    cells = np.kron(random.random((2, 32, 32)) < 0.5, np.ones((8, 8)))
    light = gaussian_filter(4 + 200 * cells, (0, 1, 1))  # counts
    if scaled:
        noisy = 100 + light + lfilter([0.8], [1, -0.6], random.normal(size=shape)) * np.sqrt(20 * light + 9)
    else:
        noisy = lfilter([0.4], [1, -0.6], 100 + 40 * random.poisson(light / 40)) + random.normal(size=shape)
    denoiser = Denoiser.for_images(noisy.astype(np.float32), TrainSettings(device="cpu"))
    assert type(without_whole_planes(denoiser.model.noise)) is (ScaledCorrelatedNoise if scaled else CorrelatedNoise)
    assert denoiser.noise_fit is not None
    assert denoiser.noise_fit.model is denoiser.model.noise


def test_patches_of_a_bidirectional_scan_begin_at_even_rows(
    monkeypatch: pytest.MonkeyPatch, small_networks: None
) -> None:
    """HDN's likelihood would else take each row in the wrong direction; the sampler is that of the whole course."""
    truth = simulate(planes=4, size=97, seed=3).truth
    truth = torch.from_numpy(20 * (truth - truth.min() + 1)).float()
    model = CorrelatedNoise(PoissonGaussianNoise(20.0, 0.0, 5.0, 1.2), [[0.5, 0.0, 0.0]], "odd")
    noisy = model.sample(truth, torch.Generator().manual_seed(0)).numpy()
    drawn = []
    draw = PatchSampler.draw

    def watched(sampler: PatchSampler, count: int, *args: int) -> torch.Tensor:
        patches = draw(sampler, count, *args)
        drawn.extend(patches[:, 0].numpy())
        return patches

    monkeypatch.setattr(PatchSampler, "draw", watched)
    denoiser = Denoiser.for_images(noisy, TrainSettings(max_steps=3, device="cpu"), noise=model)
    for _ in denoiser.train_steps():
        pass
    assert denoiser.model.noise.document() == model.document()
    margin = model.margin
    assert len(drawn) >= 20  # training and validation
    for patch in drawn:
        inside = [each[margin:-margin, margin:-margin] for each in (patch, patch[::-1, ::-1])]
        places = [np.argwhere(noisy[:, :-63, :-63] == each[0, 0]) for each in inside]
        found = [
            y
            for each, at in zip(inside, places, strict=True)
            for plane, y, x in at
            if np.array_equal(noisy[plane, y : y + 64, x : x + 64], each)
        ]
        assert len(found) == 1
        assert found[0] % 2 == 0
