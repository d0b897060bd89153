"""Alternatives among samples of known origin: how many, with which shares, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_direct_denoiser import GaussianNoise, ImageError
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.data.images import LazyPlanes
from napari_direct_denoiser.evaluation.alternatives import alternatives_steps, representatives
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import drain

BAR = np.zeros((64, 64), np.float32)
BAR[30:35, 10:40] = 3


@pytest.fixture
def scatter(rng):
    """Make N samples (N, 64, 64) that scatter around 0 as those of HDN do: smooth, and together in brightness."""

    def draw(n: int) -> np.ndarray:
        smooth = gaussian_filter(rng.normal(size=(n, 64, 64)), (0, 2, 2))
        return (0.5 * smooth / smooth.std() + 0.05 * rng.normal(size=(n, 1, 1))).astype(np.float32)

    return draw


def test_a_bar_in_some_samples_is_an_alternative_with_its_share(scatter, rng):
    has_bar = rng.permutation(50) < 15
    samples = scatter(50) + has_bar[:, None, None] * BAR
    found = representatives(samples)
    assert found.are_distinct
    assert found.shares == pytest.approx((0.7, 0.3))
    assert [has_bar[index] for index in found.indices] == [False, True]
    np.testing.assert_array_equal(found.labels, has_bar)
    assert representatives(samples).indices == found.indices


def test_three_alternatives(scatter):
    bars = np.array([0] * 25 + [1] * 15 + [2] * 10)
    found = representatives(scatter(50) + np.stack([0 * BAR, BAR, BAR.T])[bars])
    assert found.are_distinct
    assert found.shares == pytest.approx((0.5, 0.3, 0.2))
    assert bars[list(found.indices)].tolist() == [0, 1, 2]


@pytest.mark.parametrize("strength", ["none", "gradual", "one outlier"])
def test_samples_that_scatter_are_no_alternatives(scatter, rng, strength):
    bar = {"none": np.zeros(50), "gradual": rng.normal(size=50), "one outlier": np.arange(50) == 7}[strength]
    found = representatives(scatter(50) + bar[:, None, None] * BAR)
    assert not found.are_distinct
    assert len(set(found.indices)) == 3  # three different samples can be shown nevertheless
    assert sum(found.shares) == pytest.approx(1)


def test_equal_samples_are_one_cluster():
    found = representatives(np.full((10, 8, 8), 0.1, np.float32))
    assert (found.shares, found.are_distinct) == ((1.0,), False)


class Known(CoModel):
    """Samples are the image, with a bright line in column 40 of the plane in every third of them."""

    def __init__(self) -> None:
        normalization = Normalization(units="noise", mean=0, std=1, slope=0, intercept=1, level=0)
        super().__init__(PRESETS["quick"].model, GaussianNoise(2.0), normalization)
        self.seen: tuple[int, ...] = ()

    def encode(self, noisy: torch.Tensor) -> list[torch.Tensor]:
        self.seen = tuple(noisy.shape[-2:])
        return [noisy]

    def sample(self, encoding: Sequence[torch.Tensor], generators: Sequence[torch.Generator]) -> torch.Tensor:
        (noisy,) = encoding
        drawn = []
        for generator in generators:
            line = 20 * (torch.rand(1, generator=generator) < 1 / 3)
            spread = torch.randn(noisy.shape[1:], generator=generator)
            drawn.append(noisy[0] + spread + line * (noisy[0] % 1000 == 40))
        return torch.stack(drawn)


def test_alternatives_of_a_region_are_found_with_its_context_and_in_its_place():
    known = Known()
    columns = np.arange(600, dtype=np.float32)
    image = np.stack([columns[None] + 1000 * np.arange(500)[:, None]] * 3).transpose(2, 0, 1)  # XTY
    region = slice(200, 250), slice(20, 80)
    found = drain(alternatives_steps(known, LazyPlanes(image, "XTY"), 2, region))
    assert found.images.shape == (2, 50, 60)
    np.testing.assert_allclose(found.images[:, :, 0], image[20, 2, 200:250][None].repeat(2, 0), atol=6)
    assert found.place[1] == 40
    assert 200 <= found.place[0] < 250
    assert found.alternatives.shares[1] == pytest.approx(1 / 3, abs=0.2)
    assert 5 < found.difference < 20  # the blur spreads a line of one pixel
    assert found.sentence().startswith("2 alternatives, in ")
    assert f"at Y={found.place[0]}, X=40, by " in found.sentence()
    assert 50 + 2 * known.halo <= known.seen[0] < 500


def test_pixels_that_are_not_finite_are_refused():
    image = np.zeros((64, 64), np.float32)
    image[40, 50] = np.nan
    with pytest.raises(ImageError, match="Y=40, X=50"):
        drain(alternatives_steps(Known(), LazyPlanes(image, "YX"), 0, (slice(0, 32), slice(0, 32))))
