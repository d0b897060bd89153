"""What is said about an image that is not like those of the training; and that nothing is said about one that is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.io import read_image
from napari_direct_denoiser.data.synthetic import SyntheticStack, simulate
from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.evaluation.domain_shift import check_domain_shift
from napari_direct_denoiser.progress import Progress, drain


@pytest.fixture(scope="module")
def stack() -> SyntheticStack:
    return simulate(planes=6, size=128, seed=0)


@pytest.fixture(scope="module")
def denoiser(stack: SyntheticStack) -> Denoiser:
    return Denoiser.for_images(stack.noisy, TrainSettings(preset="quick", device="cpu"))


def said(denoiser: Denoiser, image: NDArray[Any], axes: str = "TYX") -> str:
    told: list[Progress] = []
    words = drain(check_domain_shift(denoiser.model, image, axes), told.append)
    assert told[-1].fraction == 1
    return "; ".join(words)


def test_nothing_is_said_of_images_of_the_same_kind(denoiser: Denoiser, stack: SyntheticStack) -> None:
    assert said(denoiser, stack.noisy) == ""
    assert said(denoiser, stack.noisy[0], "YX") == ""
    assert said(denoiser, np.moveaxis(stack.noisy, 0, -1), "YXT") == ""
    assert said(denoiser, simulate(planes=2, size=96, seed=9).noisy) == ""


def test_each_difference_is_said_with_its_size(denoiser: Denoiser, stack: SyntheticStack) -> None:
    noisy = stack.noisy.astype(np.float32)
    mean, deviation = denoiser.model.normalization.mean, denoiser.model.normalization.std
    brighter = said(denoiser, noisy + 11 * mean)
    assert (
        f"is 12 times brighter than what the model was trained on (mean {12 * mean:.4g}, there {mean:.4g})" in brighter
    )
    assert "contrast" not in brighter
    assert "times darker" in said(denoiser, noisy / 1000)
    assert "darker" in said(denoiser, noisy - mean)  # no ratio of numbers below 0
    assert "standard deviations" in said(denoiser, noisy - 2 * mean)
    assert f"has 10 times the contrast (standard deviation {10 * deviation:.3g}" in said(denoiser, 10 * noisy)
    flat = mean + (noisy - mean) / 20
    assert "has 20 times less contrast" in said(denoiser, flat)
    assert "weaker noise" in said(denoiser, stack.truth)
    rng = np.random.default_rng(0)
    noisier = noisy + rng.normal(0, 4 * deviation, noisy.shape)
    assert "stronger noise" in said(denoiser, noisier)


def test_brightness_outside_a_calibration_is_said(denoiser: Denoiser, stack: SyntheticStack, monkeypatch: Any) -> None:
    middle = float(np.median(stack.noisy))
    kind = type(denoiser.model.noise)
    monkeypatch.setattr(kind, "signal_range", property(lambda self: (0.0, middle)))
    words = said(denoiser, stack.noisy)
    assert "% of its area outside the brightness of the noise model (0 to" in words
    monkeypatch.setattr(kind, "signal_range", property(lambda self: (0.0, 1e5)))
    assert said(denoiser, stack.noisy) == ""


def test_nan_anywhere_in_memory_is_found(denoiser: Denoiser, stack: SyntheticStack) -> None:
    noisy = np.concatenate([stack.noisy] * 4).astype(np.float32)
    noisy[13, 5, 5] = np.inf
    with pytest.raises(ImageError, match="the first at T=13, Y=5, X=5"):
        said(denoiser, noisy)


def test_constant_planes_among_others_are_no_mistake(denoiser: Denoiser, stack: SyntheticStack) -> None:
    blank = stack.noisy.copy()
    blank[0] = 100
    said(denoiser, blank)
    with pytest.raises(ImageError, match="contrast"):
        said(denoiser, np.full_like(blank, 100))


def test_images_with_correlated_noise_are_compared_in_their_own_counts() -> None:
    rng = np.random.default_rng(0)
    scene = simulate(planes=6, size=128, seed=0).truth
    white = rng.normal(0, 10, (*scene.shape[:2], scene.shape[2] + 20))
    shared = lfilter([1], [1, -0.6], white)[..., 20:].astype(np.float32)
    noisy = scene + shared
    denoiser = Denoiser.for_images(noisy, TrainSettings(preset="quick", device="cpu"))
    assert denoiser.model.noise.kind == "scaled"
    assert said(denoiser, noisy) == ""
    mean = float(noisy.mean())
    words = said(denoiser, noisy + 11 * mean)
    assert "is 12 times brighter" in words
    found = re.search(r"mean (\d+), there (\d+)", words)
    assert found is not None
    assert [float(number) for number in found.groups()] == pytest.approx([12 * mean, mean], rel=0.02)
    assert "stronger noise" in said(denoiser, scene + 4 * shared)
    assert "weaker noise" in said(denoiser, scene + 0.2 * shared)


@pytest.mark.parametrize("name", ["tirf_scmos_20frames.tif", "twophoton_row_correlated_20frames.tif"])
def test_nothing_is_said_of_the_training_images_themselves(data_dir: Path, name: str) -> None:
    image = read_image(data_dir / name).data[:6]
    denoiser = Denoiser.for_images(image, TrainSettings(preset="quick", device="cpu"))
    assert said(denoiser, image) == ""
    assert said(denoiser, image[3], "YX") == ""
