"""The correlation of noise is found from the noisy images alone, and white noise is found white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter
from scipy.signal import lfilter

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import PoissonGaussianNoise, diagnose, fit_images, fit_noise
from napari_direct_denoiser.noise.correlated import CorrelatedNoise
from napari_direct_denoiser.noise.correlation import measure_correlation
from napari_direct_denoiser.noise.fit import Autocorrelation

CAMERA = PoissonGaussianNoise(2.0, 100.0, 3.0)
Images = NDArray[np.generic]


def process(rho: float, axes: str) -> list[list[float]]:
    """Coefficients of AR(1) along x, y, or both."""
    return {"x": [[rho, 0, 0]], "y": [[rho], [0]], "yx": [[-rho * rho, rho, 0], [rho, 0, 0]]}[axes]


def noisy(truth: NDArray[np.float32], rho: float, axes: str) -> Images:
    """Noise of `CAMERA` whose neighbours are correlated."""
    model = CorrelatedNoise.of(CAMERA, process(rho, axes))
    drawn = model.sample(torch.from_numpy(np.ascontiguousarray(truth)), torch.Generator().manual_seed(1))
    return np.asarray(drawn.numpy())


def measured(images: Images) -> Autocorrelation:
    return measure_correlation([Frames(images)])


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float32]:
    """One image with structure."""
    return simulate(planes=1, size=384, seed=3, photons=30.0).truth


@pytest.mark.parametrize("axes", ["x", "y", "yx"])
@pytest.mark.parametrize("rho", [0.15, 0.3, 0.5, 0.7])
def test_finds_correlation_in_one_image_with_structure(truth: NDArray[np.float32], rho: float, axes: str) -> None:
    found = measured(noisy(truth, rho, axes))
    assert found.axes == axes
    for axis, along in (("x", found.along_x), ("y", found.along_y)):
        expected = rho ** np.arange(7) if axis in axes else np.eye(1, 7)[0]
        np.testing.assert_allclose(along, expected, atol=0.05)


@pytest.mark.parametrize("axes", ["x", "y", "yx"])
@pytest.mark.parametrize("rho", [0.3, 0.5])
def test_auto_models_correlated_noise_with_its_variance(truth: NDArray[np.float32], rho: float, axes: str) -> None:
    """The second difference that measures the variance removes a part of correlated noise."""
    model = fit_noise("auto", [Frames(noisy(truth, rho, axes))]).model
    assert model.reach > 0
    signal = torch.from_numpy(np.quantile(truth, [0.2, 0.5, 0.9]))
    np.testing.assert_allclose(model.variance(signal), CAMERA.variance(signal), rtol=0.1)
    assert f"{rho:.1f}" in model.describe() or f"{rho - 0.01:.2f}" in model.describe()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("photons", [2.0, 16.0, 60.0, 300.0])
def test_white_noise_is_found_white(photons: float, seed: int) -> None:
    images = simulate(planes=1, size=256, seed=seed, photons=photons).noisy
    found = measured(images)
    assert found.axes == ""
    np.testing.assert_allclose([found.along_x[1], found.along_y[1]], 0, atol=0.02 if photons < 60 else 0.1)
    white = fit_images([Frames(images)])
    fit = fit_noise("auto", [Frames(images)])
    assert fit.model.reach == 0
    assert fit.variances.tolist() == white.variances.tolist()


@pytest.mark.parametrize(("sigma", "neighbours"), [(0.5, 0.27), (0.6, 0.45)])
def test_noise_that_was_smoothed_with_the_image_and_rounded(sigma: float, neighbours: float) -> None:
    scene = simulate(planes=2, size=256, seed=3, photons=30.0)
    clean = gaussian_filter(scene.truth.astype(float), (0, sigma, sigma))
    images = np.rint(gaussian_filter(scene.noisy.astype(float), (0, sigma, sigma)))
    fit = fit_noise("auto", [Frames(images)])
    assert fit.autocorrelation is not None
    assert fit.autocorrelation.axes == "yx"
    assert fit.autocorrelation.along_x[1] == pytest.approx(neighbours, abs=0.03)
    assert fit.autocorrelation.along_y[1] == pytest.approx(neighbours, abs=0.03)
    expected = np.mean((images - clean) ** 2)
    assert float(fit.model.variance(torch.from_numpy(clean)).mean()) == pytest.approx(expected, rel=0.1)


def test_repeated_frames_with_noise_that_is_no_product_of_both_axes() -> None:
    """Blurred noise plus white noise looks like a moving scene until it is whitened."""
    scene = gaussian_filter(simulate(planes=1, size=256, seed=3, photons=60.0, gain=20.0).truth[0].astype(float), 2)
    white = np.random.default_rng(0).standard_normal((2, 2, 256, 256))
    blurred = gaussian_filter(white[0], (0, 0.8, 0.8))
    std = np.sqrt(scene)
    noise = std * (0.9 * blurred / blurred.std() + 0.4 * white[1])
    fit = fit_noise("auto", [Frames(scene + noise)])
    standard = noise / std
    assert fit.static
    assert fit.autocorrelation is not None
    for along, ahead in (
        (fit.autocorrelation.along_x, standard[..., 1:] * standard[..., :-1]),
        (fit.autocorrelation.along_y, standard[:, 1:] * standard[:, :-1]),
    ):
        assert along[1] == pytest.approx(ahead.mean() / standard.var(), abs=0.03)
    found = float(fit.model.variance(torch.from_numpy(scene)).mean())
    assert found == pytest.approx(float(noise.var()), rel=0.15)


def test_noise_of_pixels_that_were_interpolated_from_a_checkerboard(truth: NDArray[np.float32]) -> None:
    """As the green ones of a colour camera. Across an axis, the highest frequencies repeat the lowest along it."""
    rng = np.random.default_rng(0)
    row, column = np.indices(truth.shape[1:])
    kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    camera = rng.normal(0, 20, truth.shape[1:]) * ((row + column) % 2)
    noise = convolve(camera, kernel, mode="wrap") + rng.normal(0, 3, truth.shape[1:])
    found = measured((truth + noise).astype(np.float32))
    expected = [np.mean(noise * np.roll(noise, -lag, 1)) / noise.var() for lag in range(4)]
    assert expected[1] == pytest.approx(0.39, abs=0.01)
    for along in (found.along_x, found.along_y):
        np.testing.assert_allclose(along[:4], expected, atol=0.05)


@pytest.mark.parametrize("side", [16, 40, 64])
def test_an_image_too_small_falls_back_to_white_noise(side: int) -> None:
    images = noisy(simulate(planes=1, size=side, photons=30.0).truth, 0.5, "x")
    found = measured(images)
    assert found.axes == ""
    assert found.along_x.tolist() == found.along_y.tolist() == [1, 0, 0, 0, 0, 0, 0]
    if side >= 40:  # enough to estimate white noise from
        assert fit_noise("auto", [Frames(images)]).model.reach == 0


def test_correlated_noise_does_not_hide_that_a_scene_moves() -> None:
    """Over blocks of pixels it has as much power as a slow movement: see `is_static`."""
    scene = simulate(planes=1, size=320, seed=3, photons=30.0).truth[0]
    moving = np.stack([scene[2 * k : 2 * k + 256, 4 * k : 4 * k + 256] for k in range(5)])
    images = noisy(moving, 0.7, "yx")
    assert fit_images([Frames(images)]).static  # taken for white
    fit = fit_noise("auto", [Frames(images)])
    assert not fit.static
    assert fit.autocorrelation is not None
    assert fit.autocorrelation.along_x[1] == pytest.approx(0.7, abs=0.03)
    expected = float(CAMERA.variance(torch.from_numpy(moving)).mean())
    assert float(fit.model.variance(torch.from_numpy(moving)).mean()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("static", [True, False])
def test_repeated_frames_of_a_static_scene(truth: NDArray[np.float32], static: bool) -> None:
    images = noisy(np.repeat(truth[:, :256, :256], 6, axis=0), 0.5, "x")
    found = measure_correlation([Frames(images)], static=static)
    assert found.axes == "x"
    np.testing.assert_allclose(found.along_x, 0.5 ** np.arange(7), atol=0.04)


def real(folder: Path, name: str) -> Images:
    images = np.asarray(tifffile.imread(folder / name))
    return images.reshape(-1, *images.shape[-2:])[:8]


def test_real_widefield(data_dir: Path) -> None:
    """Correlated along both axes, 0.58, 0.09 and -0.03 in differences of frames, and 0.33 on the diagonal."""
    found = measured(real(data_dir, "fmd_widefield_bpae_g.tif"))
    assert found.axes == "yx"
    for along in (found.along_x, found.along_y):
        np.testing.assert_allclose(along[1:4], [0.58, 0.09, -0.03], atol=0.03)
    assert found.lags[1, 7] == pytest.approx(0.33, abs=0.03)


def test_real_two_photon(data_dir: Path) -> None:
    found = measured(real(data_dir, "twophoton_row_correlated_20frames.tif"))
    assert found.axes == "x"
    np.testing.assert_allclose(found.along_x[1:4], [0.39, 0.09, 0.02], atol=0.03)
    np.testing.assert_allclose(found.along_y[1:], 0)


@pytest.mark.parametrize(
    "name",
    [
        "w2s_ch1_noisy.tif",
        "tirf_scmos_20frames.tif",
        "convallaria_frame.tif",
        "convallaria_calibration_frame.tif",
        "fmd_twophoton_mice.tif",
        "fmd_confocal_fish.tif",
    ],
)
def test_real_white_noise(data_dir: Path, name: str) -> None:
    found = measured(real(data_dir, name))
    assert found.axes == ""
    np.testing.assert_allclose([found.along_x[1], found.along_y[1]], 0, atol=0.1)


def test_real_time_lapse_with_white_noise(data_dir: Path) -> None:
    electrons = (real(data_dir, "lysosome_clean_8fov_50t.tif").astype(float) - 100).clip(0) / 100
    rng = np.random.default_rng(0)
    assert measured(100 + 2.2 * rng.poisson(electrons) + rng.normal(0, 2, electrons.shape)).axes == ""


def test_noise_that_reaches_too_far_to_be_modelled_is_measured_only() -> None:
    """AR(1) of 0.99 along x is still strong 64 pixels away: no error, but the white model and a finding."""
    noise = np.random.default_rng(0).normal(0, 20 * (1 - 0.99**2) ** 0.5, (2, 128, 1024))
    images = [Frames((500 + lfilter([1], [1, -0.99], noise)[..., 512:]).astype(np.float32))]
    fit = fit_noise("auto", images)
    assert fit.autocorrelation is not None
    assert fit.autocorrelation.axes == "x"
    assert not isinstance(fit.model, CorrelatedNoise)
    assert [finding.kind for finding in diagnose(images, fit) if finding.suggests_structured] == ["correlated"]
