"""A model file holds several students of one teacher; each is what it was when it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from test_resume import STACK, go_on, settings, shrink
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, ModelFileError, SettingError, checkpoint, load
from napari_direct_denoiser.checkpoint import load_checkpoint, save_checkpoint
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.evaluation import referee
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
    assert upper.model.calibration.samples == teacher.model.calibration.samples
    assert upper.model.calibration.signal != teacher.model.calibration.signal


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


@pytest.fixture
def files(teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with noisy.npy, other.npy (of another kind), teacher.safetensors."""
    monkeypatch.chdir(tmp_path)
    np.save("noisy.npy", STACK)
    np.save("other.npy", 30 * STACK.astype(np.float32))
    teacher.save("teacher.safetensors")
    return tmp_path


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def student(*options: str, model: str = "m.safetensors", teacher: str = "teacher.safetensors") -> Any:
    """Train a student on the command line."""
    limits = ("--max-steps", "3", "--device", "cpu", "--json")
    return call("train", "noisy.npy", "--model", model, "--teacher", teacher, *limits, *options)


def test_the_commands_train_list_and_use_students(files: Path) -> None:
    result = student("--loss", "l1")
    assert json.loads(result.stdout)["steps"] == 7, result.stderr  # 4 of the teacher, and they are not all
    added = student("--student-size", "small", teacher="m.safetensors")  # to the same file
    assert added.exit_code == 0, added.stderr
    known = json.loads(call("info", "m.safetensors", "--json").stdout)
    assert known["students"] == ["mean small", "median", "mean"]
    assert "mean small, median, mean" in call("info", "m.safetensors").stdout
    of_median = json.loads(call("info", "m.safetensors", "--student", "median", "--json").stdout)
    assert (of_median["loss"], of_median["steps"]) == ("l1", 7)
    assert of_median["parameters"]["direct"] > known["parameters"]["direct"]
    assert of_median["parameters"]["hdn"] == known["parameters"]["hdn"]
    assert "learned the pixel-wise median" in call("info", "m.safetensors", "--methods", "--student", "median").stdout
    model = load("m.safetensors", "cpu")
    for name in known["students"]:
        options = ["--model", "m.safetensors", "--student", name, "--output", "out.npy"]
        assert call("denoise", "noisy.npy", *options).exit_code == 0
        np.testing.assert_array_equal(np.load("out.npy"), model.student(name).denoise(STACK))
    wrong = call("denoise", "noisy.npy", "--model", "m.safetensors", "--student", "mode", "--output", "no.npy")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        "Error: Expected a student of this model (mean small, median, mean), found mode: choose one of them\n",
    )
    assert not Path("no.npy").exists()


def test_compare_evaluate_and_export_take_a_student(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    student("--loss", "l1")
    model = load("m.safetensors", "cpu")
    judged = []

    def judge(model: CoModel, frames: Any, **options: Any) -> Any:
        judged.append(model.config.loss)
        return steps(model, frames, **options)

    steps = referee.referee_steps
    monkeypatch.setattr(referee, "referee_steps", judge)
    for name in ("mean", "median"):
        chosen = ("--student", name)
        one = model.student(name)
        compared = call("compare", "noisy.npy", "--model", "m.safetensors", *chosen, "--samples", "1", "--output", name)
        assert compared.exit_code == 0, compared.stderr
        np.testing.assert_array_equal(np.squeeze(tifffile.imread(f"{name}/direct.tif")), one.denoise(STACK))
        judged.clear()
        assert call("evaluate", "noisy.npy", "--model", "m.safetensors", *chosen).exit_code == 0
        assert judged == [one.model.config.loss]
        written = call("export", "m.safetensors", *chosen, "--onnx", "m.onnx")
        assert written.exit_code == 0, written.stderr
        session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
        (plane,) = session.run(None, {"noisy": STACK[:1, None].astype(np.float32)})
        np.testing.assert_allclose(plane[:, 0], one.denoise(STACK[:1]), atol=0.1)
        assert f"the {name} of the clean images" in session.get_modelmeta().description
    for command in (
        ["compare", "noisy.npy", "--model", "m.safetensors", "--output", "out"],
        ["evaluate", "noisy.npy", "--model", "m.safetensors"],
        ["export", "m.safetensors", "--onnx", "no.onnx"],
    ):
        assert "Expected a student of this model" in call(*command, "--student", "mode").stderr
    assert not Path("no.onnx").exists()
    assert not Path("out").exists()


def test_a_zarr_of_one_student_is_not_gone_on_with_by_another(files: Path) -> None:
    student("--loss", "l1")
    command = ["denoise", "noisy.npy", "--model", "m.safetensors", "--output", "out.zarr"]
    assert call(*command, "--student", "mean").exit_code == 0
    assert "is done already" in call(*command, "--student", "mean").stderr
    assert "found one of another run" in call(*command, "--student", "median").stderr


def test_a_student_is_added_to_its_own_file_and_resumed_there(files: Path) -> None:
    again = ("--loss", "l1", "--resume")
    first = student(*again, model="teacher.safetensors")
    assert "begins from the beginning" in first.stderr
    assert load("teacher.safetensors", "cpu").students == ("median", "mean")
    second = student(*again, model="teacher.safetensors")
    assert (second.exit_code, "is finished: nothing to do" in second.stderr) == (0, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loss", "l3"], "--loss: Expected l2, l1, tukey, perceptual or quantile:Q with Q between 0 and 1"),
        (["--loss", "quantile:1.5"], "such as quantile:0.05, found quantile:1.5"),
        (["--loss", "quantile:0"], "such as quantile:0.05, found quantile:0"),
        (["--loss", "L1"], "Expected l2, l1, tukey, perceptual or quantile:Q"),
        (["--structured"], "Expected a teacher from a file to keep its settings, found --structured"),
        (["--preset", "paper"], "found --preset: leave that out, or train a new teacher"),
        (["--noise", "gaussian:3"], "found --noise: leave that out, or train a new teacher"),
        (["--teacher", "none.safetensors"], "The model file none.safetensors does not exist"),
        (["--teacher", "noisy.npy"], "Expected hdn, divnoising or a model file as teacher, found noisy.npy"),
        (["--teacher", "hdn", "--student-size", "small"], "Expected a trained model as teacher of a Direct Denoiser"),
        (["--teacher", "divnoising", "--student-size", "large"], "found none: give a model file as teacher"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_student_that_does_not_fit_is_refused_in_one_line(files: Path, options: list[str], words: str) -> None:
    assert_refused(student(*options), words)


def test_images_of_another_kind_and_files_that_are_no_teacher_are_refused_in_one_line(files: Path) -> None:
    options = ["--model", "m.safetensors", "--teacher", "teacher.safetensors", "--max-steps", "3", "--device", "cpu"]
    assert_refused(
        call("train", "other.npy", *options),
        "Expected images of the kind that the teacher was trained on, found one that is",
    )
    Path("bad.safetensors").write_bytes(Path("teacher.safetensors").read_bytes()[:-9])
    assert_refused(student("--teacher", "bad.safetensors"), "is not a model file or is truncated")
    assert call("train", "noisy.npy", *options, "--student-size", "huge").exit_code == 2


def assert_refused(result: Any, words: str) -> None:
    """An error of one line before any work; there is nothing else."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert words in lines[0]
    assert not Path("m.safetensors").exists()
