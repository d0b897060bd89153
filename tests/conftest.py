"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from small import QUICK

from napari_direct_denoiser.presets import PRESETS

# The first call of torch takes longer than hypothesis waits for an example. In CI every run tries the same examples.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")

DOCKS = Path(__file__).parent / "_napari"
LONG = {"test_cli.py", "test_closing.py", "test_denoiser.py", "test_students_of_a_teacher.py", "test_training.py"}
"""Files that take over 20 seconds, though none of their tests is slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the docks, so that ``pytest -m "not gui"`` needs no screen; long files come first."""
    for item in items:
        if DOCKS in item.path.parents:
            item.add_marker("gui")
        if "device" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("on_device")
    # Files go to the process that is free: a long one at the end would leave the other process idle.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def imported_is_no_garbage() -> None:
    """Collections of garbage pass over what was imported, which stays: napari collects whenever a layer is removed."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real microscopy data, which lies beside the repository on some machines and is no part of it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real microscopy data is not part of the repository and not on this machine (no {folder})")
    return folder


@pytest.fixture
def device() -> Iterator[torch.device]:
    """Where this test makes its tensors: on the CPU, or on what the variable names (benchmarks/gpu.sh sets it)."""
    device = torch.device(os.environ.get("DIRECT_DENOISER_TEST_DEVICE", "cpu"))
    if device.type == "cpu":
        yield device
        return
    with device, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield device


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(0)


FEW = {
    "calibrate": {"_PIXELS": 10_000, "_SIDE": 96},
    "mean_or_direct": {"_SIDE": 64, "_SAMPLES": 2, "_PLANES": 1},
    "validation": {"_PATCHES": 8},
}


@pytest.fixture(scope="session", autouse=True)
def few_pixels_measured() -> Iterator[dict[str, int]]:
    """What a training measures of itself takes seconds: outside its own tests, it measures few pixels."""
    usual = {}
    with pytest.MonkeyPatch.context() as patched:
        for module, values in FEW.items():
            for name, few in values.items():
                place = f"napari_direct_denoiser.training.{module}.{name}"
                usual[place] = pkgutil.resolve_name(place.replace(f".{name}", f":{name}"))
                patched.setattr(place, few)
        yield usual


@pytest.fixture
def all_pixels_measured(few_pixels_measured: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as for a user, for tests of what is measured."""
    for place, number in few_pixels_measured.items():
        monkeypatch.setattr(place, number)


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """The quick preset has small networks of random weights: for tests of what surrounds the networks."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", QUICK)
        yield
