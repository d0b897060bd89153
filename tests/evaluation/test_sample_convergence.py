"""Means of a growing number of samples from a known denoising distribution, and the direct pass beside them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_direct_denoiser import GaussianNoise
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.evaluation.sample_convergence import Snapshot, sample_convergence_steps
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import Progress, drain


class Known(CoModel):
    """Networks whose samples are the image + 1 +- 3, and whose direct pass is the image + 1.5 in the left half."""

    def __init__(self) -> None:
        normalization = Normalization(units="noise", mean=0, std=1, slope=0, intercept=1, level=0)
        super().__init__(PRESETS["quick"].model, GaussianNoise(1.0), normalization)
        self.drawn: list[torch.Tensor] = []

    def direct(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy + torch.where(torch.arange(noisy.shape[-1]) < noisy.shape[-1] // 2, 1.5, 1.0)

    def direct_with_std(self, noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.direct(noisy), torch.full_like(noisy, 0.25)

    def encode(self, noisy: torch.Tensor) -> list[torch.Tensor]:
        return [noisy]

    def sample(self, encoding: Sequence[torch.Tensor], generators: Sequence[torch.Generator]) -> torch.Tensor:
        draws = [torch.randn(encoding[0].shape[1:], generator=generator) for generator in generators]
        drawn = encoding[0] + 1 + 3 * torch.stack(draws)
        self.drawn.extend(drawn)
        return drawn


def test_means_draw_each_sample_once_and_contain_the_ones_before() -> None:
    known, planes = Known(), np.zeros((1, 32, 48), np.float32)
    told: list[Progress] = []
    found = drain(sample_convergence_steps(known, planes, (1, 10, 400)), told.append)
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


def test_results_so_far_are_shown_whenever_the_number_of_samples_has_doubled() -> None:
    known, shown = Known(), []
    found = drain(
        sample_convergence_steps(known, np.zeros((1, 16, 16)), (1, 10)),
        lambda progress: shown.append(progress) if isinstance(progress, Snapshot) else None,
    )
    assert [each.samples for each in shown] == [1, 2, 4, 8, 10]
    samples = torch.cat(known.drawn[1:]).numpy()
    for each in shown:
        np.testing.assert_allclose(each.mean[0], samples[: each.samples].mean(0), atol=1e-4)
        np.testing.assert_array_equal(each.sample[0], samples[0])
        np.testing.assert_array_equal(each.direct, found.direct)
    assert found.samples == (1, 10)


def test_disagreement_is_in_units_of_the_deviation_of_the_direct_pass() -> None:
    found = drain(sample_convergence_steps(Known(), np.zeros((1, 64, 128)), [400]))
    assert found.disagreement[..., :64].mean() == pytest.approx(0.5 / 0.25, abs=0.02)  # direct is 0.5 brighter there
    assert found.disagreement[..., 64:].mean() == pytest.approx(0, abs=0.02)
    of_samples = replace(found, direct_std=None)  # a model of an older version
    assert of_samples.disagreement[..., :64].mean() == pytest.approx(0.5 / 3, abs=0.005)
    flat = replace(found, direct_std=np.zeros_like(found.direct))
    assert np.isfinite(flat.disagreement).all()


def test_a_single_sample_has_no_standard_deviation() -> None:
    found = drain(sample_convergence_steps(Known(), np.zeros((1, 8, 8)), [1]))
    assert found.std is None
    assert replace(found, direct_std=None).disagreement is None


def test_time_that_the_caller_takes_is_not_counted() -> None:
    slept = 0.0

    def dawdle(progress: Progress) -> None:
        nonlocal slept
        began = time.perf_counter()
        time.sleep(0.1)
        slept += time.perf_counter() - began

    began = time.perf_counter()
    found = drain(sample_convergence_steps(Known(), np.zeros((1, 8, 8)), [1, 2]), dawdle)
    assert slept > 0.5
    assert found.seconds[-1] + found.direct_seconds <= time.perf_counter() - began - slept
