"""The command line as scripts see it: files, exit status, the last line of standard output, one line for an error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from typer.main import get_command
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, DenoiserError, DenoiseSettings, TrainingError, TrainSettings, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.synthetic import SyntheticStack, simulate
from napari_direct_denoiser.evaluation.metrics import psnr
from napari_direct_denoiser.noise import CorrelatedNoise, PoissonGaussianNoise
from napari_direct_denoiser.progress import TrainingProgress
from napari_direct_denoiser.training.world import World

OPTIONS = {
    "train": "--model --preset --noise --refine-noise --loss --teacher --student-size --structured --axes --channel "
    "--max-minutes --max-steps "
    "--seed --device --resume --json",
    "fit-noise": "--calibration --signal --correlated --output --axes --json",
    "denoise": "--model --output --student --method --samples --seed --dtype --axes --channel --ome-zarr --overwrite "
    "--workers --scheduler --json",
    "compare": "--model --truth --student --samples --output --axes --channel --json",
    "evaluate": "--truth --model --student --axes --channel --json",
    "info": "--student --methods --json",
    "export": "--onnx --bioimageio --student",
    "demo": "--headless --output",
}

JUDGED = {"estimated_gain_db", "estimated_gain_error_db", "estimated_gain_why"}
TRAINED = {"steps", "seconds", "stopped", "model", "recommended", *JUDGED}


@pytest.fixture(scope="module")
def stack() -> SyntheticStack:
    return simulate(planes=2, size=64, seed=3)


@pytest.fixture(scope="module")
def untrained(stack: SyntheticStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Denoiser.for_images([stack.noisy], TrainSettings(noise="poisson:2,100,3", device="cpu")).save(path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, stack: SyntheticStack, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with noisy.tif (ImageJ, 0.2 um pixels), noisy.npy, truth.tif and model.safetensors."""
    monkeypatch.chdir(tmp_path)
    scale: dict[str, Any] = {"resolution": (5.0, 5.0), "metadata": {"axes": "TYX", "unit": "um"}}
    tifffile.imwrite("noisy.tif", stack.noisy, imagej=True, **scale)
    tifffile.imwrite("truth.tif", stack.truth, imagej=True, **scale)
    np.save("noisy.npy", stack.noisy)
    Path("model.safetensors").write_bytes(untrained.read_bytes())
    return tmp_path


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def last_line(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(values, dict)
    return values


def error_line(result: Any) -> str:
    """The one line of an error; there is nothing else."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def record(step: int, stopped: str | None = None) -> TrainingProgress:
    return TrainingProgress(
        step=step,
        total_steps=9,
        fraction=step / 9,
        elapsed_seconds=0.1 * step,
        remaining_seconds=1.0,
        neg_elbo=4.0,
        reconstruction=3.0,
        kl=1.0,
        direct_loss=0.5,
        validation_neg_elbo=None,
        validation_direct_loss=None,
        stopped=stopped,
    )


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Train in no time: what is put in this list is yielded (records), called (functions) or raised (errors)."""
    script: list[Any] = []

    def train_steps(self: Denoiser, world: World) -> Iterator[TrainingProgress]:
        for each in script:
            if isinstance(each, Exception):
                raise each
            if callable(each):
                each()
            else:
                yield each

    monkeypatch.setattr(Denoiser, "train_steps", train_steps)
    monkeypatch.setattr(Denoiser, "save_training", lambda self, path: None)
    return script


@pytest.mark.parametrize("command", OPTIONS)
def test_each_command_has_exactly_its_options(command: str) -> None:
    found = {
        flag
        for parameter in get_command(app).commands[command].params  # type: ignore[attr-defined]
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("-")
    }
    assert found == set(OPTIONS[command].split())
    assert call(command, "--help").exit_code == 0


def test_help_says_what_the_settings_say() -> None:
    for command, settings in (("train", TrainSettings), ("denoise", DenoiseSettings)):
        words = re.sub(r"\s+", " ", call(command, "--help").stdout)
        for field in settings.model_fields.values():
            assert field.description
            assert " ".join(field.description.split()) in words


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from napari_direct_denoiser.cli import app; app(['train', '--help'], standalone_mode=False); "
        "sys.exit({'torch', 'numpy', 'napari', 'rich', 'tifffile', 'skimage', 'dask'} & set(sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_train_denoise_evaluate_and_info_as_a_script_calls_them(stack: SyntheticStack) -> None:
    def script(*arguments: str) -> dict[str, Any]:
        done = call(*arguments, "--json")
        assert done.exit_code == 0, done.stderr
        assert "Error" not in done.stderr
        assert done.stderr or arguments[0] in ("evaluate", "info")  # words and progress are there
        (line,) = done.stdout.splitlines()
        values = json.loads(line)
        assert isinstance(values, dict)
        return values

    options = ["--model", "m.safetensors", "--max-steps", "1", "--noise", "poisson:2,100,3"]
    trained = script("train", "noisy.tif", *options)
    assert trained.keys() == TRAINED
    assert (trained["steps"], trained["model"]) == (1, "m.safetensors")

    denoised = script("denoise", "noisy.tif", "--model", "m.safetensors", "--output", "direct.tif")
    assert denoised.keys() == {"seconds", "method", "samples", "planes", "output"}
    assert (denoised["method"], denoised["planes"], denoised["output"]) == ("direct", 2, "direct.tif")
    np.testing.assert_array_equal(tifffile.imread("direct.tif"), load("m.safetensors").denoise(stack.noisy))

    judged = script("evaluate", "direct.tif", "--truth", "truth.tif")
    assert judged.keys() == {"psnr", "ssim", "psnr_per_plane", "ssim_per_plane"}
    expected = [psnr(plane, truth) for plane, truth in zip(tifffile.imread("direct.tif"), stack.truth, strict=True)]
    assert judged["psnr_per_plane"] == pytest.approx(expected)
    assert judged["psnr"] == pytest.approx(np.mean(expected))
    assert judged["ssim"] == pytest.approx(np.mean(judged["ssim_per_plane"]))

    known = script("info", "m.safetensors")
    assert known.keys() == {
        *(
            "preset",
            "teacher",
            "loss",
            "structured",
            "parameters",
            "noise",
            "steps",
            "version",
            "estimated_gain_db",
            "recommended",
            "students",
        )
    }
    assert known["parameters"].keys() == {"hdn", "direct"}
    assert (known["preset"], known["loss"], known["structured"], known["steps"]) == ("quick", "l2", False, 1)
    paragraph = script("info", "m.safetensors", "--methods")["methods"]
    assert "2 planes of" in paragraph
    assert call("info", "m.safetensors", "--methods").stdout == f"{paragraph}\n"


@pytest.mark.parametrize("method", ["direct", "mean", "median", "sample", "std"])
def test_denoise_keeps_axes_and_pixel_size(method: str, stack: SyntheticStack) -> None:
    arguments = ["denoise", "noisy.tif", "--model", "model.safetensors", "--method", method, "--samples", "3"]
    values = last_line(call(*arguments, "--seed", "7", "--output", "out.tif", "--json"))
    assert values["samples"] == (0 if method == "direct" else 3)
    assert values["method"] == method
    assert values["planes"] == 2
    with tifffile.TiffFile("out.tif") as file:
        assert file.series[0].dtype == np.float32
        assert file.series[0].shape == ((3,) if method == "sample" else ()) + stack.noisy.shape
        assert file.series[0].axes.endswith("YX")
        assert file.pages[0].resolution == (5.0, 5.0)  # type: ignore[union-attr]
    call(*arguments, "--seed", "7", "--output", "again.npy")
    np.testing.assert_array_equal(tifffile.imread("out.tif"), np.load("again.npy"))


def test_std_is_that_of_the_direct_pass_unless_samples_are_asked_for(stack: SyntheticStack) -> None:
    arguments = ["denoise", "noisy.tif", "--model", "model.safetensors", "--method", "std", "--json", "--output"]
    one_pass = last_line(call(*arguments, "one.tif"))
    of_samples = last_line(call(*arguments, "of.tif", "--samples", "2"))
    assert [(values["method"], values["samples"]) for values in (one_pass, of_samples)] == [("std", 0), ("std", 2)]
    model = load("model.safetensors")
    np.testing.assert_array_equal(tifffile.imread("one.tif"), model.std(stack.noisy))
    np.testing.assert_array_equal(tifffile.imread("of.tif"), model.std(stack.noisy, 2))


def test_samples_of_another_seed_are_others() -> None:
    arguments = ["denoise", "noisy.npy", "--model", "model.safetensors", "--method", "sample", "--samples", "1"]
    for seed in "01":
        assert call(*arguments, "--seed", seed, "--output", f"{seed}.npy").exit_code == 0
    assert (np.load("0.npy") != np.load("1.npy")).mean() > 0.9


def test_train_says_how_good_the_model_is_and_whether_to_go_on(training: list[Any]) -> None:
    gain = {"estimated_gain_db": 1.234, "estimated_gain_error_db": 0.12, "estimated_rise_db": 0.03}
    training.append(replace(record(9, "finished"), **gain))
    result = call("train", "noisy.tif", "--model", "m.safetensors", "--json")
    assert last_line(result)["estimated_gain_db"] == 1.234
    assert "1.23 dB (standard error 0.12)" in result.stderr
    assert "would hardly help" in result.stderr
    assert last_line(result)["recommended"] == "direct"
    better = {"estimated_over_mean_db": -0.4, "estimated_over_mean_error_db": 0.1}
    training[:] = [replace(record(9, "finished"), **gain, **better)]
    result = call("train", "noisy.tif", "--model", "m.safetensors", "--json")
    assert last_line(result)["recommended"] == "mean"
    assert "an estimated 0.40 dB (standard error 0.10) better than the direct pass" in result.stderr
    training[:] = [replace(record(9, "finished"), **{**gain, "estimated_gain_db": -0.3})]
    result = call("train", "noisy.tif", "--model", "m.safetensors", "--json")
    assert last_line(result)["recommended"] == "blur"
    assert "A blur would do as well" in result.stderr
    training[:] = [replace(record(9, "finished"), estimated_gain_why="The noise model is wrong: mend it")]
    result = call("train", "noisy.tif", "--model", "m.safetensors", "--json")
    assert last_line(result)["estimated_gain_why"] == "The noise model is wrong: mend it"
    assert "mend it" in result.stderr


def test_a_finished_model_is_the_teacher_of_another_student() -> None:
    train = ["train", "noisy.tif", "--model", "student.safetensors", "--max-steps", "2", "--json"]
    result = call(*train, "--teacher", "model.safetensors", "--loss", "quantile:0.9")
    assert last_line(result).keys() == TRAINED
    known = last_line(call("info", "student.safetensors", "--json"))
    assert known["loss"] == "quantile:0.9"
    student, teacher = load("student.safetensors"), load("model.safetensors")
    image = tifffile.imread("noisy.tif")
    np.testing.assert_array_equal(student.posterior_mean(image, 2), teacher.posterior_mean(image, 2))
    refused = {
        "no.safetensors": "does not exist",
        "cnn": "Expected hdn, divnoising or a model file as teacher, found cnn",
        "model.safetensors --structured": "Expected a teacher from a file to keep its settings, found --structured",
        "hdn --loss l3": "Expected l2, l1, tukey, perceptual or quantile:Q",
        "divnoising --structured": "Expected HDN as teacher for structured noise",
    }
    for options, words in refused.items():
        assert words in error_line(call(*train, "--teacher", *options.split())), options


def test_evaluate_judges_a_model_without_a_truth() -> None:
    values = last_line(call("evaluate", "noisy.tif", "--model", "model.safetensors", "--json"))
    over_mean = {"estimated_over_mean_db", "estimated_over_mean_error_db"}
    assert values.keys() == {*JUDGED, *over_mean, "blur_sigma", "recommended"}
    assert (values["recommended"] is None) == (values["estimated_gain_why"] is not None)
    assert (values["estimated_gain_db"] is None) != (values["estimated_gain_why"] is None)
    words = call("evaluate", "noisy.tif", "--model", "model.safetensors").stdout
    assert "blur" in words or values["estimated_gain_why"] in words


def test_evaluate_without_json_is_a_table_of_planes() -> None:
    result = call("evaluate", "noisy.tif", "--truth", "truth.tif")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["plane", "0", "1", "mean"]


def test_a_perfect_image_is_strict_json() -> None:
    values = last_line(call("evaluate", "truth.tif", "--truth", "truth.tif", "--json"))
    assert values["psnr"] is None
    assert values["ssim"] == pytest.approx(1)


def test_a_truth_of_flat_areas_is_no_label_image() -> None:
    phantom = np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16))).astype(np.uint8)
    np.save("phantom.npy", phantom)
    np.save("image.npy", phantom + 0.5)
    assert last_line(call("evaluate", "image.npy", "--truth", "phantom.npy", "--json"))["psnr"] > 20


def test_train_takes_several_images_and_axes(training: list[Any], stack: SyntheticStack) -> None:
    training += [record(4), record(9, stopped="finished")]
    np.save("plane.npy", stack.noisy[0])
    values = last_line(call("train", "noisy.tif", "plane.npy", "--model", "m.safetensors", "--json"))
    done = {"steps": 9, "seconds": pytest.approx(0.9), "stopped": "finished", "model": "m.safetensors"}
    assert values == {**done, **dict.fromkeys(JUDGED), "recommended": "direct"}
    np.save("last.npy", np.moveaxis(stack.noisy, 0, -1))
    assert call("train", "last.npy", "--model", "m.safetensors", "--axes", "YXT").exit_code == 0
    assert load("m.safetensors").provenance.axes == "YXT"
    # What the file cannot say, the model knows.
    denoised = last_line(call("denoise", "last.npy", "--model", "m.safetensors", "--output", "out.npy", "--json"))
    assert denoised["planes"] == 2
    assert np.load("out.npy").shape == (64, 64, 2)


def test_settings_reach_the_model(training: list[Any]) -> None:
    training.append(record(1, stopped="finished"))
    options = "--loss l1 --structured --seed 5 --device cpu --max-minutes 2.5 --max-steps 7 --noise gaussian:4"
    assert call("train", "noisy.tif", "--model", "m.safetensors", *options.split()).exit_code == 0
    expected = TrainSettings(
        preset="quick",
        loss="l1",
        structured=True,
        seed=5,
        device="cpu",
        max_minutes=2.5,
        max_steps=7,
        noise="gaussian:4",
    )
    assert load("m.safetensors").provenance.settings == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_the_model(training: list[Any], number: signal.Signals) -> None:
    before = signal.getsignal(number)
    training += [record(1), lambda: signal.raise_signal(number), record(2), AssertionError("went on")]
    values = last_line(call("train", "noisy.tif", "--model", "m.safetensors", "--json"))
    assert (values["steps"], values["stopped"]) == (2, "interrupted")
    load("m.safetensors")
    assert signal.getsignal(number) is before


def test_a_terminated_process_ends_in_order() -> None:
    command = [sys.executable, "-m", "napari_direct_denoiser", "train", "noisy.tif", "--model", "m.safetensors"]
    options = ["--noise", "poisson:2,100,3", "--json"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Noise: "):
                break
        process.terminate()
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Error" not in stderr
    (line,) = stdout.splitlines()
    values = json.loads(line)
    assert values["stopped"] == "interrupted"
    assert values["steps"] >= 1
    assert load("m.safetensors", device="cpu").provenance.steps == values["steps"]


def test_the_best_model_so_far_is_written_every_minute(
    training: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    path, there = folder / "m.safetensors", []

    def wait(seconds: float) -> Callable[[], None]:
        return lambda: clock.__setitem__(0, clock[0] + seconds)

    def look() -> None:
        there.append(path.exists())
        path.unlink(missing_ok=True)

    training += [wait(30), record(1), look, wait(29), record(2), look, wait(20), record(3), look]
    training += [wait(600), record(4), look, record(5, "finished")]
    assert call("train", "noisy.tif", "--model", "m.safetensors").exit_code == 0
    assert there == [False, True, False, True]
    assert path.exists()


def test_a_copy_that_cannot_be_written_does_not_end_the_training(
    training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real, tries = [0.0], Denoiser.save, []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def save(self: Denoiser, path: str | Path) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise DenoiserError("the disk is full")
        real(self, path)

    monkeypatch.setattr(Denoiser, "save", save)
    training += [lambda: clock.__setitem__(0, 60.0), record(1), record(2, "finished")]
    result = call("train", "noisy.tif", "--model", "m.safetensors")
    assert result.exit_code == 0
    assert "Note: the disk is full" in result.stderr
    load("m.safetensors")


def test_a_second_interrupt_stops_at_once_and_writes_nothing(training: list[Any], folder: Path) -> None:
    training += [record(1), *[lambda: signal.raise_signal(signal.SIGINT)] * 2, AssertionError("went on")]
    assert call("train", "noisy.tif", "--model", "m.safetensors", "--json").exit_code not in (0, 2)
    assert not (folder / "m.safetensors").exists()


def test_an_image_whose_file_names_no_axes_is_seen_as_in_training(training: list[Any], stack: SyntheticStack) -> None:
    training.append(record(1, stopped="finished"))
    tifffile.imwrite("bare.tif", np.stack([stack.noisy] * 3), metadata={"axes": "QQYX"}, photometric="minisblack")
    assert call("train", "bare.tif", "--model", "m.safetensors", "--axes", "TZYX").exit_code == 0
    for method in ("direct", "sample"):
        arguments = ["--model", "m.safetensors", "--method", method, "--samples", "2", "--json"]
        assert last_line(call("denoise", "bare.tif", *arguments, "--output", "out.tif"))["planes"] == 6
        with tifffile.TiffFile("out.tif") as file:
            assert file.series[0].axes.endswith("TZYX" if method == "direct" else "ZYX")
    assert last_line(
        call("compare", "bare.tif", "--model", "m.safetensors", "--samples", "1", "--output", "o", "--json")
    )
    named = last_line(
        call("denoise", "bare.tif", "--model", "m.safetensors", "--output", "named.tif", "--axes", "PZYX", "--json")
    )
    assert named["planes"] == 6
    assert "'YX'" in error_line(
        call("denoise", "bare.tif", "--model", "m.safetensors", "--output", "o.tif", "--axes", "YX")
    )


def test_results_have_the_axes_that_the_training_was_told(training: list[Any], stack: SyntheticStack) -> None:
    training.append(record(1, stopped="finished"))
    last = np.moveaxis(np.concatenate([stack.noisy] * 3), 0, -1)  # Y X T
    tifffile.imwrite("last.tif", last, metadata=None, photometric="minisblack")
    assert call("train", "last.tif", "--model", "m.safetensors", "--axes", "YXT").exit_code == 0
    for name, axes in (("last.tif", "YXT"), ("noisy.tif", "TYX")):
        assert call("denoise", name, "--model", "m.safetensors", "--output", "out.tif").exit_code == 0
        with tifffile.TiffFile("out.tif") as file:
            assert file.series[0].axes == axes


def test_planes_that_a_library_labels_as_colours(training: list[Any], stack: SyntheticStack) -> None:
    training.append(record(1, stopped="finished"))
    planes = np.concatenate([stack.noisy, stack.noisy[:1]])
    # as older versions of tifffile do by default with three planes
    tifffile.imwrite("three.tif", planes, photometric="rgb", planarconfig="separate")
    with tifffile.TiffFile("three.tif") as file:
        assert file.series[0].axes == "SYX"
    train = ["train", "three.tif", "--model", "m.safetensors"]
    assert "--axes ZYX" in error_line(call(*train))
    assert call(*train, "--axes", "ZYX").exit_code == 0
    denoise = ["denoise", "three.tif", "--model", "m.safetensors", "--output", "out.tif", "--json"]
    assert "--axes ZYX" in error_line(call(*denoise))
    assert last_line(call(*denoise, "--axes", "ZYX"))["planes"] == 3
    evaluate = ["evaluate", "out.tif", "--truth", "three.tif", "--json"]
    assert "--axes ZYX" in error_line(call(*evaluate))
    assert len(last_line(call(*evaluate, "--axes", "ZYX"))["psnr_per_plane"]) == 3


def test_channels(training: list[Any], stack: SyntheticStack, folder: Path) -> None:
    training.append(record(1, stopped="finished"))
    both = np.stack([stack.noisy, stack.noisy + 500], axis=1)  # T C Y X
    tifffile.imwrite("both.tif", both, imagej=True, metadata={"axes": "TCYX"})
    train = ["train", "both.tif", "--model", "m.safetensors", "--noise", "gaussian:9", "--json"]
    assert re.search(r"2 channels.*--channel 0 to 1", error_line(call(*train)))
    assert last_line(call(*train, "--channel", "1")).keys() == TRAINED
    assert load("m.safetensors").model.normalization.mean > 500
    denoise = ["denoise", "both.tif", "--model", "m.safetensors", "--output", "out.tif", "--json"]
    assert "2 channels" in error_line(call(*denoise))
    assert last_line(call(*denoise, "--channel", "1"))["planes"] == 2
    np.testing.assert_array_equal(tifffile.imread("out.tif"), load("m.safetensors").denoise(both[:, 1]))
    assert "found 2" in error_line(call(*denoise, "--channel", "2"))
    compare = ["compare", "both.tif", "--model", "m.safetensors", "--samples", "1", "--output", "c", "--json"]
    assert last_line(call(*compare, "--channel", "0"))["rows"]
    judge = ["evaluate", "both.tif", "--model", "m.safetensors", "--json"]
    assert "2 channels" in error_line(call(*judge))
    assert last_line(call(*judge, "--channel", "1")).keys() >= JUDGED
    score = ["evaluate", "both.tif", "--truth", "noisy.tif", "--json"]
    assert last_line(call(*score, "--channel", "0"))["psnr"] is None  # infinite: the same image
    assert last_line(call(*score, "--channel", "1"))["psnr"] < 20
    Path("m.safetensors").unlink()
    values = last_line(call(*train, "--channel", "each"))
    assert values.keys() == {*TRAINED, "models"}
    assert [each["model"] for each in values["models"]] == ["m-c0.safetensors", "m-c1.safetensors"]
    assert values["steps"] == 2
    assert not Path("m.safetensors").exists()
    means = [load(each["model"]).model.normalization.mean for each in values["models"]]
    assert means[1] - means[0] == pytest.approx(500, abs=1)
    assert "--channel" in error_line(call("train", "noisy.tif", "--model", "m.safetensors", "--channel", "each"))


def test_what_cannot_be_written_is_refused_before_the_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Denoiser, "denoise_steps", lambda *_, **__: pytest.fail("work began"))
    np.save("last.npy", np.zeros((64, 64, 2), np.float32))
    arguments = ["--model", "model.safetensors", "--axes", "YXT", "--output", "o.ome.tif"]
    assert "OME-TIFF" in error_line(call("denoise", "last.npy", *arguments))


@pytest.mark.parametrize("output", ["s.tif", "s.ome.tif", "s.npy"])
def test_samples_of_a_stack_of_five_axes_are_written(output: str, stack: SyntheticStack) -> None:
    five = np.stack([stack.noisy] * 2)[:, None]
    tifffile.imwrite("five.ome.tif", five, metadata={"axes": "TCZYX"}, photometric="minisblack")
    arguments = ["--model", "model.safetensors", "--method", "sample", "--samples", "2", "--output", output, "--json"]
    assert last_line(call("denoise", "five.ome.tif", *arguments))["planes"] == 4
    found = np.load(output) if output.endswith("npy") else tifffile.imread(output)
    assert found.squeeze().shape == (2, 2, *stack.noisy.shape)


def test_fit_noise_from_the_images_alone_and_train_with_its_file() -> None:
    noisy = simulate(planes=8, size=160, seed=1, photons=30.0, gain=2.0).noisy
    tifffile.imwrite("camera.tif", noisy, imagej=True, metadata={"axes": "TYX"})
    result = call("fit-noise", "camera.tif", "--output", "noise.npz", "--json")
    found = last_line(result)
    assert set(found) == {"kind", "gain", "offset", "read_noise", "signal_range", "autocorrelation", "warnings"}
    assert found["kind"] == "poisson"
    assert found["gain"] == pytest.approx(2, rel=0.15)
    assert found["warnings"] == []
    train = call("train", "camera.tif", "--model", "m.safetensors", "--noise", "noise.npz", "--max-steps", "1")
    assert train.exit_code == 0, train.stderr
    assert "Noise: mixture of 3 Gaussians" in train.stderr


def test_fit_noise_from_calibrations() -> None:
    ramp = np.tile(np.linspace(120, 600, 160, dtype=np.float32), (160, 1))
    frames = 100 + 2 * np.random.default_rng(0).poisson((ramp - 100) / 2, (6, 160, 160))
    np.save("frames.npy", frames)
    np.save("ramp.npy", ramp)
    for arguments in (["--calibration"], ["--signal", "ramp.npy"]):
        found = last_line(call("fit-noise", "frames.npy", *arguments, "--output", "noise.npz", "--json"))
        assert found["kind"] == "mixture"
        assert found["gain"] == pytest.approx(2, rel=0.1)
        assert found["offset"] == pytest.approx(100, abs=15)
        assert found["signal_range"] == pytest.approx([120, 600], abs=45)


def correlated_frames(path: str) -> None:
    ramp = torch.linspace(120, 600, 160).expand(6, 160, 160)
    camera = CorrelatedNoise.of(PoissonGaussianNoise(2.0, 100.0, 3.0), [[0.5, 0.0, 0.0]])
    np.save(path, camera.sample(ramp, torch.Generator().manual_seed(0)).numpy())


def test_fit_noise_finds_correlated_noise_and_train_reads_its_file(training: list[Any]) -> None:
    training += [record(1, "finished")]
    correlated_frames("frames.npy")
    result = call("fit-noise", "frames.npy", "--calibration", "--output", "noise.json", "--json")
    found = last_line(result)
    assert found["kind"] == "scaled"
    lags = np.array(found["autocorrelation"])  # rows 0 to 6 below, columns -6 to 6 aside
    assert lags.shape == (7, 13)
    assert lags[0, 6:9] == pytest.approx([1, 0.5, 0.25], abs=0.04)
    assert lags[1, 6] == pytest.approx(0, abs=0.02)
    assert re.search(r"1, 2 and 3 pixels away: along x 0\.\d\d, 0\.\d\d, 0\.\d\d, along y", result.stderr)
    train = call("train", "frames.npy", "--model", "m.safetensors", "--noise", "noise.json")
    assert train.exit_code == 0, train.stderr
    assert "correlation of neighbours" in train.stderr


def test_correlated_noise_is_not_written_as_npz() -> None:
    correlated_frames("frames.npy")
    for arguments in (["--calibration"], ["--correlated"], []):
        assert ".json" in error_line(call("fit-noise", "frames.npy", *arguments, "--output", "noise.npz"))
    assert not Path("noise.npz").exists()


def test_training_says_what_is_unusual_about_the_noise(training: list[Any]) -> None:
    training += [record(1, "finished")]
    lines = np.random.default_rng(0).normal(0, 8, (4, 128, 1)) * np.ones((4, 128, 128))
    np.save("lines.npy", simulate(planes=4, size=128, seed=1).noisy + lines)
    result = call("train", "lines.npy", "--model", "m.safetensors")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"Note: Every plane has offsets of whole lines: rows by \d", result.stderr)


def test_a_training_that_fails_leaves_the_old_model(training: list[Any], untrained: Path) -> None:
    training += [record(1), TrainingError("The loss was nan\nat step 2")]
    result = call("train", "noisy.tif", "--model", "model.safetensors")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: The loss was nan at step 2"
    assert Path("model.safetensors").read_bytes() == untrained.read_bytes()


BAD = {
    "missing image": ("denoise none.tif --model model.safetensors --output o.tif", "none.tif"),
    "a folder with a broken image": ("train . --model m.safetensors", "empty.tif"),
    "empty file": ("train empty.tif --model m.safetensors", "empty"),
    "not a TIFF": ("train words.tif --model m.safetensors", "TIFF"),
    "unknown suffix": ("train words.txt --model m.safetensors", "words.txt"),
    "NaN": ("train nan.npy --model m.safetensors", "NaN"),
    "NaN to denoise": ("denoise nan.npy --model model.safetensors --output o.tif", "NaN"),
    "constant": ("train constant.npy --model m.safetensors", "contrast"),
    "RGB": ("train rgb.npy --model m.safetensors", "RGB"),
    "bool": ("train bool.npy --model m.safetensors", "bool"),
    "complex": ("train complex.npy --model m.safetensors", "complex"),
    "smaller than the patch": ("train small.npy --model m.safetensors", "64"),
    "axes that do not match": ("train noisy.tif --model m.safetensors --axes YX", "YX"),
    "noise that is none": ("train noisy.tif --model m.safetensors --noise salt:1", "salt"),
    "noise file missing": ("train noisy.tif --model m.safetensors --noise none.npz", "none.npz"),
    "noise file pickled": ("train noisy.tif --model m.safetensors --noise pickled.npz", "not a readable noise model"),
    "noise file with other keys": ("train noisy.tif --model m.safetensors --noise other.npz", "lacks trained_weight"),
    "noise file of another kind": ("train noisy.tif --model m.safetensors --noise words.json", "is JSON without"),
    "unstable noise": ("train noisy.tif --model m.safetensors --noise gaussian:5+x:1.2", "not stable"),
    "malformed noise": ("train noisy.tif --model m.safetensors --noise gaussian:5+x:a", r"such as \+x:0.5"),
    "calibration with structure": ("fit-noise structure.npy --calibration --output n.npz", "structure in plane 1"),
    "signal of another shape": ("fit-noise noisy.tif --signal small.npy --output n.npz", "pair with the signal"),
    "noise model of unknown suffix": ("fit-noise noisy.tif --output n.txt", r"\.npz"),
    "missing model": ("denoise noisy.tif --model none.safetensors --output o.tif", "none.safetensors"),
    "model that is none": ("denoise noisy.tif --model words.txt --output o.tif", "words.txt"),
    "model cut short": ("info cut.safetensors", "truncated"),
    "no samples": ("denoise noisy.tif --model model.safetensors --output o.tif --samples 0", "--samples.*found 0"),
    "no steps": ("train noisy.tif --model m.safetensors --max-steps 0", "--max-steps.*found 0"),
    "no time": ("train noisy.tif --model m.safetensors --max-minutes -1", "--max-minutes.*found -1"),
    "negative seed": ("denoise noisy.tif --model model.safetensors --output o.tif --seed -1", "--seed.*found -1"),
    "no folder for the output": ("denoise noisy.tif --model model.safetensors --output no/o.tif", "no"),
    "output of unknown suffix": ("denoise noisy.tif --model model.safetensors --output o.png", "o.png"),
    "no folder for the model": ("train noisy.tif --model no/m.safetensors", "no"),
    "model of unknown suffix": ("train noisy.tif --model m.pt", "m.pt"),
    "truth of another shape": ("evaluate noisy.tif --truth small.npy", r"\(1, 40, 40\)|\(40, 40\)"),
    "demo into a file": ("demo --headless --output words.txt", "words.txt"),
    "demo into no folder": ("demo --headless --output no/demo", "no"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_before_any_work(case: str, folder: Path, stack: SyntheticStack) -> None:
    noisy = stack.noisy.astype(np.float32)
    Path("empty.tif").touch()
    for name in ("words.tif", "words.txt"):
        Path(name).write_text("no image")
    Path("words.json").write_text('{"kind": "gaussian", "sigma": 3}')
    Path("cut.safetensors").write_bytes(Path("model.safetensors").read_bytes()[:-100])
    np.save("nan.npy", np.where(noisy == noisy.max(), np.nan, noisy))
    np.save("constant.npy", np.full((64, 64), 7.0))
    np.save("rgb.npy", np.zeros((64, 64, 3), np.uint8))
    np.save("bool.npy", noisy > 100)
    np.save("complex.npy", noisy + 1j)
    np.save("small.npy", noisy[0, :40, :40])
    np.save("structure.npy", simulate(planes=1, size=128, photons=300.0).noisy)
    np.savez("pickled.npz", trained_weight=np.array([{}], dtype=object), min_signal=0, max_signal=1, min_sigma=1)
    np.savez("other.npz", weights=np.zeros((9, 2)))
    files = sorted(os.listdir(folder))
    command, words = BAD[case]
    assert re.search(words, error_line(call(*command.split())))
    assert sorted(os.listdir(folder)) == files


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "train noisy.tif",
        "train noisy.tif --model m.safetensors --preset huge",
        "train noisy.tif --model m.safetensors --max-steps many",
        "train noisy.tif --model m.safetensors --colour red",
        "train noisy.tif --model m.safetensors --channel red",
        "denoise noisy.tif --model model.safetensors --output o.tif --channel -1",
        "denoise noisy.tif --model model.safetensors",
        "denoise noisy.tif --model model.safetensors --output o.tif --method modus",
        "evaluate noisy.tif",
        "evaluate noisy.tif --truth truth.tif --model model.safetensors",
        "evaluate noisy.tif --truth truth.tif --student mean",
        "paint",
    ],
)
def test_wrong_usage_is_status_2(command: str) -> None:
    result = call(*command.split())
    assert result.exit_code == 2
    assert "Usage" in result.stderr
    assert result.stdout == ""


def test_the_status_of_the_process_is_that_of_the_command() -> None:
    command = [sys.executable, "-m", "napari_direct_denoiser", "info", "none.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
