"""Frames of a static scene are brought to one brightness, so that a lamp that drifts does not count as an error."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise.scene import at_brightness_of, changed, frames_of_scene, sampled_scenes

WHOLE = slice(None), slice(None)
STACK = simulate(planes=5, size=128, seed=1)
BRIGHTNESS = np.array([1.0, 0.8, 1.2, 0.9, 1.1], np.float32)


def frames(brightness: NDArray[np.float32], noise: float = 8.0) -> NDArray[np.float32]:
    """One scene, whose light above an offset of 100 counts changes."""
    light = (STACK.truth[:1] - 100) * brightness[:, None, None]
    rng = np.random.default_rng(0)
    return np.asarray(100 + light + rng.normal(0, noise, light.shape), np.float32)


def test_the_brightness_of_the_first_frame_is_given_to_the_others() -> None:
    first, *others = frames(BRIGHTNESS)
    light = STACK.truth[0] - STACK.truth[0].mean()
    for matched in at_brightness_of(first, others):
        slope = float((matched * light).sum() / (light * light).sum())
        assert slope == pytest.approx(1.0, abs=0.02)
        assert matched.mean() == pytest.approx(first.mean(), abs=0.1)
    assert all(np.array_equal(one, other) for one, other in zip(others, frames(BRIGHTNESS)[1:], strict=True))


def test_frames_that_do_not_drift_stay_as_they_are_but_for_the_noise_of_the_estimate() -> None:
    first, *others = frames(np.ones(5, np.float32), noise=20.0)
    for matched, other in zip(at_brightness_of(first, others), others, strict=True):
        assert np.abs(matched - other).max() < 0.05 * np.ptp(other)


@pytest.mark.parametrize("index", [0, 2, 4])
def test_frames_of_a_scene_that_drifts_are_found(index: int) -> None:
    found = frames_of_scene(frames(BRIGHTNESS), index, 1, WHOLE)
    assert len(found) == {0: 3, 2: 5, 4: 3}[index]
    assert np.array_equal(found[0], frames(BRIGHTNESS)[index])


def test_only_frames_so_far_apart_are_of_one_channel() -> None:
    channels = np.concatenate([frames(BRIGHTNESS)[:, None], STACK.noisy[:, None]], axis=1).reshape(10, 128, 128)
    assert len(frames_of_scene(channels, 4, 2, WHOLE)) == 5
    assert len(frames_of_scene(channels, 4, 1, WHOLE)) <= 3


def test_another_scene_is_not_made_to_fit() -> None:
    assert len(frames_of_scene(STACK.noisy, 2, 1, WHOLE)) == 1


def test_missing_pixels_and_flat_frames_leave_the_brightness_alone() -> None:
    first, *others = frames(BRIGHTNESS)
    others[1][3, 3] = np.nan
    assert at_brightness_of(first, others)[0] is others[0]
    flat = [np.full((64, 64), level, np.float32) for level in (1, 2, 3)]
    assert all(np.allclose(matched, 1.0) for matched in at_brightness_of(flat[0], flat[1:]))


def test_planes_are_read_alone_where_scenes_change() -> None:
    read: list[int] = []

    class Read(np.ndarray):  # type: ignore[type-arg]
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            if isinstance(key, tuple) and isinstance(key[0], int):
                read.append(key[0])
            return np.asarray(super().__getitem__(key))

    moving = simulate(planes=12, size=96, seed=2).noisy.view(Read)
    scenes = list(sampled_scenes([Frames(moving)], 4, 64, 8, 1))
    assert [len(scene) for scene in scenes] == [1, 1, 1, 1]
    assert all(plane.shape == (64, 64) for (plane,) in scenes)
    assert len(read) <= 5 + 3
    static = list(sampled_scenes([Frames(frames(BRIGHTNESS))], 3, 64, 8, 1))
    assert [len(scene) for scene in static] == [3, 5, 3]


def test_more_frames_may_be_asked_for() -> None:
    assert len(frames_of_scene(frames(BRIGHTNESS), 0, 1, WHOLE, away=4)) == 5


def test_noise_is_no_change_and_a_flash_is_one_where_it_is() -> None:
    rng = np.random.default_rng(0)
    light = 300 + 200 * np.sin(np.arange(256) / 9) * np.ones((256, 1))
    first, other = (rng.poisson(light).astype(np.float32) for _ in range(2))
    assert not changed(first, other).any()
    other[100:106, 40:46] += 60
    found = changed(first, other)
    assert found[101:103, 41:43].all()
    found[96:112, 32:48] = False
    assert not found.any()
    first[200, 200] = np.nan
    assert changed(first, other)[200, 200]
