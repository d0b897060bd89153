from __future__ import annotations

import math

import numpy as np
import pytest

from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.evaluation.metrics import evaluate, psnr, ssim


def test_psnr_is_the_papers(rng):
    truth = np.zeros((32, 32))
    truth[0, 0] = 100  # range 100
    assert psnr(truth + 1, truth) == pytest.approx(40)  # MSE 1
    assert psnr(truth - 10, truth) == pytest.approx(20)
    assert psnr(truth, truth) == math.inf
    # no overflow of unsigned numbers
    assert psnr(truth.astype(np.uint16) + np.uint16(1), truth.astype(np.uint16) + np.uint16(2)) == pytest.approx(40)


def test_psnr_of_w2s(data_dir):
    from napari_direct_denoiser.data.io import read_image

    noisy, truth = (read_image(data_dir / f"w2s_ch1_{name}.tif").data[::5] for name in ("noisy", "truth"))
    assert np.mean([psnr(n, t) for n, t in zip(noisy, truth, strict=True)]) == pytest.approx(16.4, abs=0.05)


def test_ssim(rng):
    truth = rng.normal(size=(64, 64))
    assert ssim(truth, truth) == pytest.approx(1)
    noise = rng.normal(size=truth.shape)
    assert 1 > ssim(truth + 0.1 * noise, truth) > ssim(truth + noise, truth) > 0
    assert ssim(truth * 1000 + 0.1 * 1000 * noise, truth * 1000) == pytest.approx(ssim(truth + 0.1 * noise, truth))


def test_evaluate_takes_each_planes_own_range(rng):
    truth = rng.uniform(size=(2, 32, 32)) * np.array([1, 10])[:, None, None]
    image = truth + 0.1
    result = evaluate(image, truth)
    assert result.psnr_per_plane[1] - result.psnr_per_plane[0] == pytest.approx(20, abs=0.1)
    assert result.psnr == pytest.approx(np.mean(result.psnr_per_plane))
    assert result.ssim_per_plane == tuple(ssim(i, t) for i, t in zip(image, truth, strict=True))
    assert result.ssim == pytest.approx(np.mean(result.ssim_per_plane))


def test_one_truth_serves_every_plane(rng):
    image, truth = rng.normal(size=(3, 16, 16)), rng.normal(size=(1, 16, 16))
    assert evaluate(image, truth) == evaluate(image, np.repeat(truth, 3, axis=0))


@pytest.mark.parametrize("shape", [(2, 16, 16), (3, 16, 17), (16, 16)])
def test_shapes_have_to_match(shape):
    with pytest.raises(ImageError) as error:
        evaluate(np.zeros((3, 16, 16)), np.zeros(shape))
    assert str((3, 16, 16)) in str(error.value)
    assert str(shape) in str(error.value)


def test_a_truth_without_contrast_is_refused():
    with pytest.raises(ImageError, match="found 3"):
        psnr(np.zeros((8, 8)), np.full((8, 8), 3))
