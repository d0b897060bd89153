"""The device that is asked for at its fastest precision, and the memory that is free."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from napari_direct_denoiser import system
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.presets import PRESETS


@pytest.mark.parametrize(
    ("units", "dtype"),
    [({"avx2": True}, torch.float32), ({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16)],
)
def test_bfloat16_only_where_the_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, units: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    compute = system.resolve("cpu")
    assert compute.dtype == dtype
    assert (compute.memory_format == torch.channels_last) == (dtype == torch.bfloat16)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match="Device cuda is not available on this machine: choose auto or"):
        system.resolve("cuda")


@pytest.mark.slow
def test_bfloat16_trains_and_predicts_in_float32_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through autocast, which machines with bfloat16 units take, is the same on any machine, only slower."""
    quick = PRESETS["quick"]
    schedule = quick.schedule.model_copy(update={"batch": 2, "micro_batch": 2})
    monkeypatch.setitem(PRESETS, "quick", quick.model_copy(update={"schedule": schedule}))
    monkeypatch.setattr("napari_direct_denoiser.training.validation._PATCHES", 2)
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
    assert (
        abs(rough.posterior_mean(noisy, 2) - exact.posterior_mean(noisy, 2)).max()
        < 0.1 * 6 * exact.model.normalization.std
    )


def test_auto_takes_the_quick_preset_on_a_cpu() -> None:
    noisy = simulate(planes=1, size=64, seed=0).noisy
    assert Denoiser.for_images(noisy, TrainSettings(device="cpu")).summary()["preset"] == "quick"


glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory, or how much it keeps"
)


@glibc
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


@glibc
def test_only_the_last_run_to_end_releases_memory() -> None:
    code = """
import psutil, torch
from napari_direct_denoiser.system import reusing_memory

first, second = (reusing_memory(torch.device("cpu")) for _ in range(2))
first.__enter__()
second.__enter__()
blocks = [torch.ones(2**22) for _ in range(40)]  # 16 MiB each
del blocks
first.__exit__(None, None, None)
print(psutil.Process().memory_info().rss)
try:
    raise ValueError
except ValueError as error:
    print(bool(second.__exit__(ValueError, error, error.__traceback__)))  # the error goes on
print(psutil.Process().memory_info().rss)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) - int(told[2]) > 20 * 2**24
    assert told[1] == "False"


GROUPS = {
    "v2": (
        "0::/user.slice/job",
        {
            "sys/fs/cgroup/user.slice/job/memory.max": "max",
            "sys/fs/cgroup/user.slice/job/memory.current": "900",
            "sys/fs/cgroup/user.slice/memory.max": "5000",  # a limit of the parent
            "sys/fs/cgroup/user.slice/memory.current": "3000",
            "sys/fs/cgroup/user.slice/memory.stat": "anon 2000\ninactive_file 500\n",
        },
        2500,
    ),
    "v2, container": ("0::/", {"sys/fs/cgroup/memory.max": "4096", "sys/fs/cgroup/memory.current": "5000"}, 0),
    "v1": (
        "9:cpu,cpuacct:/\n4:memory:/docker/1a2b\n0::/",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000",  # all that a container sees
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 70\ntotal_inactive_file 100\n",
        },
        2100,
    ),
    "v1, no limit": (
        "4:memory:/",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
        },
        None,
    ),
    "none": ("", {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_free_memory_respects_limits_of_control_groups(case: str, tmp_path: Path) -> None:
    groups, files, expected = GROUPS[case]
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = system.available_memory(torch.device("cpu"), tmp_path)
    if expected is None:
        assert found > 2**20
    else:
        assert found == expected


def test_a_system_without_proc_has_no_limits(tmp_path: Path) -> None:
    assert system.available_memory(torch.device("cpu"), tmp_path) > 2**20


def test_networks_repeat_on_a_gpu_at_the_precision_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "allow_tf32", False)
    gpu = system.Compute(torch.device("cuda"), torch.float32, torch.contiguous_format)
    with gpu.autocast():
        assert (cudnn.deterministic, cudnn.allow_tf32) == (True, False)
    assert (cudnn.deterministic, cudnn.allow_tf32) == (False, False)
    first, second = gpu.autocast(), gpu.autocast()  # of two threads, of which the first to begin is the first to end
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cudnn.deterministic
    second.__exit__(None, None, None)
    assert not cudnn.deterministic


def test_an_error_of_the_networks_keeps_no_tensors() -> None:
    """What ran out of memory is tried again with less: the tensors of the failed call must be free by then."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def fail() -> None:
        tensor = torch.ones(3)
        kept.append(weakref.ref(tensor))
        with system.resolve("cpu").autocast():
            raise MemoryError

    gc.disable()
    try:
        with suppress(MemoryError):
            fail()
        assert kept[0]() is None
    finally:
        gc.enable()
