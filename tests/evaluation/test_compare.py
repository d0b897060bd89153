"""Figures of results, running means of a known denoising distribution, and the command that writes both."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from typer.main import get_command
from typer.testing import CliRunner

from napari_direct_denoiser import (
    Denoiser,
    GaussianNoise,
    ImageError,
    PoissonGaussianNoise,
    TrainSettings,
)
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import PRESETS, CompareSettings
from napari_direct_denoiser.data.images import LazyPlanes, as_planes
from napari_direct_denoiser.data.synthetic import SyntheticStack, simulate
from napari_direct_denoiser.evaluation.compare import (
    Judged,
    Row,
    chi_square,
    neighbour_correlation,
    plane_figures,
    table_steps,
    table_text,
)
from napari_direct_denoiser.evaluation.metrics import evaluate
from napari_direct_denoiser.evaluation.sample_convergence import SampleConvergence, sample_convergence_steps
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.progress import Progress, drain

SIGMA = 5.0


def run(steps: Generator[Progress, None, Any]) -> tuple[list[Progress], Any]:
    """Give what a generator yields and returns."""
    told: list[Progress] = []
    return told, drain(steps, told.append)


def variance(signal: Any) -> Any:
    return np.full_like(signal, SIGMA**2)


# What a residual says.


def test_residual_of_white_noise_is_white_and_of_stripes_is_not(rng: np.random.Generator) -> None:
    white = rng.normal(size=(200, 300))
    assert abs(neighbour_correlation(white, 0) or 1) < 0.02
    assert abs(neighbour_correlation(white, 1) or 1) < 0.02
    stripes = np.repeat(rng.normal(size=(200, 1)), 300, axis=1)  # along x
    assert neighbour_correlation(white + stripes, 1) == pytest.approx(0.5, abs=0.05)
    assert abs(neighbour_correlation(white + stripes, 0) or 1) < 0.15
    # averages of two neighbours, as interpolation makes them, share one
    assert neighbour_correlation(white[:, 1:] + white[:, :-1], 1) == pytest.approx(0.5, abs=0.02)
    figures = plane_figures(stripes, np.zeros_like(stripes))
    assert figures["residual_correlation_x"] == pytest.approx(1)
    assert abs(figures["residual_correlation_y"] or 1) < 0.2
    assert neighbour_correlation(np.ones((8, 8)), 1) is None
    assert neighbour_correlation(np.ones((8, 1)), 1) is None


@pytest.mark.parametrize("noise", [GaussianNoise(SIGMA), PoissonGaussianNoise(2.0, 100.0, 3.0)], ids=lambda n: n.kind)
def test_chi_square_is_1_for_the_signal_and_tells_noise_kept_from_structure_removed(noise: Any) -> None:
    signal = torch.linspace(110, 400, 300).repeat(300, 1)
    noisy = noise.sample(signal, torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    clean = signal.numpy()

    def found(image: Any) -> float:
        return chi_square(noisy, image, lambda plane: noise.variance(torch.from_numpy(plane)).numpy())

    assert found(clean) == pytest.approx(1, abs=0.03)
    assert found(clean + 0.5 * (noisy - clean)) == pytest.approx(0.25, abs=0.03)
    assert found(np.full_like(clean, clean.mean())) > 3


def test_rows_are_means_over_planes(rng: np.random.Generator) -> None:
    truth = rng.uniform(50, 200, (3, 40, 30)).astype(np.float32)
    noisy = (truth + rng.normal(0, SIGMA, truth.shape)).round().clip(0).astype(np.uint16)
    direct, other = truth + 1, truth - 1
    results = [Judged(other, "mean", 10, 2.0, "a mean"), Judged(direct, "direct", 0, 0.5, "a direct pass")]
    told, (mean, best) = run(table_steps(noisy, results, truth=truth, variance=variance, final_mean=other))
    fractions = [each.fraction for each in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    expected = evaluate(direct, truth)
    assert (best.psnr, best.ssim) == (pytest.approx(expected.psnr), pytest.approx(expected.ssim))
    assert best.chi_square == pytest.approx(1, abs=0.1)
    assert abs(best.residual_correlation_x) < 0.1
    assert (mean.rms_from_direct, best.rms_from_direct) == (pytest.approx(2, abs=1e-3), 0)
    assert (mean.rms_from_final_mean, best.rms_from_final_mean) == (0, pytest.approx(2, abs=1e-3))
    assert (mean.name, mean.method, mean.samples, mean.seconds) == ("a mean", "mean", 10, 2.0)
    assert mean.megapixels_per_second == pytest.approx(3 * 40 * 30 / 1e6 / 2)


def test_what_is_not_given_is_not_said(rng: np.random.Generator) -> None:
    noisy = rng.normal(100, 5, (1, 16, 16))
    _, (row,) = run(table_steps(noisy, [Judged(noisy + 1, "by hand")]))
    said = {name for name, value in vars(row).items() if value not in (None, "")}
    assert said == {"method"}  # the residual is 1 everywhere: nothing to correlate


def test_one_true_plane_serves_all(rng: np.random.Generator) -> None:
    noisy, truth = rng.normal(100, 5, (3, 16, 16)), rng.normal(100, 5, (1, 16, 16))
    _, (row,) = run(table_steps(noisy, [Judged(noisy, "x")], truth=truth))
    assert row.psnr == pytest.approx(evaluate(noisy, truth).psnr)


@pytest.mark.parametrize("wrong", ["truth", "result"])
def test_shapes_that_differ_are_refused_by_name(wrong: str) -> None:
    noisy, small = np.zeros((2, 16, 16)), np.zeros((2, 16, 15))
    result = Judged(small if wrong == "result" else noisy, "mean", name="my result")
    steps = table_steps(noisy, [result], truth=small if wrong == "truth" else None)
    with pytest.raises(ImageError, match=r"\(16, 16\), found \(16, 15\) in (the truth|my result)"):
        run(steps)


def test_text_of_a_table_is_read_back(rng: np.random.Generator) -> None:
    rows = [Row("with, comma", "mean", 10, 1.25, None, 30.123456), Row("other", "direct", 0)]
    found = list(csv.DictReader(table_text(rows).splitlines()))
    assert list(found[0]) == list(Row.__dataclass_fields__)
    assert (found[0]["name"], found[0]["psnr"], found[1]["psnr"]) == ("with, comma", "30.1235", "")
    assert table_text(rows, "\t").splitlines()[0].split("\t") == list(found[0])


@pytest.mark.parametrize("axes", ["YX", "TYX", "YXT", "TXZY"])
def test_lazy_planes_are_those_of_the_engine_and_read_one_by_one(axes: str, rng: np.random.Generator) -> None:
    shape = dict(zip("YXTZ", (5, 6, 3, 2), strict=True))
    image = rng.normal(size=[shape[axis] for axis in axes])
    expected = as_planes(image, axes).data
    read = []
    lazy = LazyPlanes(
        da.from_array(image, chunks=1).map_blocks(lambda block: read.append(0) or block, dtype=float), axes
    )
    read.clear()
    assert len(lazy) == len(expected)
    np.testing.assert_array_equal(lazy[len(lazy) - 1], expected[-1])
    assert len(read) <= 5 * 6
    np.testing.assert_array_equal([*lazy], expected)


# Running means.


class Known(CoModel):
    """Networks whose samples are the image + 1 +- 3, and whose direct pass is the image + 1.5 in the left half."""

    def __init__(self) -> None:
        normalization = Normalization(units="noise", mean=0, std=1, slope=0, intercept=1, level=0)
        super().__init__(PRESETS["quick"].model, GaussianNoise(1.0), normalization)
        self.drawn: list[torch.Tensor] = []

    def direct(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy + torch.where(torch.arange(noisy.shape[-1]) < noisy.shape[-1] // 2, 1.5, 1.0)

    def encode(self, noisy: torch.Tensor) -> list[torch.Tensor]:
        return [noisy]

    def sample(self, encoding: Sequence[torch.Tensor], generators: Sequence[torch.Generator]) -> torch.Tensor:
        draws = [torch.randn(encoding[0].shape[1:], generator=generator) for generator in generators]
        drawn = encoding[0] + 1 + 3 * torch.stack(draws)
        self.drawn.extend(drawn)
        return drawn


def test_means_draw_each_sample_once_and_contain_the_ones_before() -> None:
    known, planes = Known(), np.zeros((1, 32, 48), np.float32)
    told, found = run(sample_convergence_steps(known, planes, (1, 10, 400)))
    samples = torch.cat(known.drawn[1:]).numpy()  # the first one is drawn before times are taken
    assert len(samples) == 400
    assert len(np.unique(samples[:, 0, 0])) == 400
    for n, mean in zip(found.samples, found.means, strict=True):
        np.testing.assert_allclose(mean[0, :32, :48], samples[:n, :32, :48].mean(0), atol=1e-4)
    np.testing.assert_allclose(found.std[0], samples[:, :32, :48].std(0, ddof=1), atol=1e-3)
    assert found.seconds == tuple(sorted(found.seconds))
    fractions = [each.fraction for each in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert [(row.method, row.samples) for row in found.judged()] == [
        ("mean", 1),
        ("mean", 10),
        ("mean", 400),
        ("direct", 0),
    ]


def test_disagreement_is_where_they_differ_by_3_standard_errors() -> None:
    _, found = run(sample_convergence_steps(Known(), np.zeros((1, 64, 128)), [400]))
    left, right = found.disagreement[:, :, :64], found.disagreement[:, :, 64:]
    assert left.mean() > 0.5  # 0.5 is 3.3 standard errors of 3 / sqrt(400)
    assert right.mean() < 0.01  # by chance in 0.3 %


def test_a_single_sample_has_no_standard_deviation() -> None:
    _, found = run(sample_convergence_steps(Known(), np.zeros((1, 8, 8)), [1]))
    assert isinstance(found, SampleConvergence)
    assert found.std is None
    assert found.disagreement is None


def test_time_that_the_caller_takes_is_not_counted() -> None:
    began = time.perf_counter()
    found = drain(
        sample_convergence_steps(Known(), np.zeros((1, 8, 8)), [1, 2]),
        lambda progress: time.sleep(0.2),
    )
    assert time.perf_counter() - began > 1
    assert found.seconds[-1] + found.direct_seconds < 0.4


# The command.


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
    assert found == {"--model", "--truth", "--samples", "--output", "--axes", "--channel", "--json"}
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
    assert set(np.unique(tifffile.imread("out/disagreement.tif"))) <= {0, 1}
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
