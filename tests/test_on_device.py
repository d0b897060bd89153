"""All outputs of a training and of a prediction, on a GPU if there is one, and on a device that is only pretended."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretend_device import There, pretended_device
from small import QUICK

from napari_direct_denoiser import Denoiser, TrainSettings, load
from napari_direct_denoiser.config import Device
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import MixtureNoise, NoiseModel
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import drain

OUTPUTS: tuple[Output, ...] = ("direct", "std", "mean", "median", "sample_std", "sample")


@pytest.fixture(scope="module")
def noisy() -> NDArray[np.uint16]:
    return simulate(planes=2, size=64, seed=1).noisy


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_direct_denoiser.training.validation._PATCHES", 2)


def noise() -> NoiseModel:
    """With buffers, and whitened."""
    weight = [[0.1, 0.3], [-0.2, 0.1], [2.0, 5.0], [3.0, 4.0], [0.5, 0.0], [0.0, 0.7]]
    mixture = MixtureNoise(torch.tensor(weight), 40.0, 300.0, 4.0)
    return CorrelatedNoise(mixture, [[0.1, 0.2, 0.05], [0.2, 0.0, 0.0]])


@pytest.mark.on_device
def test_all_outputs_of_a_trained_model_are_repeated_from_its_file(noisy: NDArray[np.uint16], tmp_path: Path) -> None:
    device: Device = os.environ.get("DIRECT_DENOISER_TEST_DEVICE", "cpu")  # type: ignore[assignment]
    denoiser = Denoiser.for_images(noisy, TrainSettings(max_steps=3, device=device), noise=noise())
    list(denoiser.train_steps())
    assert next(denoiser.model.parameters()).device.type == device
    denoiser.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", device)
    found, repeated = (drain(each.denoise_steps(noisy, OUTPUTS, samples=3, seed=4)) for each in (denoiser, again))
    for name, values in found.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(repeated[name], values)


def test_nothing_mixes_devices_and_no_step_waits_for_one(
    noisy: NDArray[np.uint16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that is asked for a number has to end its work first, and has none meanwhile."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # both compute in float32
    monkeypatch.setitem(PRESETS, "quick", QUICK)
    settings = TrainSettings(max_steps=6)  # the last third trains the Direct Denoiser alone
    with pretended_device() as device:
        denoiser = Denoiser.for_images(noisy, settings, noise=noise())
        assert all(isinstance(parameter, There) for parameter in denoiser.model.parameters())
        for _ in denoiser.train_steps():
            pass
        found = drain(denoiser.denoise_steps(noisy[:1], OUTPUTS, samples=3, seed=4))
        denoiser.save(tmp_path / "model.safetensors")
    assert not [place for place in device.waits if place.startswith(("co_trainer.py", "bias.py", "co_model.py"))]
    again = drain(load(tmp_path / "model.safetensors", "cpu").denoise_steps(noisy[:1], OUTPUTS, samples=3, seed=4))
    for name, values in again.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=0.05)
