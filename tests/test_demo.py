"""The demo, small: everything it promises lies in its folder, and no screen is needed."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, SettingError, TrainSettings, demo, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.io import read_image, write_image
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.evaluation.metrics import evaluate
from napari_direct_denoiser.progress import TrainingProgress

STACK = simulate(planes=1, size=64)
FILES = {"model.safetensors", "noisy.tif", "hdn_mean.tif", "direct.tif", "demo.csv"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that takes seconds: one small plane, networks as they are before training."""

    def train_steps(self: Denoiser) -> Iterator[TrainingProgress]:
        yield TrainingProgress(
            step=1,
            total_steps=1,
            fraction=1.0,
            elapsed_seconds=0.1,
            remaining_seconds=0.0,
            neg_elbo=4.0,
            reconstruction=3.0,
            kl=1.0,
            direct_loss=0.5,
            validation_neg_elbo=None,
            validation_direct_loss=None,
            stopped="finished",
        )

    monkeypatch.setattr(Denoiser, "train_steps", train_steps)
    settings = TrainSettings(noise="poisson:2,100,3", device="cpu")
    monkeypatch.setattr(demo, "run_demo", partial(demo.run_demo, stack=STACK, settings=settings))


def test_the_demo_writes_what_it_promises(small: None, tmp_path: Path) -> None:
    folder, told = tmp_path / "out", []
    result = demo.run_demo(folder, lambda work, progress: told.append(work))
    assert set(os.listdir(folder)) == FILES
    assert list(dict.fromkeys(told)) == ["training", "HDN mean (N=50)", "direct"]
    assert list(result.images) == ["noisy", "HDN mean (N=50)", "direct"]
    for name, shown in demo.IMAGES.items():
        np.testing.assert_array_equal(read_image(folder / f"{name}.tif").data.squeeze(), result.images[shown].squeeze())
    np.testing.assert_array_equal(load(folder / "model.safetensors").denoise(STACK.noisy), result.images["direct"])
    with open(folder / "demo.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, image in zip(rows, result.images.values(), strict=True):
        assert float(row["psnr_db"]) == pytest.approx(evaluate(image, STACK.truth).psnr, abs=0.006)
    assert [bool(row["seconds"]) for row in rows] == [False, True, True]


def test_without_a_screen_the_command_says_so_and_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "has_screen", lambda: False)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "No picture: there is no screen" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["method", "noisy", "HDN", "direct"]
    assert set(os.listdir(tmp_path / "out")) == FILES


def test_a_second_demo_may_use_the_same_folder(small: None, tmp_path: Path) -> None:
    for _ in range(2):
        demo.run_demo(tmp_path, lambda *_: None)
    assert set(os.listdir(tmp_path)) == FILES


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, words in ((tmp_path / "file", "the file"), (tmp_path / "no" / "demo", "create it first")):
        with pytest.raises(SettingError, match=words):
            demo.run_demo(folder, lambda *_: pytest.fail("training began"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a screen")
def test_only_linux_may_have_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not demo.has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert demo.has_screen()


def write_images(folder: Path) -> dict[str, Any]:
    images = {name: STACK.truth + number for number, name in enumerate(demo.IMAGES)}
    for name, image in images.items():
        write_image(folder / f"{name}.tif", image)
    return images


def test_a_window_that_cannot_be_opened_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "has_screen", lambda: True)
    monkeypatch.setattr(demo, "find_spec", lambda _: object())
    reason = demo.open_window(tmp_path)  # there are no images in it
    assert reason is not None
    assert "noisy.tif" in reason


@pytest.mark.skipif(not demo.has_screen(), reason="needs a screen, such as that of xvfb-run")
def test_the_picture_shows_the_window(tmp_path: Path) -> None:
    pytest.importorskip("napari")
    from skimage.io import imread

    write_images(tmp_path)
    assert demo.take_picture(tmp_path) is None
    picture = imread(tmp_path / "demo.png")
    assert picture.shape[1] > 900
    canvas = picture[200:-150, 400:, :3].mean(2)  # between the layer list, the slider and the edges
    assert canvas.std() > 10
