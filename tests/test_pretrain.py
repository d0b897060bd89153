"""The script that makes the shipped weights still makes some that fit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_direct_denoiser import checkpoint
from napari_direct_denoiser.checkpoint import start_from_pretrained
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.noise.line_noise import LineNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.presets import PRESETS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "pretrain.py"
    spec = importlib.util.spec_from_file_location("pretrain", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_images_differ_and_fill_the_range(script: ModuleType) -> None:
    images = np.stack([script.field(seed) for seed in range(6)])
    assert np.isfinite(images).all()
    assert images.min() >= 0
    assert all(0.9 < np.quantile(image, 0.995) < 1.1 for image in images)
    assert len({image.tobytes() for image in images}) == len(images)


def test_its_weights_fit_the_quick_preset_and_are_small(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = torch.from_numpy(np.stack([script.field(seed) for seed in range(2)]))
    script.train(bank, tmp_path / "weights.safetensors", seconds=1.0)
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights.safetensors")
    noise = GaussianNoise(10.0)
    model = CoModel(PRESETS["quick"].model, noise, Normalization.of([100 * bank.numpy()], "noise", noise))
    start_from_pretrained(model)
    written = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(value.half(), written[name]) for name, value in model.state_dict().items())
    assert (tmp_path / "weights.safetensors").stat().st_size < 5_000_000


def test_the_second_head_alone_learns_on_top_of_the_weights_of_the_package(script: ModuleType, tmp_path: Path) -> None:
    bank = torch.from_numpy(np.stack([script.field(seed) for seed in range(2)]))
    script.train_std(bank, tmp_path / "weights.safetensors", seconds=1.0)
    before, written = load_file(checkpoint.WEIGHTS), load_file(tmp_path / "weights.safetensors")
    changed = {name for name, value in written.items() if not torch.equal(value, before[name])}
    assert written.keys() == before.keys()
    assert changed == {f"unet.std_head.{layer}.{kind}" for layer in (1, 3) for kind in ("weight", "bias")}


def test_weights_for_correlated_noise_are_for_whitened_images(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = torch.from_numpy(np.stack([script.field(seed) for seed in range(2)]))
    monkeypatch.setattr(script, "COLOUR_CAMERAS", 2)
    script.train_correlated(bank, tmp_path / "weights.safetensors", seconds=0.5)
    monkeypatch.setattr(checkpoint, "CORRELATED_WEIGHTS", tmp_path / "weights.safetensors")
    written = load_file(tmp_path / "weights.safetensors")
    base = GaussianNoise(10.0)
    for noise, fits in ((base, False), (LineNoise(CorrelatedNoise.of(base, [[0.5, 0.0, 0.0]]), 3.0), True)):
        model = CoModel(PRESETS["quick"].model, noise, Normalization.of([100 * bank.numpy()], "noise", noise))
        start_from_pretrained(model)
        started = model.state_dict()
        assert all(torch.equal(started[name].half(), value) for name, value in written.items()) == fits
        assert {name for name in started if name.startswith("unet.")} == written.keys()


def test_noise_of_a_colour_camera_has_the_correlation_and_variance_of_its_model(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        colour = script.ColourCamera(rng)
        recorded = colour(GaussianNoise(5.0).sample(torch.zeros(8, 1, 128, 128)))[..., 4:-4, 4:-4]
        noise = colour.noise(GaussianNoise(5.0))
        assert recorded.var() == pytest.approx(float(noise.variance(torch.zeros(()))), rel=0.05)
        beside, below = (recorded * recorded.roll(1, axis) for axis in (-1, -2))
        for near, (down, right) in ((beside, (0, 2)), (below, (1, 1))):
            assert near.mean() / recorded.var() == pytest.approx(noise.autocorrelation(1)[down, right], abs=0.03)
