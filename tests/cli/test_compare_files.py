"""The command `compare`: the table and the images of the paper's Table 1 and Figure 1, on a person's own data."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.main import get_command
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import CompareSettings
from napari_direct_denoiser.data.synthetic import SyntheticStack, simulate
from napari_direct_denoiser.evaluation.metrics import evaluate


@pytest.fixture(scope="module")
def stack() -> SyntheticStack:
    return simulate(planes=2, size=64, seed=3)


@pytest.fixture(scope="module")
def untrained(stack: SyntheticStack) -> Denoiser:
    return Denoiser.for_images([stack.noisy], TrainSettings(noise="poisson:2,100,3", device="cpu"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, stack: SyntheticStack, monkeypatch: pytest.MonkeyPatch, untrained: Denoiser) -> Path:
    monkeypatch.chdir(tmp_path)
    scale: dict[str, Any] = {"resolution": (5.0, 5.0), "metadata": {"axes": "TYX", "unit": "um"}}
    tifffile.imwrite("noisy.tif", stack.noisy, imagej=True, **scale)
    tifffile.imwrite("truth.tif", stack.truth, imagej=True, **scale)
    return tmp_path


@pytest.fixture
def model(folder: Path, untrained: Denoiser) -> None:
    untrained.save("model.safetensors")


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_the_command_has_exactly_its_options() -> None:
    parameters = get_command(app).commands["compare"].params  # type: ignore[attr-defined]
    found = {flag for parameter in parameters for flag in parameter.opts if flag.startswith("-")}
    assert found == {"--model", "--truth", "--student", "--samples", "--output", "--axes", "--channel", "--json"}
    help_text = re.sub(r"\s+", " ", call("--help").stdout)
    assert str(CompareSettings.model_fields["samples"].description) in help_text


def test_compare_writes_table_1_and_the_images(model: None, stack: SyntheticStack, untrained: Denoiser) -> None:
    arguments = "noisy.tif --model model.safetensors --truth truth.tif --samples 3,1 --output out --json"
    result = call(*arguments.split())
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    rows = json.loads(line)["rows"]
    assert [(row["method"], row["samples"]) for row in rows] == [("mean", 1), ("mean", 3), ("direct", 0)]
    images = {"direct.tif", "hdn_mean_1.tif", "hdn_mean_3.tif", "uncertainty.tif", "disagreement.tif"}
    assert set(os.listdir("out")) == {*images, "compare.csv"}
    for name in images:
        with tifffile.TiffFile(f"out/{name}") as file:
            assert file.series[0].shape == stack.noisy.shape
            assert file.pages[0].resolution == (5.0, 5.0)  # type: ignore[union-attr]
    np.testing.assert_array_equal(tifffile.imread("out/direct.tif"), untrained.denoise(stack.noisy))
    for row, name in zip(rows, ("hdn_mean_1", "hdn_mean_3", "direct"), strict=True):
        assert row["psnr"] == pytest.approx(evaluate(tifffile.imread(f"out/{name}.tif"), stack.truth).psnr)
        assert row["seconds"] > 0
        assert row["chi_square"] > 0
    difference = tifffile.imread("out/direct.tif") - tifffile.imread("out/hdn_mean_3.tif")
    expected = difference / untrained.std(stack.noisy)
    np.testing.assert_allclose(tifffile.imread("out/disagreement.tif"), expected, atol=1e-3)
    with open("out/compare.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in table] == pytest.approx([row["psnr"] for row in rows], rel=1e-5)


def test_compare_without_truth_has_the_distance_to_the_last_mean(model: None) -> None:
    result = call("noisy.tif", "--model", "model.safetensors", "--samples", "1,2", "--output", "out")
    assert result.exit_code == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert "RMS" in head
    assert [line.split("  ")[0].strip() for line in lines] == ["HDN mean (N=1)", "HDN mean (N=2)", "direct"]
    with open("out/compare.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["psnr"] for row in table] == ["", "", ""]
    assert float(table[0]["rms_from_final_mean"]) > float(table[1]["rms_from_final_mean"]) == 0


BAD = {
    "no samples": ("--samples 0", "--samples: .*found 0"),
    "samples in words": ("--samples 1,few", "--samples: .*found 1,few"),
    "truth of another shape": ("--truth small.npy", r"\(2, 64, 64\).*\(1, 40, 40\)"),
    "flat truth": ("--truth flat.npy", "contrast"),
    "output is a file": ("--output noisy.tif", "the file noisy.tif"),
    "no folder to make it in": ("--output no/out", "create it"),
    "no model": ("--model none.safetensors", "none.safetensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_any_work(case: str, model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoModel, "direct", lambda *_, **__: pytest.fail("work began"))
    np.save("small.npy", np.random.default_rng(0).normal(size=(40, 40)))
    np.save("flat.npy", np.ones((2, 64, 64)))
    files = sorted(os.listdir())
    options, words = BAD[case]
    given = {"--model": "model.safetensors", "--output": "out"}
    changed = options.split()
    given[changed[0]] = changed[1]
    result = call("noisy.tif", *(part for pair in given.items() for part in pair))
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert re.search(f"^Error: .*{words}", line)
    assert sorted(os.listdir()) == files
