"""The device that is asked for, at the precision that it gains by."""

from __future__ import annotations

import pytest
import torch

from napari_direct_denoiser import device
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.synthetic import simulate


@pytest.mark.parametrize(
    ("units", "dtype"),
    [({"avx2": True}, torch.float32), ({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16)],
)
def test_bfloat16_only_where_the_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, units: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    compute = device.resolve("cpu")
    assert compute.dtype == dtype
    assert (compute.memory_format == torch.channels_last) == (dtype == torch.bfloat16)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match="found cuda: choose auto or"):
        device.resolve("cuda")


def test_bfloat16_trains_and_predicts_in_float32_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through autocast, which machines with bfloat16 units take, is the same on any machine, only slower."""
    noisy = simulate(planes=1, size=64, seed=0).noisy
    exact = Denoiser.for_images(noisy, TrainSettings(device="cpu", max_steps=1))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    rough = Denoiser.for_images(noisy, TrainSettings(device="cpu", max_steps=1))
    for _ in rough.train_steps():
        pass
    rough.model.load_state_dict(exact.model.state_dict())
    found, expected = rough.denoise(noisy), exact.denoise(noisy)
    assert found.dtype == expected.dtype == "float32"
    assert abs(found - expected).max() < 0.02 * 6 * exact.model.scaling.deviation
    assert abs(rough.consensus(noisy, 2) - exact.consensus(noisy, 2)).max() < 0.1 * 6 * exact.model.scaling.deviation


def test_auto_takes_the_quick_preset_on_a_cpu() -> None:
    noisy = simulate(planes=1, size=64, seed=0).noisy
    assert Denoiser.for_images(noisy, TrainSettings(device="cpu")).summary()["preset"] == "quick"
