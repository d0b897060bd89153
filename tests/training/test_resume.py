"""A training that was interrupted goes on as if nothing had happened: the weights are the same, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_direct_denoiser import (
    Denoiser,
    ImageError,
    ModelFileError,
    SettingError,
    TrainingError,
    TrainSettings,
    load,
)
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.files import _draft_name
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.presets import PRESETS

NOISE = "poisson:2,100,3"
STACK = simulate(planes=8, size=48, seed=0).noisy
STATIC = simulate(planes=1, size=64, seed=0).truth + np.random.default_rng(0).normal(0, 9, (9, 64, 64))
_QUICK, _PAPER = PRESETS["quick"], PRESETS["paper"]
QUICK = _QUICK.model_copy(
    update={
        "model": ModelConfig(
            hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
            direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True),
            units="noise",
        ),
        "schedule": _QUICK.schedule.model_copy(update={"patch": 32, "validate_every": 6}),
        "pretrained": False,
    }
)
PUBLISHED = _PAPER.model_copy(
    update={
        "model": ModelConfig(
            hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=1, gated=True, dropout=0.2),
            direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=1, published=True),
            units="image",
        ),
        "schedule": _PAPER.schedule.model_copy(
            update={"patch": 16, "batch": 4, "micro_batch": 2, "validate_every": 2, "patience": 1, "stop_after": 99}
        ),
    }
)
"""The published blocks, optimizer and schedule, but small; as `QUICK` is."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that happens in a long training happen in few steps."""
    monkeypatch.setitem(PRESETS, "quick", QUICK)
    monkeypatch.setitem(PRESETS, "paper", PUBLISHED)
    for name, value in (
        ("training.clock.YIELD_SECONDS", 0.0),
        ("training.validation._PATCHES", 4),
        ("training.course._FIRST_CALIBRATION", 4),
        ("training.refit_noise._PAIRS", 3_000),
        ("training.calibrate._PIXELS", 5_000),
        ("training.mean_or_direct._SAMPLES", 2),
        ("training.mean_or_direct._SIDE", 32),
    ):
        monkeypatch.setattr(f"napari_direct_denoiser.{name}", value)


def settings(**others: Any) -> TrainSettings:
    return TrainSettings(**{"preset": "quick", "noise": NOISE, "device": "cpu", "max_steps": 20, **others})


def go_on(denoiser: Denoiser, path: Path, until: int | None = None) -> Denoiser:
    """Train to the end, or to a step, where the training is saved and dropped."""
    steps = denoiser.train_steps()
    for progress in steps:
        if progress.step == until:
            denoiser.save_training(path)
            break
    return denoiser


def content(denoiser: Denoiser) -> dict[str, Any]:
    model = denoiser.model
    tensors = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    return {
        **tensors,
        "noise": model.noise.document(),
        "normalization": model.normalization,
        "calibration": model.calibration,
        "steps": denoiser.provenance.steps,
        "gain": denoiser.provenance.history[-1].estimated_gain_db,
        "rise": denoiser.provenance.history[-1].estimated_rise_db,
    }


@pytest.mark.parametrize(
    ("images", "others", "stops"),
    [
        (STACK, {}, (4, 14)),  # HDN is frozen after 13 steps; noise drawn anew is trained on at every fourth
        (STATIC, {"noise": "gaussian:9", "max_steps": 12}, (5, 9)),  # frames of a static scene judge
        (STACK, {"refine_noise": True, "noise": "gaussian:30", "max_steps": 10}, (2, 5)),  # refitted after 3 steps
        (STACK, {"preset": "paper", "max_steps": 10}, (3, 7)),
    ],
    ids=["quick", "static", "refined noise", "published"],
)
def test_an_interrupted_training_ends_with_the_same_weights(
    images: np.ndarray, others: dict[str, Any], stops: tuple[int, int], tmp_path: Path
) -> None:
    path, wanted = tmp_path / "m.resume.safetensors", settings(**others)
    whole = go_on(Denoiser.for_images(images, wanted), path)
    assert not path.exists()
    first, second = stops
    go_on(Denoiser.for_images(images, wanted), path, first)
    torch.rand(3)
    again = go_on(Denoiser.resumed(path, images, wanted), path, second)
    last = go_on(Denoiser.resumed(path, images, wanted), path)
    assert content(last) == content(whole)
    assert last.provenance.stopped == "finished"
    seconds = [record.seconds for record in last.provenance.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] > again.provenance.seconds > 0


def test_what_is_saved_is_usable_at_once_and_limits_may_change(tmp_path: Path) -> None:
    path = tmp_path / "m.resume.safetensors"
    before = go_on(Denoiser.for_images(STACK, settings()), path, 7)
    denoiser = Denoiser.resumed(path, STACK, settings(max_steps=9))
    np.testing.assert_array_equal(denoiser.denoise(STACK), before.denoise(STACK))
    assert go_on(denoiser, path).provenance.steps == 9
    kept = Denoiser.resumed(path, STACK, settings(max_steps=None))
    assert kept.provenance.settings.max_steps == 20


def test_others_than_before_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.resume.safetensors"
    denoiser = Denoiser.for_images(STACK, settings())
    with pytest.raises(TrainingError, match="under way"):
        denoiser.save_training(path)
    go_on(denoiser, path, 2)
    with pytest.raises(SettingError, match=r"Expected loss l2.*found l1"):
        Denoiser.resumed(path, STACK, settings(loss="l1"))
    with pytest.raises(ImageError, match="8 x 48 x 48, found float32 7 x 48 x 48"):
        Denoiser.resumed(path, STACK[1:].astype(np.float32), settings())
    with pytest.raises(ImageError, match="same shape"):
        Denoiser.resumed(path, STACK[::-1].copy(), settings())
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"checksum.*delete it to start from the beginning"):
        Denoiser.resumed(path, STACK, settings())
    denoiser.save(path)
    with pytest.raises(ModelFileError, match="finished model"):
        Denoiser.resumed(path, STACK, settings())


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", *arguments])


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a short training in an empty folder."""
    monkeypatch.chdir(tmp_path)
    np.save("noisy.npy", STACK)
    return ["noisy.npy", "--noise", NOISE, "--device", "cpu", "--max-steps", "20", "--json"]


def test_the_command_goes_on_only_if_there_is_something_to_go_on_with(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    m, kept = ["--model", "m.safetensors"], Path("m.resume.safetensors")
    go_on(Denoiser.for_images(STACK, settings()), kept, 7)
    wrong = call(*command, *m, "--resume", "--loss", "l1")
    assert (wrong.exit_code, "loss" in wrong.stderr) == (1, True)
    result = call(*command, *m, "--resume")
    assert "after 7 steps" in result.stderr
    assert json.loads(result.stdout)["steps"] == 20
    assert not kept.exists()
    before = Path("m.safetensors").read_bytes()
    again = call(*command, *m, "--resume", "--max-steps", "50")
    assert (again.exit_code, "is finished" in again.stderr) == (0, True)
    assert json.loads(again.stdout) == json.loads(result.stdout)
    assert Path("m.safetensors").read_bytes() == before
    draft = Path(_draft_name(kept.name, 2**22 + 1))  # of a process that cannot be, as if one had been killed
    draft.touch()
    assert "is finished" in call(*command, *m, "--resume").stderr
    assert not draft.exists()
    assert "seed" in call(*command, *m, "--resume", "--seed", "3").stderr
    new = call(*command, "--model", "other.safetensors", "--resume")
    assert "from the beginning" in new.stderr
    assert content(load("other.safetensors")) == content(load("m.safetensors"))
