"""HDN 3-6 takes short lines out of the image; plain HDN with a model of independent noise takes them for structure."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.synthetic import simulate


def lines_kept(
    structured: bool, noise: str, noisy: NDArray[np.float32], truth: NDArray[np.float32], lines: NDArray[np.float64]
) -> list[float]:
    """Part of the line noise that is still in the mean of 8 samples and in the direct pass, 0 to 1."""
    settings = TrainSettings(preset="quick", noise=noise, structured=structured, max_steps=25, device="cpu")
    denoiser = Denoiser.for_images(noisy, settings)
    for _ in denoiser.train_steps():
        pass
    results = denoiser.posterior_mean(noisy, 8), denoiser.denoise(noisy)
    return [float(((result - truth) * lines).mean() / (lines**2).mean()) for result in results]


@pytest.mark.slow
@pytest.mark.usefixtures("few_patches_to_validate")
def test_structured_removes_lines_that_plain_hdn_keeps() -> None:
    stack = simulate(planes=4, size=128, seed=0)
    lines = uniform_filter1d(np.random.default_rng(0).normal(0, 1, stack.noisy.shape), 8, axis=2)  # 8 pixels long
    lines *= 10 / lines.std()  # counts; the camera's own noise is about 5
    noisy = (stack.noisy + lines).astype(np.float32)
    independent = f"poisson:{stack.gain},{stack.offset},{np.hypot(stack.read_noise, 10)}"
    plain, structured = (lines_kept(which, independent, noisy, stack.truth, lines) for which in (False, True))
    for kept, removed in zip(plain, structured, strict=True):
        assert kept > 0.2
        assert removed < 0.5 * kept
    assert max(lines_kept(False, "auto", noisy, stack.truth, lines)) < 0.2  # models them as correlated noise
