"""The command export: files for other software, or one line that says why not, before any work."""

from __future__ import annotations

import zipfile
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, PoissonGaussianNoise, TrainSettings
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise.line_noise import LineNoise

NOISY = simulate(planes=1, size=64).noisy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Denoiser.for_images([NOISY], TrainSettings(noise="poisson:2,100,3", device="cpu")).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *arguments])
    return result.exit_code, result.stderr


def test_writes_both_files(model: str) -> None:
    assert export(model, "--onnx", "out.onnx", "--bioimageio", "out.zip") == (0, "Wrote out.zip\nWrote out.onnx\n")
    assert [tensor.name for tensor in onnx.load("out.onnx").graph.output] == ["denoised"]
    with zipfile.ZipFile("out.zip") as package:
        assert {"rdf.yaml", "direct_pass.onnx", "direct_pass.pt", "README.md"} <= set(package.namelist())


@pytest.mark.parametrize(
    ("files", "words"),
    {
        "suffix": ("--onnx out.txt --bioimageio out.zip", "Expected the ONNX file to end in .onnx, found out.txt"),
        "second suffix": ("--onnx out.onnx --bioimageio out.tar", "package to end in .zip, found out.tar"),
        "folder": ("--bioimageio absent/out.zip", "Folder absent does not exist"),
    }.values(),
)
def test_refuses_before_any_work(model: str, files: str, words: str) -> None:
    status, said = export(model, *files.split())
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("Error: ")
    assert words in said
    assert not list(Path().iterdir())


def test_refuses_offsets_of_lines() -> None:
    noise = LineNoise(PoissonGaussianNoise(2, 100, 3), column_std=4.0)
    Denoiser.for_images([NOISY], TrainSettings(device="cpu"), noise=noise).save("lines.safetensors")
    status, said = export("lines.safetensors", "--onnx", "out.onnx")
    assert status == 1
    assert "column offsets of std 4 counts" in said
    assert not Path("out.onnx").exists()


def test_needs_a_file_to_write(model: str) -> None:
    status, said = export(model)
    assert status == 2
    assert "--onnx, --bioimageio" in said
