"""Tables that compare results: what is measured against a truth, and what residuals say without one."""

from __future__ import annotations

import csv
from collections.abc import Generator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch

from napari_direct_denoiser import (
    GaussianNoise,
    ImageError,
    PoissonGaussianNoise,
)
from napari_direct_denoiser.data.images import LazyPlanes, as_planes
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
