"""A model file holds several students of one teacher; each is what it was when it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import STACK, go_on, settings, shrink

from napari_direct_denoiser import Denoiser, ModelFileError, SettingError, checkpoint, load
from napari_direct_denoiser.checkpoint import load_checkpoint, save_checkpoint
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.training import students as students_module
from napari_direct_denoiser.training.students import Student, name_of, student_to_train
from napari_direct_denoiser.training.targets import StudentTargets


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def trained(denoiser: Denoiser) -> Denoiser:
    for _ in denoiser.train_steps():
        pass
    return denoiser


def student_of(teacher: Denoiser, **others: Any) -> Denoiser:
    """Train a student of a finished teacher."""
    return trained(teacher.continued(STACK, "TYX", **{"student_only": True, "max_steps": 4, "device": "cpu", **others}))


@pytest.fixture
def teacher() -> Denoiser:
    return trained(Denoiser.for_images(STACK, settings(max_steps=4), "TYX"))


def outputs(denoiser: Denoiser) -> dict[str, np.ndarray]:
    """What a model computes, directly and by samples."""
    image = STACK[:1]
    return {
        "direct": denoiser.denoise(image),
        "std": denoiser.std(image),
        "mean": denoiser.posterior_mean(image, 2),
        "sample_std": denoiser.std(image, 3),
    }


def assert_same(found: Denoiser, expected: Denoiser, names: tuple[str, ...] = ()) -> None:
    ones, others = outputs(found), outputs(expected)
    for name in names or ones:
        np.testing.assert_array_equal(ones[name], others[name], err_msg=name)


@pytest.mark.parametrize(
    ("loss", "size", "name"),
    [
        ("l2", "standard", "mean"),
        ("l1", "standard", "median"),
        ("tukey", "standard", "mode"),
        ("perceptual", "large", "perceptual large"),
        ("quantile:0.050", "standard", "quantile 0.05"),
        ("l2", "small", "mean small"),
    ],
)
def test_a_student_is_named_by_what_it_estimates(loss: str, size: str, name: str) -> None:
    assert name_of(TrainSettings(loss=loss, student_size=size)) == name


def test_students_of_one_teacher_share_a_file_and_each_stays_as_it_was(teacher: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    median = student_of(teacher, loss="l1")
    last = student_of(median, loss="quantile:0.9")
    assert last.students == ("quantile 0.9", "median", "mean")
    last.save(path)
    loaded = load(path, "cpu")
    assert loaded.students == last.students == tuple(loaded.summary()["students"])
    assert_same(loaded, last)
    for name, expected in (("mean", teacher), ("median", median), ("quantile 0.9", last)):
        for found in (loaded.student(name), load(path, "cpu", student=name)):
            assert_same(found, expected)  # the std head and its calibration included
            assert found.students[0] == name
            assert set(found.students) == set(last.students)
            assert found.provenance == expected.provenance
    assert_same(loaded.student("mean").student("median"), median)
    with pytest.raises(SettingError, match=r"\(quantile 0\.9, median, mean\), found mode: choose one of them"):
        load(path, "cpu", student="mode")


def test_the_calibration_of_samples_belongs_to_the_teacher(teacher: Denoiser) -> None:
    upper = student_of(teacher, loss="quantile:0.95")
    assert upper.model.std_calibration.samples == teacher.model.std_calibration.samples
    assert upper.model.std_calibration.signal != teacher.model.std_calibration.signal


def test_a_student_of_a_name_that_is_there_replaces_it(teacher: Denoiser) -> None:
    more = student_of(student_of(teacher, loss="l1"), loss="l2")
    assert more.students == ("mean", "median")
    assert more.provenance.steps == 12


def test_hdn_that_learns_further_has_no_longer_those_students(teacher: Denoiser) -> None:
    both = student_of(teacher, loss="l1")
    assert both.continued(STACK, "TYX", max_steps=4, device="cpu").students == ("median",)


@pytest.mark.parametrize(("size", "times"), [("small", 0.5), ("large", 2)])
def test_a_student_of_another_size_begins_from_chance(
    teacher: Denoiser, size: str, times: float, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    other = student_of(teacher, student_size=size)
    assert other.model.config.direct.filters == tuple(int(times * each) for each in (8, 8))
    assert other.students == (f"mean {size}", "mean")
    other.save(path)
    assert_same(load(path, "cpu"), other)
    assert_same(load(path, "cpu", student="mean"), teacher)
    again = student_of(other, loss="l1", student_size=size, max_steps=1)
    assert again.model.config.direct == other.model.config.direct
    assert again.students == (f"median {size}", f"mean {size}", "mean")
    assert student_of(again, loss="tukey", max_steps=1).model.config.direct == teacher.model.config.direct


def test_the_size_of_a_model_without_a_teacher_is_refused() -> None:
    with pytest.raises(SettingError, match="Expected a trained model as teacher of a Direct Denoiser that"):
        Denoiser.for_images(STACK, settings(student_size="small"), "TYX")
    with pytest.raises(SettingError, match=r"student_size.*found 'huge'"):
        Denoiser.for_images(STACK, settings(), "TYX").continued(STACK, student_only=True, student_size="huge")


def test_targets_take_the_prediction_of_a_student_near_the_mean(teacher: Denoiser) -> None:
    """A quantile in the targets of the mean would shift it."""
    upper = student_of(teacher, loss="quantile:0.99", max_steps=30)
    first, second = (Student.of(each.model, each.provenance) for each in (upper, upper.student("mean")))
    inputs = upper.model.prepare(torch.from_numpy(STACK[:1, None].astype(np.float32)))
    sample = torch.full((1, 1, 48, 48), 200.0)
    for students, weight in (([first, second], 0.4), ([first], 0.0)):
        model, guide, _ = student_to_train(students, upper.model, settings(loss="l2"))
        targets = StudentTargets(guide.used_in(model), 0.4, resample_noise=True)
        _, clean = targets.pair(inputs, sample, torch.Generator().manual_seed(0))
        expected = sample.lerp(teacher.model.denoise(inputs), weight)
        torch.testing.assert_close(clean, expected)


@pytest.mark.parametrize("others", [{"loss": "l1"}, {"student_size": "small"}], ids=["median", "small"])
def test_an_interrupted_student_goes_on_to_the_same_weights(
    teacher: Denoiser, others: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "m.resume.safetensors"
    options: dict[str, Any] = {"student_only": True, "max_steps": 12, "device": "cpu", **others}
    whole = go_on(teacher.continued(STACK, "TYX", **options), path)
    go_on(teacher.continued(STACK, "TYX", **options), path, until=4 + 7)
    resumed = go_on(Denoiser.resumed(path, STACK, whole.provenance.settings, "TYX"), path)
    assert resumed.students == whole.students
    assert_same(resumed, whole)
    assert_same(resumed.student("mean"), teacher)


def test_older_versions_read_one_student_and_refuse_several_in_words(
    teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = tmp_path / "one.safetensors", tmp_path / "several.safetensors"
    teacher.save(one)
    student_of(teacher, loss="l1").save(several)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 1)
    assert load(one, "cpu").students == ("mean",)
    with pytest.raises(ModelFileError, match=r"has format 2; this is version .* reads up to 1: upgrade"):
        load(several, "cpu")


def test_a_file_whose_students_are_wrong_is_refused(teacher: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    student_of(teacher, loss="l1").save(path)
    tensors, document = load_checkpoint(path)
    (known,) = document["students"]
    active = document["provenance"]
    for wrong in (3, [known] * students_module.MOST, [known, known], [{**known, "provenance": active}], [{}], []):
        save_checkpoint(path, tensors, {**document, "students": wrong})
        with pytest.raises(ModelFileError, match="does not hold a model of this package"):
            load(path, "cpu")
    broken = {
        name: tensor * float("nan") if name.startswith("students") else tensor for name, tensor in tensors.items()
    }
    save_checkpoint(path, broken, document)
    with pytest.raises(ModelFileError, match="no finite image"):
        load(path, "cpu")


def test_a_model_has_so_many_students_at_most(teacher: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students_module, "MOST", 2)
    both = student_of(teacher, loss="l1")
    with pytest.raises(SettingError, match="Expected at most 2 students in a model, found 2 beside mode"):
        both.continued(STACK, "TYX", loss="tukey", student_only=True)
    assert both.continued(STACK, "TYX", loss="l2", student_only=True, device="cpu").students == ("mean", "median")
