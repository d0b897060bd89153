"""The device that is asked for, at the precision that it gains by."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from napari_direct_denoiser import device
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import SettingError


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
    assert abs(found - expected).max() < 0.02 * 6 * exact.model.normalization.std
    assert abs(rough.consensus(noisy, 2) - exact.consensus(noisy, 2)).max() < 0.1 * 6 * exact.model.normalization.std


def test_auto_takes_the_quick_preset_on_a_cpu() -> None:
    noisy = simulate(planes=1, size=64, seed=0).noisy
    assert Denoiser.for_images(noisy, TrainSettings(device="cpu")).summary()["preset"] == "quick"


@pytest.mark.skipif(device._LIBC is None, reason="only glibc can be told to keep memory, or how much it keeps")
def test_memory_is_kept_within_a_run_and_given_back_after_it() -> None:
    # In a process of its own: here, others have left memory that may be used again.
    code = """
import psutil, resource, torch
from napari_direct_denoiser.system import reusing_memory

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**22) for _ in range(20)]  # 16 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with reusing_memory(torch.device("cpu")):
    with reusing_memory(torch.device("cpu")):  # a prediction while training
        first = fetched()
    fetched()
    print(first, fetched(), psutil.Process().memory_info().rss)
print(psutil.Process().memory_info().rss)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    first, third, within, after = map(int, told.split())
    assert third < first / 2  # pages of memory that the system had to give
    assert within - after > 10 * 2**24


def test_only_the_last_run_to_end_lets_go_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(device, "_set_thresholds", lambda *sizes: told.append(sizes))
    first, second = (device.reusing_memory(torch.device("cpu")) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert len(told) == 1
    assert not second.__exit__(ValueError, ValueError("stopped"), None)  # which goes on
    assert len(told) == 2
    assert told[1] < told[0]
