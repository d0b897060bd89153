"""Every teacher trains with every loss; models are saved, loaded and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import STACK, go_on, settings, shrink

from napari_direct_denoiser import Denoiser, ImageError, SettingError, load
from napari_direct_denoiser.config import DivNoisingConfig
from napari_direct_denoiser.networks import FlatVAE
from napari_direct_denoiser.risk import QUANTILE


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def untrained(**others: Any) -> Denoiser:
    return Denoiser.for_images(STACK, settings(**{"max_steps": 8, **others}), "TYX")


@pytest.mark.parametrize(
    ("teacher", "loss"),
    [("hdn", "tukey"), ("hdn", "perceptual"), ("hdn", "quantile:0.9"), ("divnoising", "l2"), ("divnoising", "l1")],
)
def test_a_teacher_and_a_loss_make_a_model(teacher: str, loss: str, tmp_path: Path) -> None:
    denoiser = untrained(teacher=teacher, loss=loss)
    *_, last = denoiser.train_steps()
    assert last.stopped == "finished"
    assert np.isfinite(last.direct_loss)
    denoiser.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors", device="cpu")
    assert loaded.summary()["loss"] == loss
    assert loaded.summary()["teacher"] == teacher
    assert isinstance(loaded.model.hdn, FlatVAE) == (teacher == "divnoising")
    np.testing.assert_array_equal(loaded.denoise(STACK[:1]), denoiser.denoise(STACK[:1]))
    np.testing.assert_array_equal(loaded.posterior_mode(STACK[:1], 3), denoiser.posterior_mode(STACK[:1], 3))
    if loss.startswith("quantile"):
        assert last.estimated_gain_db is None
        assert last.estimated_gain_why == QUANTILE


def test_the_student_of_divnoising_starts_from_pretrained_weights() -> None:
    flat, ladder = untrained(teacher="divnoising"), untrained()
    assert isinstance(flat.model.config.hdn, DivNoisingConfig)
    np.testing.assert_array_equal(flat.denoise(STACK[:1]), ladder.denoise(STACK[:1]))


def test_a_loss_that_compares_features_goes_on_with_the_same_features(tmp_path: Path) -> None:
    path = tmp_path / "m.resume.safetensors"
    whole = go_on(untrained(loss="perceptual"), path)
    go_on(untrained(loss="perceptual"), path, until=7)
    resumed = go_on(Denoiser.resumed(path, STACK, whole.provenance.settings, "TYX"), path)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_student_learns_from_a_finished_teacher_which_stays_as_it_is(tmp_path: Path) -> None:
    teacher = untrained()
    for _ in teacher.train_steps():
        pass
    student = teacher.continued(STACK, "TYX", max_steps=12, device="cpu", loss="quantile:0.9", student_only=True)
    *_, last = student.train_steps()
    assert last.stopped == "finished"
    assert np.isfinite(last.neg_elbo)
    assert last.neg_elbo > 0
    weights, kept = student.model.state_dict(), teacher.model.state_dict()
    assert all(torch.equal(weights[name], kept[name]) for name in kept if name.startswith("hdn."))
    assert not all(torch.equal(weights[name], kept[name]) for name in kept if name.startswith("unet."))
    np.testing.assert_array_equal(student.posterior_mean(STACK[:1], 2), teacher.posterior_mean(STACK[:1], 2))
    assert float((student.denoise(STACK) - teacher.denoise(STACK)).mean()) > 0  # an upper limit
    student.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").summary()["loss"] == "quantile:0.9"


def test_a_teacher_of_other_images_is_refused() -> None:
    teacher = untrained()
    for _ in teacher.train_steps():
        pass
    with pytest.raises(ImageError, match=r"kind that the teacher was trained on, found one that is .* brighter"):
        teacher.continued(20 * STACK.astype(np.float32), "TYX", max_steps=5, student_only=True)
    with pytest.raises(SettingError, match="Expected l2, l1"):
        teacher.continued(STACK, "TYX", loss="l3", student_only=True)


def test_a_frozen_encoder_is_no_part_of_the_model() -> None:
    denoiser = untrained(loss="perceptual")
    names = set(denoiser.model.state_dict())
    denoiser.model.freeze_encoder(denoiser.model.hdn)
    assert denoiser.model.encoder is not None
    assert set(denoiser.model.state_dict()) == names


def test_divnoising_does_not_know_structured_noise() -> None:
    with pytest.raises(SettingError, match="Expected HDN as teacher for structured noise, found divnoising"):
        untrained(teacher="divnoising", structured=True)
