"""Frames of one scene are told from those of two scenes, also where noise hides the structure, and shares it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise.static import is_static

SCENES = simulate(planes=2, size=256, seed=2).truth
STRUCTURE = float(SCENES[0].std())
CASES = pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5, 0.7])
STRENGTHS = pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])


def frame(scene: NDArray[np.float32], strength: float, correlation: float, seed: int) -> NDArray[np.float32]:
    """A scene with noise of ``strength`` times the structure; neighbours along x and y have that correlation."""
    noise = np.random.default_rng(seed).normal(size=scene.shape)
    for axis in (0, 1):
        noise = lfilter([np.sqrt(1 - correlation**2)], [1, -correlation], noise, axis=axis)
    return np.asarray(scene + strength * STRUCTURE * noise, np.float32)


@CASES
@STRENGTHS
def test_frames_of_one_scene_are_static_also_if_the_lamp_drifts(correlation: float, strength: float) -> None:
    first = frame(SCENES[0], strength, correlation, 0)
    for brightness in (1.0, 1.05):
        drifted = SCENES[0].mean() + brightness * (SCENES[0] - SCENES[0].mean())
        assert is_static(first, frame(drifted, strength, correlation, 1))


@CASES
@STRENGTHS
def test_frames_of_two_scenes_are_not(correlation: float, strength: float) -> None:
    first, other = (frame(scene, strength, correlation, seed) for seed, scene in enumerate(SCENES))
    assert not is_static(first, other)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_scene_that_moves_is_not(strength: float) -> None:
    first, other = (
        frame(scene, strength, 0.0, seed) for seed, scene in enumerate((SCENES[0], np.roll(SCENES[0], 3, 1)))
    )
    assert not is_static(first, other)


def test_a_copy_and_missing_pixels() -> None:
    first, other = (frame(SCENES[0], 1.0, 0.0, seed) for seed in (0, 1))
    assert not is_static(first, first)
    other[40:60, 3:200] = np.nan
    assert is_static(first, other)
    assert not is_static(first, np.full_like(first, np.nan))
