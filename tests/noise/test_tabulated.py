"""Mixtures and histograms are the densities they were made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from napari_direct_denoiser.noise import HistogramNoise, MixtureNoise, from_document

WEIGHT = np.array(
    [[0.1, 0.3], [-0.2, 0.1], [0.4, -0.5], [2.0, 5.0], [3.0, 4.0], [1.0, 6.0], [0.5, 0.0], [0.0, 0.7], [-0.3, 0.2]],
    dtype=np.float32,
)


def test_mixture_follows_the_published_layout(mixture_example: MixtureNoise) -> None:
    signal, noisy = 700.0, 730.0
    t = (signal - 200) / 1000
    mean = WEIGHT[:3] @ [1, t]
    variance = np.maximum(np.exp(WEIGHT[3:6]) @ [1, t], 4.0)
    weight = np.exp(WEIGHT[6:] @ [1, t])
    weight /= weight.sum()
    mean = mean - weight @ mean + signal
    expected = np.log(weight @ stats.norm.pdf(noisy, mean, np.sqrt(variance)))
    found = mixture_example.log_prob(torch.tensor([noisy]), torch.tensor([signal]))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_mixture_goes_on_beyond_its_range(mixture_example: MixtureNoise) -> None:
    """Below, the shape of the noise stays; above, its variance goes on in a straight line."""
    low, end, near, far = mixture_example.variance(torch.tensor([200.0, 1200.0, 1201.0, 2200.0])).tolist()
    assert mixture_example.variance(torch.tensor([-500.0])).item() == low
    assert far - end == pytest.approx(1000 * (near - end), rel=0.05)
    assert far > end


def test_histogram_is_the_density_it_was_made_from(histogram_example: HistogramNoise) -> None:
    noisy, signal = torch.linspace(181, 221, 41), torch.full((41,), 201.0)
    expected = stats.norm.logpdf(noisy.numpy(), 201.0, 12.0)
    np.testing.assert_allclose(histogram_example.log_prob(noisy, signal).numpy(), expected, atol=0.15)
    assert histogram_example.signal_range == pytest.approx((81.0, 319.0))


def test_histogram_density_is_linear_in_the_signal_and_constant_in_a_bin(histogram_example: HistogramNoise) -> None:
    """But for the wide Gaussian, 1 % of it: so it is compared where the histogram has most of its mass."""

    def density(noisy: list[float], signal: list[float]) -> list[float]:
        given = torch.tensor(noisy, dtype=torch.float64), torch.tensor(signal, dtype=torch.float64)
        return [float(value) for value in histogram_example.log_prob(*given).exp()]

    low, middle, high = density([207.0] * 3, [201.0, 202.0, 203.0])  # bins are 2 counts wide
    assert middle == pytest.approx((low + high) / 2, rel=1e-4)
    assert abs(high - low) > 0.05 * low, "too flat: this tells nothing"
    near, far, other = density([206.01, 207.99, 208.01], [195.0] * 3)
    assert near == pytest.approx(far, rel=2e-3)
    assert other < 0.9 * near


def test_histogram_shifts_the_nearest_density_to_signals_without_data(histogram_example: HistogramNoise) -> None:
    drawn = histogram_example.sample(torch.full((50_000,), 41.0), torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(41.0, abs=1.0)
    assert float(histogram_example.variance(torch.tensor([41.0]))) == pytest.approx(144, rel=0.1)


def test_histogram_keeps_its_range_in_a_model_file(histogram_example: HistogramNoise) -> None:
    """The rows that are filled in are not saved: they would be taken for data."""
    again = from_document(histogram_example.document())
    assert again.signal_range == histogram_example.signal_range == pytest.approx((81.0, 319.0))
