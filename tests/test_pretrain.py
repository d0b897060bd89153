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
