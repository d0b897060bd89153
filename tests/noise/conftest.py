"""One example of every noise model, for the tests of what all of them promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from napari_direct_denoiser.noise import (
    ClippedNoise,
    GaussianNoise,
    HistogramNoise,
    InterpolatedNoise,
    LineNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PulseNoise,
    RecordedNoise,
    ScaledCorrelatedNoise,
    StudentNoise,
)
from napari_direct_denoiser.noise.correlated import CorrelatedNoise

WEIGHT = [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]]


def mixture() -> MixtureNoise:
    return MixtureNoise(torch.tensor(WEIGHT), min_signal=200.0, max_signal=1200.0, min_sigma=4.0)


def histogram(bins: int = 200) -> HistogramNoise:
    """A Gaussian with std 12 counts, as PN2V's histogram of signals and noisy values from 0 to 400."""
    edges = np.linspace(0, 400, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    rows = np.diff(stats.norm.cdf(edges[None], centres[:, None], 12.0), axis=1)
    rows[(centres < 80) | (centres > 320)] = 1e-30  # signals that the calibration did not visit
    return HistogramNoise(torch.from_numpy(rows), 0.0, 400.0)


# Every kind of noise model has at least one example here, and so is covered by test_contract.py.
EXAMPLES: list[NoiseModel] = [
    GaussianNoise(3.0),
    PoissonGaussianNoise(2.0, 100.0, 3.0),
    PoissonGaussianNoise(100.0, 1000.0, 0.0, skew=1.5),
    mixture(),
    histogram(),
    StudentNoise(5.0, 6.0),
    CorrelatedNoise.of(PoissonGaussianNoise(2.0, 0.0, 3.0), [[0.1, 0.2, 0.05], [0.4, 0.0, 0.0]]),
    ScaledCorrelatedNoise.of(PoissonGaussianNoise(2.0, 0.0, 3.0), [[0.1, 0.2, 0.05], [0.4, 0.0, 0.0]]),
    CorrelatedNoise.of(PoissonGaussianNoise(2.0, 0.0, 3.0), [[0.5, 0.0, 0.0]], "odd"),
    ScaledCorrelatedNoise.of(PoissonGaussianNoise(2.0, 0.0, 3.0), [[0.5, 0.0, 0.0]], "even"),
    RecordedNoise(PoissonGaussianNoise(2.0, 0.0, 3.0), low=-100.0, high=5000.0),
    LineNoise(GaussianNoise(12.0), row_std=6.0, column_std=2.0),
    InterpolatedNoise(PoissonGaussianNoise(2.0, 0.0, 3.0), "checkerboard", row=1),
    PulseNoise(20.0, 100.0, 2.0, skew=1.25),
    ClippedNoise(PoissonGaussianNoise(2.0, 0.0, 3.0), low=-100.0, step=1.0),
]


@pytest.fixture(params=EXAMPLES, ids=lambda model: model.kind)
def model(request: pytest.FixtureRequest, device: torch.device) -> NoiseModel:
    """Each example in turn."""
    example: NoiseModel = request.param
    return example.to(device)


@pytest.fixture
def examples() -> list[NoiseModel]:
    """All of them."""
    return EXAMPLES


@pytest.fixture
def mixture_example() -> MixtureNoise:
    return mixture()


@pytest.fixture
def histogram_example() -> HistogramNoise:
    return histogram()
