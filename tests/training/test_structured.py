"""HDN 3-6 takes short lines out of the image; plain HDN with a model of independent noise takes them for structure."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.synthetic import simulate


def lines_kept(
    denoiser: Denoiser, noisy: NDArray[np.float32], truth: NDArray[np.float32], lines: NDArray[np.float64]
) -> list[float]:
    """Part of the line noise that is still in the mean of 4 samples and in the direct pass, 0 to 1."""
    results = denoiser.posterior_mean(noisy, 4), denoiser.denoise(noisy)
    return [float(((result - truth) * lines).mean() / (lines**2).mean()) for result in results]


@pytest.mark.slow
def test_structured_removes_lines_that_plain_hdn_keeps() -> None:
    stack = simulate(planes=2, size=128, seed=0)
    lines = uniform_filter1d(np.random.default_rng(0).normal(0, 1, stack.noisy.shape), 8, axis=2)  # 8 pixels long
    lines *= 10 / lines.std()  # counts; the camera's own noise is about 5
    noisy = (stack.noisy + lines).astype(np.float32)
    independent = f"poisson:{stack.gain},{stack.offset},{np.hypot(stack.read_noise, 10)}"
    found = []
    for structured in (False, True):
        settings = TrainSettings(noise=independent, structured=structured, max_steps=20, device="cpu")
        denoiser = Denoiser.for_images(noisy, settings)
        for _ in denoiser.train_steps():
            pass
        found.append(lines_kept(denoiser, noisy, stack.truth, lines))
    for kept, removed in zip(*found, strict=True):
        assert kept > 0.2
        assert removed < 0.5 * kept
    untrained = Denoiser.for_images(noisy, TrainSettings(noise="auto", device="cpu"))
    assert max(lines_kept(untrained, noisy, stack.truth, lines)) < 0.2  # models them as correlated noise
