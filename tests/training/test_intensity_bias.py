"""The bias of the direct prediction is found at every brightness, without the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_direct_denoiser.calibration import Calibration
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.training import measured
from napari_direct_denoiser.training.intensity_bias import intensity_bias
from napari_direct_denoiser.training.measured import Measured

SIGNAL, NOISE = 2.0, 5.0  # standard deviations
BEST = SIGNAL**2 / (SIGNAL**2 + NOISE**2)


def estimated(scale: float, offset: float, *, frames: int = 0, believed: float = NOISE, hot: float = 0.0) -> Measured:
    """A linear estimate of a normal signal around 100: ``100 + scale * (noisy - 100) + offset``.

    ``believed`` is the standard deviation of the noise of the noise model. ``hot`` is added to one noisy pixel. The
    mean of the signal, given the noisy image, is that of the scale `BEST` and offset 0.
    """
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(1, 1, 480, 480, generator=generator)

    def estimate(noisy: Tensor) -> Tensor:
        return 100 + scale * (noisy - 100) + offset

    signal, again = (100 + SIGNAL * normal() for _ in range(2))
    noisy, redrawn = (each + NOISE * normal() for each in (signal, again))
    direct, b, std = estimate(noisy), believed * normal(), torch.ones_like(signal)
    residual = noisy - direct
    residual[..., 100, 100] += hot
    others = torch.cat([signal + NOISE * normal() for _ in range(frames)]) - direct if frames else None
    return Measured(others, direct, std, residual, b, b, scale * b, estimate(redrawn), std, estimate(redrawn) - again)


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize(("scale", "offset"), [(BEST, 0.4), (0.18, 0.0), (0.1, -0.3)])
def test_the_mean_of_the_signal_is_the_corrected_prediction(frames: int, scale: float, offset: float) -> None:
    plane = estimated(scale, offset, frames=frames)
    calibration = Calibration(direct=intensity_bias([plane]))
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        direct = plane.direct.quantile(level)
        expected = 100 + BEST * (direct - 100 - offset) / scale
        assert float(calibration.unbiased(direct)) == pytest.approx(float(expected), abs=0.15)


def test_the_strength_of_the_noise_need_not_be_known() -> None:
    plane = estimated(0.18, 0.0, believed=0.8 * NOISE)
    for level in (0.1, 0.9):
        direct = plane.direct.quantile(level)
        found = Calibration(direct=intensity_bias([plane])).unbiased(direct)
        assert float(found) == pytest.approx(float(100 + BEST * (direct - 100) / 0.18), abs=0.15)


@pytest.mark.parametrize("hot", [0.0, 1e5])
def test_what_is_unbiased_hardly_changes(hot: float) -> None:
    """Not even by a pixel that is far too bright: alone, it would make its bin brighter by 3 counts."""
    values = intensity_bias([estimated(BEST, 0.0, hot=hot)]).values
    assert max(map(abs, values)) < 0.05


def test_small_images_images_of_one_value_and_too_large_numbers_tell_nothing() -> None:
    plane = estimated(0.25, 1.0)
    small = Measured(None, *(each[..., :64, :64] for each in plane[1:] if each is not None))
    assert intensity_bias([small]) == Calibration().direct
    flat = plane._replace(direct=torch.full_like(plane.direct, 7.0), product=torch.zeros_like(plane.direct))
    assert intensity_bias([flat]) == Calibration().direct
    silent = plane._replace(noise=torch.zeros_like(plane.noise), weighted=torch.zeros_like(plane.noise))
    assert intensity_bias([silent]) == Calibration().direct
    large = plane._replace(noise=1e25 * plane.noise)  # its square is no number of float32
    assert intensity_bias([large]) == Calibration().direct


@pytest.mark.usefixtures("all_pixels_measured")
@pytest.mark.parametrize("loss", ["l2", "l1"])
def test_training_corrects_the_mean_and_leaves_the_median(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "_BIN_PIXELS", 10_000)
    noisy = simulate(planes=2, size=192, seed=5, photons=10.0).noisy
    denoiser = Denoiser.for_images(noisy, train_settings(device="cpu", max_steps=2, loss=loss))
    for progress in denoiser.train_steps():
        assert progress.stopped or denoiser.model.calibration.direct == Calibration().direct
    corrected = denoiser.model.calibration.direct
    assert (corrected != Calibration().direct) == (loss == "l2")
    assert np.isfinite(corrected.values).all()
    if loss == "l2":  # the weights that training goes on with are not those that the correction is for
        more = denoiser.continued(noisy, max_steps=2, device="cpu")
        next(more.train_steps())
        assert more.model.calibration.direct == Calibration().direct
