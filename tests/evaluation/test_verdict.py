"""Which of the direct pass and the mean of samples is better: what is said of images whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.evaluation.estimated_errors import EstimatedErrors
from napari_direct_denoiser.evaluation.referee import EstimatedGain
from napari_direct_denoiser.evaluation.sample_convergence import SampleConvergence
from napari_direct_denoiser.evaluation.verdict import Compared, estimated, measured
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


def judged(result: SampleConvergence, *differences: RiskDifference, **gain: object) -> Compared:
    """Compare with estimates, of which the direct pass has a mean squared error of 16 and the blur one of 160."""
    known = {"gain_db": 10.0, "error_db": 0.1, "gain_counts": 12.0, "best": "direct", "blur_sigma": 2.0, **gain}
    return estimated(result, EstimatedErrors(EstimatedGain(**known), differences))


def test_estimated_errors_give_the_same_words_and_how_sure_they_are(
    result: SampleConvergence, truth: np.ndarray
) -> None:
    exact = measured(result, truth)
    differences = [RiskDifference(16 - error**2, 0.1) for error in exact.errors[:-1]]
    found = judged(result, *differences)
    assert found.errors == pytest.approx(exact.errors)
    assert found.verdict.gain_db == pytest.approx(exact.verdict.gain_db)
    assert "an estimated 0.91 ± 0.03 dB" in found.verdict.sentence()  # 10 / ln(10) * 0.1 / 13


def test_a_difference_within_two_standard_errors_is_none(result: SampleConvergence) -> None:
    sentence = judged(result, RiskDifference(-2.0, 1.5)).verdict.sentence()
    assert "as good as the mean of 100 samples" in sentence
    assert "better" not in sentence
    assert "is better than the mean of 100 samples by" in (judged(result, RiskDifference(-4.0, 1.5)).verdict.sentence())


def test_what_is_not_known_is_not_said(result: SampleConvergence) -> None:
    in_counts = judged(result, RiskDifference(-4.0, 1.5), gain_db=None)
    assert in_counts.errors is None
    assert "an estimated 4 ± 1.5 counts²" in in_counts.verdict.sentence()
    nothing = judged(result, gain_db=None, gain_counts=None, why="The noise is clipped")
    assert nothing.errors is None
    assert nothing.verdict.gain_db is None
    assert nothing.verdict.sentence().endswith("is not known. The noise is clipped.")


def test_a_blur_that_would_do_is_named(result: SampleConvergence) -> None:
    sentence = judged(result, RiskDifference(-4.0, 1.5), gain_db=0.05, gain_counts=0.43).verdict.sentence()
    assert sentence.endswith("a Gaussian blur of sigma 2 pixels: the blur would do.")
