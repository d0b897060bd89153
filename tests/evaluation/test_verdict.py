"""Which of the direct pass and the mean of samples is better: what is said of images whose errors are known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from napari_direct_denoiser.evaluation.sample_convergence import SampleConvergence
from napari_direct_denoiser.evaluation.verdict import estimated, measured, undecided
from napari_direct_denoiser.risk import RiskDifference

BIAS, STD = 3.0, 20.0


@pytest.fixture
def truth(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(100, 10, (1, 128, 128)).astype(np.float32)


@pytest.fixture
def result(truth: np.ndarray, rng: np.random.Generator) -> SampleConvergence:
    """Samples around the truth plus a bias, and a direct pass that is wrong by 4 everywhere."""
    samples = (truth + BIAS + rng.normal(0, STD, (100, *truth.shape[1:]))).astype(np.float32)
    counts = (1, 10, 100)
    means = tuple(samples[:n].mean(0, keepdims=True) for n in counts)
    std = samples.std(0, ddof=1, keepdims=True)
    return SampleConvergence(counts, means, (0.5, 5.0, 50.0), samples[:1], std, truth + 4, None, 0.25)


def test_errors_against_a_truth_are_measured(result: SampleConvergence, truth: np.ndarray) -> None:
    found = measured(result, truth)
    expected = [*(np.sqrt(BIAS**2 + STD**2 / n) for n in (1, 10, 100)), 4]
    assert found.errors == pytest.approx(expected, rel=0.02)
    assert found.verdict.gain_db == pytest.approx(20 * np.log10(expected[-2] / 4), abs=0.1)
    sentence = found.verdict.sentence()
    assert sentence.startswith(
        "The mean of 100 samples is better than the direct pass by 0.91 dB (RMS error 4 against 3.6)"
    )
    assert "200 times as fast (0.25 s against 50 s)" in sentence
    assert "estimated" not in sentence


def test_the_curve_is_estimated_from_one_difference(result: SampleConvergence, truth: np.ndarray) -> None:
    exact = measured(result, truth)
    difference = exact.errors[-1] ** 2 - exact.errors[-2] ** 2
    found = estimated(result, RiskDifference(difference, 0.1), direct_mse=16.0)
    assert found.errors == pytest.approx(exact.errors, rel=0.02)
    assert found.verdict.gain_db == pytest.approx(exact.verdict.gain_db)
    assert "an estimated 0.91" in found.verdict.sentence()
    assert re.search(r"\d ± 0.03 dB", found.verdict.sentence())  # 10 / ln(10) * 0.1 / 16


def test_a_difference_within_two_standard_errors_is_none(result: SampleConvergence) -> None:
    sentence = estimated(result, RiskDifference(-2.0, 1.5), direct_mse=16.0).verdict.sentence()
    assert "as good as the mean of 100 samples" in sentence
    assert "better" not in sentence
    assert "better than the mean of 100 samples by" in (
        estimated(result, RiskDifference(-4.0, 1.5), direct_mse=16.0).verdict.sentence()
    )


def test_what_is_not_known_is_not_said(result: SampleConvergence) -> None:
    in_counts = estimated(result, RiskDifference(-4.0, 1.5), direct_mse=None)
    assert in_counts.errors is None
    assert "an estimated 4 ± 1.5 counts²" in in_counts.verdict.sentence()
    nothing = undecided(result, "the noise is clipped")
    assert nothing.errors is None
    assert nothing.verdict.gain_db is None
    assert nothing.verdict.sentence().endswith("cannot be said: the noise is clipped.")
