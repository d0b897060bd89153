"""Statistics of posterior samples whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.calibration import Calibration, Curve
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.prediction.statistics import SampleStatistics, finite, mode


def test_the_mode_is_the_higher_of_two_peaks_and_the_densest_part_of_a_skewed_distribution(rng) -> None:
    shape = (1000, 8, 8)
    bimodal = np.where(rng.random(shape) < 0.65, 10.0, 14.0) + 0.5 * rng.standard_normal(shape)
    np.testing.assert_allclose(mode(bimodal.astype(np.float32)), 10, atol=0.15)
    skewed = mode(rng.gamma(4.0, size=shape).astype(np.float32))  # mean 4, median 3.67, mode 3
    assert float(skewed.mean()) == pytest.approx(3, abs=0.25)


def test_the_mode_of_equal_samples_is_their_value() -> None:
    np.testing.assert_array_equal(mode(np.full((5, 3, 4), 7.5, np.float32)), 7.5)


def test_mode_and_median_come_from_the_same_samples_in_any_number_of_calls(rng) -> None:
    samples = torch.from_numpy(rng.random((20, 6, 7), np.float32))
    statistics = SampleStatistics(["mode", "median", "mean"], 20, (6, 7))
    for part in samples.split(8):
        statistics.add(part)
    found = statistics.results(Calibration())
    np.testing.assert_array_equal(found["mode"], mode(samples.numpy()))
    np.testing.assert_allclose(found["median"], np.median(samples.numpy(), axis=0))
    assert found.keys() == {"mode", "median", "mean"}


def test_the_std_is_calibrated_at_the_mean(rng) -> None:
    samples = torch.from_numpy(rng.random((20, 6, 7), np.float32))
    statistics = SampleStatistics(["sample_std"], 20, (6, 7))
    statistics.add(samples)
    curve = Curve((0.4, 0.6), (1.0, 3.0))
    expected = (samples.var(0) * (curve(samples.mean(0)).square() + 1 / 20)).sqrt()  # of the mean of 20
    found = statistics.results(Calibration(samples=curve))["sample_std"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_result_that_is_not_finite_is_an_error(bad: float) -> None:
    result = np.zeros((3, 4), np.float32)
    assert finite(result) is result
    result[1, 2] = bad
    with pytest.raises(DenoiserError, match="found NaN or infinity"):
        finite(result)
