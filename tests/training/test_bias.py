"""The line that makes HDN's samples unbiased."""

from __future__ import annotations

import pytest
import torch

from napari_direct_denoiser.normalization import NetworkInput, gaussian_blur
from napari_direct_denoiser.training.bias import BiasCorrection


def images(seed: int, contrast: float = 100.0) -> tuple[torch.Tensor, NetworkInput]:
    """Smooth scenes (4, 1, 64, 64) about 500 counts, and the same with noise of std 20."""
    generator = torch.Generator().manual_seed(seed)
    scene = gaussian_blur(torch.randn(4, 1, 64, 64, generator=generator), 4.0)
    clean = 500 + contrast * scene / scene.std()
    noisy = clean + 20 * torch.randn(clean.shape, generator=generator)
    return clean, NetworkInput(noisy, noisy, noisy, noisy)


def line(scale: float, shift: float, contrast: float = 100.0) -> tuple[float, float]:
    """What is found where samples are (clean - shift) / scale, with an error of their own."""
    correction = BiasCorrection(torch.device("cpu"))
    for seed in range(10):
        clean, inputs = images(seed, contrast)
        error = 10 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(100 + seed))
        correction.add(inputs, (clean - shift) / scale + error)
    scale, shift = correction.line().tolist()
    return scale, shift


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, 30.0), (1.05, -40.0), (0.95, 10.0)])
def test_a_bias_along_a_line_is_found(scale: float, shift: float) -> None:
    found = line(scale, shift)
    assert found[0] == pytest.approx(scale, abs=0.01)
    assert 500 / scale * found[0] + found[1] - shift / scale * found[0] == pytest.approx(500, abs=1.0)


def test_without_contrast_only_the_shift_is_corrected() -> None:
    scale, shift = line(1.0, 30.0, contrast=0.1)
    assert scale == pytest.approx(1.0, abs=0.1)
    assert scale * 470 + shift == pytest.approx(500, abs=1.0)


def test_before_anything_was_added_nothing_is_corrected() -> None:
    assert BiasCorrection(torch.device("cpu")).line().tolist() == [1.0, 0.0]
