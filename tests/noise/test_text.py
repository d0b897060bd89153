"""Text forms make the noise they name; others are refused in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.errors import SettingError
from napari_direct_denoiser.noise import CorrelatedNoise, NoiseModel, PoissonGaussianNoise, fit_noise

TOO_SMALL = [Frames(np.zeros((1, 8, 8)))]  # nothing is measured in them


def parsed(text: str) -> NoiseModel:
    return fit_noise(text, TOO_SMALL).model


def lags(model: NoiseModel) -> tuple[list[float], list[float]]:
    assert isinstance(model, CorrelatedNoise)
    found = model.autocorrelation(2)
    return found[0, 3:].tolist(), found[1:, 2].tolist()


@pytest.mark.parametrize(
    ("text", "along_x", "along_y"),
    [
        ("gaussian:12+x:0.5", [0.5, 0.25], [0, 0]),
        ("gaussian:12 +y:0.5", [0, 0], [0.5, 0.25]),
        ("gaussian:12+y:-0.3", [0, 0], [-0.3, 0.09]),
        ("poisson:2,1e+2,3+x:0.5,-0.2", [0.5 / 1.2, 0.5 * 0.5 / 1.2 - 0.2], [0, 0]),  # Yule-Walker
        ("student:12,5+y:0.6+x:0.3", [0.3, 0.09], [0.6, 0.36]),
    ],
)
def test_coefficients_make_the_autocorrelation(text: str, along_x: list[float], along_y: list[float]) -> None:
    found = lags(parsed(text))
    assert found[0] == pytest.approx(along_x, abs=1e-4)
    assert found[1] == pytest.approx(along_y, abs=1e-4)


def test_both_axes_are_one_filter_after_the_other() -> None:
    model = parsed("gaussian:12+x:0.5,-0.1+y:0.4")
    assert isinstance(model, CorrelatedNoise)
    found = model.autocorrelation(2)
    np.testing.assert_allclose(found, np.outer(found[:, 2], found[0]), atol=1e-6)
    white = model.whiten(model.sample(torch.zeros(1, 256, 256), torch.Generator().manual_seed(0)))[..., 4:, 4:-4]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (2, 1)):
        shifted = white.roll((dy, dx), (-2, -1))
        assert float((white * shifted)[..., 4:, 4:-4].mean() / white.square().mean()) == pytest.approx(0, abs=0.02)


def test_numbers_are_those_of_single_pixels() -> None:
    signal = torch.tensor([150.0, 400.0, 3000.0])
    single = PoissonGaussianNoise(2.0, 100.0, 3.0)
    for correlation in ("+x:0.5", "+x:0.5,-0.1+y:0.4"):
        model = parsed("poisson:2,100,3" + correlation)
        torch.testing.assert_close(model.variance(signal), single.variance(signal), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gaussian:12+x:", r"1 to 16 coefficients after \+x:"),
        ("gaussian:12+x:0.5,b", "nearest pixel first"),
        ("gaussian:12+x:nan", "coefficients after"),
        ("gaussian:12+y:" + ",".join(["0.01"] * 17), "1 to 16 coefficients"),
        ("gaussian:12+x:0.5+x:0.1", "found it twice"),
        ("gaussian:12+z:0.5", "Expected a noise model as auto"),
        ("auto+x:0.5", r"with \+x:C1,C2"),
        ("+x:0.5", "Expected a noise model as"),
        ("gaussian:12+x:1", "not stable"),
        ("gaussian:12+x:0.5,0.6", "not stable"),
    ],
)
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        parsed(text)


def test_a_mixture_is_not_correlated_by_numbers(tmp_path, mixture_example) -> None:
    from napari_direct_denoiser.noise import write_noise

    write_noise(tmp_path / "camera.npz", mixture_example)
    with pytest.raises(SettingError, match="fit the noise model to the images or to a calibration"):
        parsed(f"{tmp_path / 'camera.npz'}+x:0.5")
