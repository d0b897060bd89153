"""Tiny models whose networks are random, and the networks of the quick preset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import CorrelatedNoise, GaussianNoise, NoiseModel, PoissonGaussianNoise
from napari_direct_denoiser.noise.line_noise import LineNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.system import Compute
from napari_direct_denoiser.training.provenance import Provenance

FAST = ModelConfig(
    hdn=HDNConfig(filters=(4, 4), latent_channels=2, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True),
    units="noise",
)
PUBLISHED = ModelConfig(
    hdn=HDNConfig(filters=(4, 4), latent_channels=2, blocks=1, space_to_depth=1, gated=True),
    direct=UNetConfig(filters=(4, 8), blocks=1, space_to_depth=1, published=True),
    units="image",
)
POISSON = PoissonGaussianNoise(2.0, 100.0, 3.0)
CORRELATED = CorrelatedNoise.of(POISSON, [[0.0, 0.3, 0.0], [0.6, 0.0, 0.0]])
"""Its coloring filter has more than 64 pixels: the package uses a Fourier transform."""
MODELS: dict[str, tuple[ModelConfig, NoiseModel]] = {
    "poisson": (FAST, POISSON),
    "gaussian": (FAST, GaussianNoise(8.0)),
    "correlated": (FAST, CORRELATED),
    "published": (PUBLISHED, POISSON),
    "lines": (FAST, LineNoise(POISSON, row_std=2.0)),
}


@pytest.fixture(scope="package")
def noisy() -> NDArray[np.float32]:
    return simulate(planes=1, size=448, seed=1).noisy[0].astype(np.float32)


@pytest.fixture(scope="package")
def tiny(noisy: NDArray[np.float32]) -> Callable[[str], Denoiser]:
    """Make a tiny model by name."""

    def make(name: str) -> Denoiser:
        config, noise = MODELS[name]
        model = CoModel.initialized(config, noise, Normalization.of([noisy[None]], config.units, noise), 0).eval()
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in model.unet.parameters():
                weights += 0.1 * torch.randn(weights.shape, generator=draws)
        provenance = Provenance(settings=TrainSettings(), axes="YX", version="0.1.0", torch_version="2.5.0")
        return Denoiser(model, provenance)

    return make


@pytest.fixture(scope="package")
def quick(noisy: NDArray[np.float32]) -> Denoiser:
    """The networks of the quick preset with the weights that training starts from, in float32."""
    denoiser = Denoiser.for_images([noisy], TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu"))
    denoiser.model.compute = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
    return denoiser


@pytest.fixture(scope="package")
def least_noise() -> float:
    """Standard deviation of the noise of a Poisson model in the dark, counts; others have more."""
    return float(POISSON.variance(torch.tensor(100.0))) ** 0.5
