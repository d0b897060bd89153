"""Errors without a truth: estimates and samples whose errors are known, on an image whose noise is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_direct_denoiser import GaussianNoise
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.evaluation.compare import Judged, Row
from napari_direct_denoiser.evaluation.estimated_errors import estimated_errors_steps, with_estimated_gains
from napari_direct_denoiser.evaluation.sample_convergence import sample_convergence_steps
from napari_direct_denoiser.evaluation.verdict import estimated, measured
from napari_direct_denoiser.normalization import Normalization, gaussian_blur
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import drain

SIGMA, SIDE = 10.0, 192


PATTERN = torch.sin(torch.arange(SIDE)[:, None] / 25) * torch.cos(torch.arange(SIDE) / 31)


def fitted(noisy: torch.Tensor) -> torch.Tensor:
    """The best fit of the pattern of which the image consists, nearly without an error."""
    mean, pattern = noisy.mean(), PATTERN[: noisy.shape[-2], : noisy.shape[-1]] - PATTERN.mean()
    return mean + pattern * ((noisy - mean) * pattern).sum() / pattern.square().sum()


class Fitting(CoModel):
    """The direct pass is half way between the truth and a blur; samples are farther off, too bright, and scatter."""

    def __init__(self) -> None:
        normalization = Normalization(units="noise", mean=0, std=1, slope=0, intercept=SIGMA**2, level=0)
        super().__init__(PRESETS["quick"].model, GaussianNoise(SIGMA), normalization)

    def direct(self, noisy: torch.Tensor) -> torch.Tensor:
        return 0.5 * fitted(noisy) + 0.5 * gaussian_blur(noisy, 3.0)

    def direct_with_std(self, noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.direct(noisy), torch.ones_like(noisy)

    def encode(self, noisy: torch.Tensor) -> list[torch.Tensor]:
        return [0.3 * fitted(noisy) + 0.7 * gaussian_blur(noisy, 2.5) + 0.3]

    def sample(self, encoding: Sequence[torch.Tensor], generators: Sequence[torch.Generator]) -> torch.Tensor:
        draws = [torch.randn(encoding[0].shape[1:], generator=generator) for generator in generators]
        return encoding[0] + 4 * gaussian_blur(torch.stack(draws), 3.0)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return (300 + 60 * PATTERN).numpy()[None]


@pytest.fixture(scope="module")
def noisy(truth: np.ndarray) -> np.ndarray:
    return (truth + np.random.default_rng(3).normal(0, SIGMA, truth.shape)).astype(np.float32)


def test_estimated_errors_are_those_against_the_truth(truth: np.ndarray, noisy: np.ndarray) -> None:
    model = Fitting()
    result = drain(sample_convergence_steps(model, noisy, (1, 2, 4)))
    known = measured(result, truth)
    found = drain(estimated_errors_steps(model, noisy, result.direct, result.means))
    own = known.errors[-1] ** 2
    for difference, error in zip(found.differences, known.errors, strict=False):
        assert difference.difference == pytest.approx(own - error**2, abs=3 * difference.error)
        assert difference.error < 0.2 * error**2
    guessed = estimated(result, found)
    assert guessed.errors == pytest.approx(known.errors, rel=0.4)
    assert np.argsort(guessed.errors).tolist() == np.argsort(known.errors).tolist()
    assert "The direct pass is better than the mean of 4 samples by an estimated" in guessed.verdict.sentence()


def test_rows_get_the_gain_over_the_best_blur_or_the_reason_why_not(truth: np.ndarray, noisy: np.ndarray) -> None:
    model = Fitting()
    result = drain(sample_convergence_steps(model, noisy, (1, 4)))
    results = [*result.judged(), Judged(truth, "by hand")]
    rows = [Row(each.name, each.method) for each in results]
    own = [True, True, True, False]
    one, four, direct, other = drain(with_estimated_gains(model, noisy, results, rows, own))
    assert one.estimated_gain_db < four.estimated_gain_db < direct.estimated_gain_db
    errors = [np.square(each.planes - truth).mean() for each in (result.judged()[1], result.judged()[2])]
    true = 10 * np.log10(errors[0] / errors[1])
    assert direct.estimated_gain_db - four.estimated_gain_db == pytest.approx(true, abs=1.5)
    assert other.estimated_gain_db is None
    assert "chosen model" in other.estimated_gain_why
    assert direct.estimated_gain_why is None


def test_noise_that_the_model_does_not_describe_is_refused(truth: np.ndarray, noisy: np.ndarray) -> None:
    model = Fitting()
    wrong = (truth + 1.6 * (noisy - truth)).astype(np.float32)
    result = drain(sample_convergence_steps(model, wrong, (1, 2)))
    found = drain(estimated_errors_steps(model, wrong, result.direct, result.means))
    assert found.direct_mse is None
    guessed = estimated(result, found)
    assert guessed.errors is None
    assert "is not known" in guessed.verdict.sentence()
    assert found.gain.why in guessed.verdict.sentence()
    judged = [replace(each, name="x") for each in result.judged()]
    rows = [Row(each.name, each.method) for each in judged]
    refused = drain(with_estimated_gains(model, wrong, judged, rows, [True] * 3))
    assert {row.estimated_gain_why for row in refused} == {found.gain.why}
