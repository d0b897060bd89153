"""``denoise --dtype``: the numbers of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, TrainSettings, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.co_model import CoModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and an image of 8 bits."""
    folder = tmp_path_factory.mktemp("dtype")
    signal = np.linspace(-20, 275, 64)[None, None] + np.zeros((2, 64, 64))
    noisy = np.random.default_rng(0).normal(signal, 20).clip(0, 255).astype(np.uint8)
    Denoiser.for_images([noisy], TrainSettings(noise="gaussian:20", device="cpu")).save(folder / "model.safetensors")
    tifffile.imwrite(folder / "noisy.tif", noisy, imagej=True, metadata={"axes": "TYX"})
    np.save(folder / "noisy.npy", noisy.astype(">f8"))
    return folder


def call(folder: Path, image: str, output: str, *options: str) -> Any:
    names = [str(folder / image), "--model", str(folder / "model.safetensors"), "--output", str(folder / output)]
    return CliRunner().invoke(app, ["denoise", *names, *options])


def test_same_rounds_and_clips_to_the_dtype_of_the_image_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = CoModel.direct
    monkeypatch.setattr(CoModel, "direct", lambda self, noisy: 1.2 * direct(self, noisy) - 20)
    done = call(folder, "noisy.tif", "out.tif", "--dtype", "same", "--json")
    assert done.exit_code == 0
    denoiser = load(folder / "model.safetensors", device="cpu")
    wanted = denoiser.denoise(tifffile.imread(folder / "noisy.tif"))
    found = tifffile.imread(folder / "out.tif")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(wanted).clip(0, 255))
    assert np.rint(wanted).min() < 0
    assert np.rint(wanted).max() > 255
    beyond = np.count_nonzero((np.rint(wanted) < 0) | (np.rint(wanted) > 255))
    assert f"{beyond} of {wanted.size} pixels were clipped to the range of uint8" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["method"] == "direct"


def test_float32_is_the_default_and_clips_nothing(folder: Path) -> None:
    done = call(folder, "noisy.tif", "out.tif")
    assert tifffile.imread(folder / "out.tif").dtype == np.float32
    assert "clipped" not in done.stderr


def test_floats_stay_the_floats_they_are(folder: Path) -> None:
    assert call(folder, "noisy.npy", "out.npy", "--dtype", "same").exit_code == 0
    assert np.load(folder / "out.npy").dtype == np.float64


def test_samples_can_have_the_dtype_of_the_image_and_a_standard_deviation_cannot(folder: Path) -> None:
    call(folder, "noisy.tif", "out.tif", "--method", "sample", "--samples", "2", "--dtype", "same")
    assert tifffile.imread(folder / "out.tif").dtype == np.uint8
    done = call(folder, "noisy.tif", "std.tif", "--method", "std", "--dtype", "same")
    assert done.exit_code == 1
    assert "Expected float32 for a standard deviation, found --dtype same: leave --dtype out" in done.stderr
    assert not (folder / "std.tif").exists()
