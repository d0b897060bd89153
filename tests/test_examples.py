"""The scripts and the notebook in examples/ run to their end, with trainings of a few steps."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import zarr

import napari_direct_denoiser.denoiser
from napari_direct_denoiser import CorrelatedNoise, Denoiser, load, read_noise

pytestmark = pytest.mark.usefixtures("small_networks")
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def short_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps instead of a minute, in an empty folder."""
    train = napari_direct_denoiser.denoiser.train

    def train_briefly(*images: Any, **settings: Any) -> Denoiser:
        return train(*images, **settings, max_steps=2, device="cpu")

    monkeypatch.setattr(napari_direct_denoiser.denoiser, "train", train_briefly)
    monkeypatch.setattr("napari_direct_denoiser.noise.calibration._PAIRS", 10_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["example"])


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name))


def test_train_and_denoise() -> None:
    run("train_and_denoise.py")
    assert load("model.safetensors", device="cpu").provenance.steps == 2
    assert Path("denoised.tif").exists()


def test_the_calibration_finds_the_correlation(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("correlated_noise.py")["fit"].autocorrelation.along_x
    assert found[1:4] == pytest.approx([0.5, 0.25, 0.125], abs=0.05)
    assert isinstance(read_noise("camera.json"), CorrelatedNoise)
    assert "denoised" in capsys.readouterr().out


def test_error_bars(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("error_bars.py")
    assert names["std"].shape == names["direct"].shape
    assert (names["std"] > 0).all()
    assert "the samples disagree most at" in capsys.readouterr().out


def test_a_zarr_is_streamed() -> None:
    run("stream_zarr.py")
    source, result = (zarr.open_array(name, mode="r") for name in ("stack.zarr", "denoised.zarr"))
    assert result.shape == source.shape
    assert result.dtype == "float32"
    assert float(result[-1].std()) < float(source[-1].std())


def test_the_notebook() -> None:
    notebook = json.loads((EXAMPLES / "one_pass.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])  # results of one machine are not kept
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"one_pass.ipynb, code cell {number}", "exec"), names)
    assert set(names["results"]) == {"mean of 1 samples", "mean of 10 samples", "mean of 50 samples", "direct pass"}


def test_every_example_is_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in tests] == []
