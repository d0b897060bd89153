"""Rows that were scanned backwards are found in noisy images, and the noise model takes each row in its direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import GaussianNoise, PoissonGaussianNoise, diagnose, fit_calibration, fit_noise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise, Rows
from napari_direct_denoiser.noise.scaled import ScaledCorrelatedNoise
from napari_direct_denoiser.noise.scan import backward_rows, forwards

ALONG_X = np.array([[0.5, 0.0, 0.0]])
FEW_PHOTONS = PoissonGaussianNoise(20.0, 0.0, 5.0, 1.2)


def truth(planes: int = 2, side: int = 192) -> torch.Tensor:
    """Filaments of 2 to 20 photons a pixel."""
    scene = simulate(planes=planes, size=side, seed=1, photons=30.0).truth
    return torch.from_numpy(20 * (2 + 18 * (scene - scene.min()) / (scene.max() - scene.min()))).float()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("backward", [None, "even", "odd"])
def test_the_direction_is_found_in_noisy_images(backward: Rows | None) -> None:
    noisy = CorrelatedNoise(FEW_PHOTONS, ALONG_X, backward).sample(truth(), seeded()).numpy()
    found, ratio = backward_rows(list(noisy), ALONG_X)
    assert found == backward
    assert (ratio > 1.2) == (backward is not None)
    model = fit_noise("auto", [Frames(noisy)]).model
    assert isinstance(model, CorrelatedNoise)
    assert model.backward == backward


def test_noise_without_skew_has_no_direction() -> None:
    noisy = CorrelatedNoise(GaussianNoise(20.0), ALONG_X, "odd").sample(truth(), seeded()).numpy()
    assert backward_rows(list(noisy), ALONG_X) == (None, 1.0)


def test_the_skew_is_that_in_the_right_direction() -> None:
    """Filtered forwards, half of the rows would be much less skewed."""
    noisy = CorrelatedNoise(FEW_PHOTONS, ALONG_X, "odd").sample(truth(8), seeded()).numpy()
    innovation = fit_noise("auto", [Frames(noisy)]).model.innovation
    assert isinstance(innovation, PoissonGaussianNoise)
    assert innovation.skew == pytest.approx(1.2, abs=0.2)


def test_it_is_said() -> None:
    stacks = [Frames(CorrelatedNoise(FEW_PHOTONS, ALONG_X, "odd").sample(truth(), seeded()).numpy())]
    [finding] = [each for each in diagnose(stacks, fit_noise("auto", stacks)) if each.kind == "correlated"]
    assert finding.words.endswith("every second row was scanned backwards")


@pytest.mark.parametrize("kind", [CorrelatedNoise, ScaledCorrelatedNoise])
def test_noise_is_that_of_an_image_whose_rows_are_mirrored(kind: type[CorrelatedNoise]) -> None:
    """The definition: with every second row mirrored, all rows were scanned forwards."""
    usual, alternating = kind(FEW_PHOTONS, ALONG_X), kind(FEW_PHOTONS, ALONG_X, "odd")
    signal = truth(1)[0]
    noisy = alternating.sample(signal, seeded())
    mirrored = [torch.from_numpy(forwards(image.numpy(), "odd")) for image in (noisy, signal)]
    torch.testing.assert_close(
        torch.from_numpy(forwards(alternating.log_prob(noisy, signal).numpy(), "odd")), usual.log_prob(*mirrored)
    )
    assert float(alternating.log_prob(noisy, signal).mean()) > float(usual.log_prob(noisy, signal).mean()) + 0.01


@pytest.mark.parametrize("kind", [CorrelatedNoise, ScaledCorrelatedNoise])
def test_whitened_images_have_the_same_likelihood(kind: type[CorrelatedNoise]) -> None:
    model, signal = kind(FEW_PHOTONS, ALONG_X, "odd"), truth(1)
    noisy = model.sample(signal, seeded())
    white = model.white_log_prob(model.whiten(noisy), model.whiten(signal))
    inside = ..., slice(24, -24), slice(24, -24)
    difference = (white - model.log_prob(noisy, signal))[inside].abs()  # the inverse filter is cut off
    assert float(difference.max()) < 0.1
    assert float(difference.mean()) < 5e-3
    drawn = model.white_sample(model.whiten(signal), seeded()) - model.whiten(signal)
    expected = model.whiten(model.sample(signal, seeded()) - signal)
    assert float(drawn.std() / expected.std()) == pytest.approx(1, abs=0.02)
    assert abs(float((drawn[..., 1:] * drawn[..., :-1]).mean() / drawn.var())) < 0.03


def test_only_half_turns_keep_the_directions_and_parts_begin_at_even_rows() -> None:
    model = CorrelatedNoise(FEW_PHOTONS, [[0.5, 0.0, 0.0]], "odd")
    assert model.row_period == 2
    assert model.augmentation.half_turns
    assert not model.augmentation.transpose
    assert model.margin % 2 == model.reach % 2 == 0
    noisy = model.sample(truth(1), seeded())
    turned = model.sample(truth(1), seeded()).flip(-1, -2)
    assert backward_rows([noisy[0].numpy()], ALONG_X)[0] == backward_rows([turned[0].numpy()], ALONG_X)[0] == "odd"


def test_a_calibration_finds_the_direction() -> None:
    signal = truth(1)
    frames = CorrelatedNoise(FEW_PHOTONS, ALONG_X, "even").sample(signal.repeat(8, 1, 1), seeded())
    model = fit_calibration(frames.numpy(), signal.numpy()).model
    assert isinstance(model, CorrelatedNoise)
    assert model.backward == "even"


@pytest.mark.parametrize(
    ("coefficients", "backward"), [([[0.1, 0.2, 0.0], [0.4, 0.0, 0.0]], "odd"), ([[0.5, 0.0, 0.0]], "both")]
)
def test_refuses_directions_that_it_cannot_have(coefficients: list[list[float]], backward: str) -> None:
    with pytest.raises(SettingError, match="scanned backwards"):
        CorrelatedNoise(GaussianNoise(3.0), coefficients, backward)  # type: ignore[arg-type]


def test_models_without_it_are_written_as_before() -> None:
    assert "backward" not in CorrelatedNoise(GaussianNoise(3.0), ALONG_X).document()
