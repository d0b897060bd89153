"""The whole way from noisy images to a saved model and denoised images, through the public interface."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import napari_direct_denoiser as direct_denoiser
from napari_direct_denoiser import Denoiser, TrainSettings, load, passes, train
from napari_direct_denoiser.data.synthetic import SyntheticStack, simulate
from napari_direct_denoiser.errors import ImageError, ModelFileError, SettingError


@pytest.fixture(scope="module")
def noisy() -> NDArray[np.uint16]:
    return simulate(planes=3, size=96, seed=1).noisy


@pytest.fixture(scope="module")
def trained(noisy: NDArray[np.uint16]) -> Denoiser:
    return train(noisy, max_steps=3, device="cpu")


@pytest.fixture(scope="module")
def stack() -> SyntheticStack:
    return simulate(planes=8, size=128, seed=0)


@pytest.fixture(scope="module")
def longer_trained(stack: SyntheticStack) -> Denoiser:
    return train(stack.noisy, noise="poisson:2,100,3", max_steps=200, device="cpu")


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-3)]
)  # the latter has 8 bits
def test_the_direct_pass_in_tiles_equals_that_of_the_whole_plane(
    longer_trained: Denoiser, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rounding: float
) -> None:
    plane = simulate(planes=1, size=256, seed=3).noisy[0]
    monkeypatch.setattr(longer_trained.model, "compute", replace(longer_trained.model.compute, dtype=dtype))
    whole = longer_trained.denoise(plane)
    monkeypatch.setattr(passes, "DIRECT_TILE", 32)
    tiled = longer_trained.denoise(plane)
    assert np.abs(tiled - whole).max() < rounding * np.ptp(whole)
    assert not np.array_equal(tiled, whole)  # or it was not cut at all


def test_a_loaded_model_predicts_bit_for_bit_what_the_saved_one_did(
    trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trained.save(path)
    loaded = load(path, device="cpu")
    assert np.array_equal(loaded.denoise(noisy), trained.denoise(noisy))
    assert np.array_equal(loaded.sample(noisy[0], 3, seed=5), trained.sample(noisy[0], 3, seed=5))
    assert loaded.provenance == trained.provenance
    assert loaded.summary() == trained.summary()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_loading_in_a_fresh_process_predicts_the_same(
    trained: Denoiser, noisy: NDArray[np.uint16], tmp_path: Path
) -> None:
    trained.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "noisy.npy", noisy)
    script = (
        "import numpy as np; from napari_direct_denoiser import load;"
        "np.save('out.npy', load('model.safetensors', device='cpu').denoise(np.load('noisy.npy')))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), trained.denoise(noisy))


@pytest.mark.parametrize("shape", [(96, 96), (2, 96, 96), (2, 3, 70, 65)])
def test_results_have_the_shape_of_the_input_and_are_float32(trained: Denoiser, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(150, 20, shape)
    assert trained.denoise(image).shape == shape
    assert trained.consensus(image, 2, "median").shape == shape
    drawn = trained.sample(image, 2)
    assert drawn.shape == (2, *shape)
    assert drawn.dtype == np.float32


def test_axes_in_another_order_give_the_same_planes(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    moved = np.moveaxis(noisy, 0, -1)  # YXT
    steps = trained.denoise_steps(moved, ["direct"], axes="YXT")
    found = direct_denoiser.denoiser.drain(steps)["direct"]
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), trained.denoise(noisy))


def test_several_images_of_different_sizes_train_one_model() -> None:
    images = [simulate(planes=2, size=size, seed=size).noisy for size in (64, 80)]
    denoiser = train(images, max_steps=2, device="cpu")
    assert denoiser.denoise(images[1]).shape == images[1].shape


def test_median_is_not_the_mean(trained: Denoiser, noisy: NDArray[np.uint16]) -> None:
    median, mean = (trained.consensus(noisy[0], 5, how) for how in ("median", "mean"))
    drawn = trained.sample(noisy[0], 5)
    np.testing.assert_allclose(median, np.median(drawn, axis=0), rtol=1e-5)
    np.testing.assert_allclose(mean, drawn.mean(0), rtol=1e-5)
    assert not np.array_equal(median, mean)


def bad_images() -> dict[str, tuple[NDArray, str]]:
    good = np.random.default_rng(0).normal(100, 10, (2, 80, 80))
    hole = good.copy()
    hole[1, 3, 4] = np.nan
    return {
        "nan": (hole, "1 NaN or infinite"),
        "constant": (np.full((80, 80), 7.0), "contrast"),
        "rgb": (np.zeros((80, 80, 3), np.uint8), "RGB"),
        "bool": (good > 100, "bool"),
        "complex": (good.astype(complex), "complex"),
        "small": (good[:, :40], "at least 64 x 64"),
        "empty": (good[:0], "empty"),
        "line": (good[0, 0], "axes"),
    }


@pytest.mark.parametrize("kind", sorted(bad_images()))
def test_bad_images_are_refused_before_any_work(kind: str) -> None:
    image, words = bad_images()[kind]
    with pytest.raises(ImageError, match=words):
        Denoiser.for_images(image, TrainSettings(device="cpu"))


def test_bad_settings_are_refused() -> None:
    image = np.random.default_rng(0).normal(100, 10, (80, 80))
    with pytest.raises(SettingError, match=r"max_steps.*found 0"):
        train(image, max_steps=0)
    with pytest.raises(SettingError, match="found 'cauchy:1'"):
        train(image, noise="cauchy:1")
    with pytest.raises(ModelFileError, match="No noise model file"):
        train(image, noise="missing.npz")
    with pytest.raises(ImageError, match="axes"):
        train(image, axes="TYX")


def test_importing_the_package_loads_no_torch() -> None:
    script = "import sys, napari_direct_denoiser; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
