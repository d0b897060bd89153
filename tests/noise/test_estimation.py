"""The camera is found from its noisy images."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_direct_denoiser.data.images import Frames, as_planes
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.noise import (
    GaussianNoise,
    NoiseFit,
    PoissonGaussianNoise,
    diagnose,
    estimate_noise,
    fit_calibration,
    fit_images,
    fit_noise,
)

CELLS = simulate(planes=8, size=256, seed=3, gain=2.0, photons=30.0).noisy.astype(np.float64)


def smooth_scene(size: int = 256) -> NDArray[np.float64]:
    y, x = np.mgrid[:size, :size]
    return np.asarray(600 + 400 * np.sin(x / 20) * np.cos(y / 30))


@pytest.mark.parametrize(("gain", "photons"), [(1.0, 50.0), (2.2, 20.0), (40.0, 8.0)])
def test_finds_gain_and_variance_of_a_simulated_camera(gain: float, photons: float) -> None:
    stack = simulate(planes=8, size=256, seed=3, gain=gain, photons=photons, offset=100.0, read_noise=1.5)
    found = estimate_noise(stack.noisy)
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(gain, rel=0.06)
    signal = np.percentile(stack.truth, [20, 50, 90])
    variance = gain * (signal - 100) + 1.5**2
    np.testing.assert_allclose(found.variance(torch.from_numpy(signal)).numpy(), variance, rtol=0.12)


def test_hot_pixels_do_not_sway_it() -> None:
    stack = simulate(planes=8, size=256, seed=3, gain=2.0)
    hot = stack.noisy.copy()
    y, x = np.random.default_rng(0).integers(0, 256, (2, 100))
    hot[:, y, x] = np.random.default_rng(1).integers(300, 20_000, 100)
    clean, found = (fit_images([Frames(noisy)]) for noisy in (stack.noisy, hot))
    assert isinstance(clean.model, PoissonGaussianNoise)
    assert isinstance(found.model, PoissonGaussianNoise)
    assert found.model.gain == pytest.approx(clean.model.gain, rel=0.05)
    assert found.hot_pixels == pytest.approx(len(set(zip(y, x, strict=True))), abs=5)
    assert clean.hot_pixels < 3


def test_saturated_pixels_are_left_out() -> None:
    stack = simulate(planes=8, size=256, seed=3, gain=2.0, photons=30.0)
    top = np.quantile(stack.noisy, 0.99)
    found, clipped = estimate_noise(stack.noisy), estimate_noise(np.minimum(stack.noisy, top))
    assert isinstance(found, PoissonGaussianNoise)
    assert isinstance(clipped, PoissonGaussianNoise)
    assert clipped.gain == pytest.approx(found.gain, rel=0.05)


def test_noise_that_does_not_rise_with_the_signal_is_gaussian() -> None:
    noisy = smooth_scene() + np.random.default_rng(0).normal(0, 25, (4, 256, 256))
    found = estimate_noise(noisy)
    assert isinstance(found, GaussianNoise)
    assert found.sigma == pytest.approx(25, rel=0.03)


def test_an_evenly_lit_image_is_gaussian_whatever_its_noise() -> None:
    for seed in range(3):
        found = estimate_noise(np.random.default_rng(seed).poisson(20, (64, 64)))
        assert isinstance(found, GaussianNoise)
        assert found.sigma == pytest.approx(math.sqrt(20), rel=0.05)


def test_read_noise_does_not_pass_for_a_lack_of_skew() -> None:
    """Read noise moves the zero of the line of the variance below the offset, and that of the third moment not."""
    found = estimate_noise(simulate(planes=8, size=256, seed=3, gain=2.0, photons=20.0, read_noise=4.0).noisy)
    assert isinstance(found, PoissonGaussianNoise)
    assert found.skew == pytest.approx(1, abs=0.15)


def static_frames(frames: int = 6) -> NDArray[np.float64]:
    """One scene full of structure finer than any window: only time can tell its noise."""
    rng = np.random.default_rng(0)
    scene = 20 + 4000 * gaussian_filter(rng.random((128, 128)) ** 8, 1.2)
    return np.asarray(100 + 3.0 * rng.poisson(scene, (frames, 128, 128)))


def test_frames_of_a_static_scene_are_found_and_used() -> None:
    frames = static_frames()
    fit = fit_images([as_planes(frames, "TYX").frames])
    assert "static" in fit.source
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.gain == pytest.approx(3, rel=0.1)
    one = fit_images([Frames(frames[:1])])  # the same without time
    signal = torch.tensor([float(frames.mean())])
    assert float(one.model.variance(signal)) > 1.2 * float(fit.model.variance(signal)), "too easy: this tells nothing"


def test_the_first_and_last_static_frame_do_not_hide_the_skew() -> None:
    """They have one neighbour in time; the difference of two frames is symmetric."""
    rng = np.random.default_rng(0)
    photons = rng.poisson((smooth_scene(512) - 150) / 40, (3, 512, 512))
    fit = fit_images([as_planes(100 + rng.gamma(np.maximum(photons, 1e-9), 10.0), "TYX").frames])
    assert fit.static
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.skew == pytest.approx(1.4, abs=0.2)  # 1.5, drawn towards 1: they are few


def test_the_histogram_of_static_frames_holds_single_frames() -> None:
    """Not means of frames, whose noise is weaker."""
    flat = np.random.default_rng(0).normal(500, 10, (6, 128, 128))
    fit = fit_images([as_planes(flat, "TYX").frames])
    assert fit.static
    signal, noisy = fit.pairs
    assert float((noisy - signal).std()) == pytest.approx(10, rel=0.05)


def test_time_is_found_in_front_of_other_axes() -> None:
    z = np.stack([static_frames(4), static_frames(4)[:, ::-1], static_frames(4)[:, :, ::-1]], axis=1)  # T Z Y X
    fit = fit_images([as_planes(z, "TZYX").frames])
    assert "static" in fit.source
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.gain == pytest.approx(3, rel=0.1)


def test_a_moving_scene_is_not_taken_for_a_static_one() -> None:
    rng = np.random.default_rng(0)
    scene = 50 + 40 * gaussian_filter(rng.normal(size=(140, 128)), 3) / 0.1
    moving = np.stack([scene[2 * t : 2 * t + 128] for t in range(6)]).clip(1)
    assert "static" not in fit_images([Frames(100 + 2.0 * rng.poisson(moving))]).source


def test_correlated_noise_is_measured_and_its_variance_is_whole() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(0, 1, (4, 256, 258))
    noise = 20 * (white[..., :-2] + white[..., 1:-1]) / math.sqrt(2)  # correlation 0.5 with the next pixel along x
    fit = fit_images([Frames(smooth_scene() + noise[..., :256])])
    assert fit.correlation[0][0] == pytest.approx(0.5, abs=0.03)
    assert fit.correlation[1] == (0.0, 0.0)
    assert isinstance(fit.model, GaussianNoise)
    assert fit.model.sigma == pytest.approx(20, rel=0.05)


def test_skew_beyond_that_of_poisson_is_seen() -> None:
    """Electron multiplication: variance 2 G^2 a photon, third moment 6 G^3, so 1.5 times that of gain 2 G."""
    rng = np.random.default_rng(0)
    photons = rng.poisson((smooth_scene() - 150) / 40, (20, 256, 256))
    noisy = 100 + rng.gamma(np.maximum(photons, 1e-9), 10.0)
    found = estimate_noise(noisy)
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(20, rel=0.05)
    assert found.skew == pytest.approx(1.5, abs=0.15)


@pytest.fixture(scope="module")
def clean() -> NoiseFit:
    return fit_images([Frames(CELLS)])


@pytest.mark.parametrize(("value", "pixels"), [(np.nan, 1), (np.nan, 50), (np.inf, 500), (-1e300, 50), (1e20, 50)])
def test_pixels_that_are_not_finite_are_left_out(clean: NoiseFit, value: float, pixels: int) -> None:
    """Nor are finite ones used that float32 cannot hold or square."""
    damaged, at = CELLS.copy(), np.random.default_rng(pixels).integers(0, CELLS.size, pixels)
    damaged.flat[at] = value
    found = fit_images([Frames(damaged)])
    assert isinstance(clean.model, PoissonGaussianNoise)
    assert isinstance(found.model, PoissonGaussianNoise)
    assert found.model.gain == pytest.approx(clean.model.gain, rel=0.03)
    assert found.model.skew == pytest.approx(clean.model.skew, abs=0.05)
    signal = torch.linspace(110, 250, 5)
    torch.testing.assert_close(found.model.variance(signal), clean.model.variance(signal), rtol=0.03, atol=0)
    assert found.signal_range == pytest.approx(clean.signal_range, rel=0.01)
    assert found.correlation == clean.correlation
    assert found.hot_pixels == pytest.approx(clean.hot_pixels, abs=2)
    assert all(np.isfinite(values).all() for values in (found.signals, found.variances, *found.pairs))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_border_without_data_is_left_out(dtype: type[np.floating]) -> None:
    """As registration leaves it, in all planes: here 40 % of the image."""
    registered = CELLS.astype(dtype)
    registered[:, :40], registered[:, :, :80] = np.nan, np.nan
    given = registered.copy()
    inside, found = (fit_images([Frames(image)]).model for image in (CELLS[:, 40:, 80:], registered))
    np.testing.assert_array_equal(registered, given)  # the caller's image is as it was
    assert isinstance(inside, PoissonGaussianNoise)
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(inside.gain, rel=0.03)


def test_static_frames_are_found_whatever_pixels_are_missing() -> None:
    frames = static_frames()
    frames[np.random.default_rng(1).random(frames.shape) < 1e-3] = np.nan
    frames[:, :, :16] = np.inf
    fit = fit_images([as_planes(frames, "TYX").frames])
    assert "static" in fit.source
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.gain == pytest.approx(3, rel=0.1)


def test_planes_without_a_finite_pixel_are_left_out() -> None:
    fit = fit_images([Frames(np.concatenate([CELLS, np.full((4, 256, 256), np.nan)]))])
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.gain == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_refuses_an_image_without_a_finite_pixel(value: float) -> None:
    with pytest.raises(ImageError, match="found 0 that are finite"):
        estimate_noise(np.full((3, 64, 64), value))


@pytest.mark.parametrize("image", [np.full((2, 64, 64), 7.0), np.zeros((0, 64, 64))])
def test_refuses_images_without_anything_to_estimate_from(image: NDArray[np.float64]) -> None:
    with pytest.raises(ImageError, match="estimate the noise"):
        estimate_noise(image)


def test_of_a_huge_stack_only_what_is_needed_is_read() -> None:
    noise = np.random.default_rng(0).poisson(50, (2048, 2048)).astype(np.uint16)

    class Counting:
        """A stack of 1000 planes that counts the pixels taken from it."""

        shape, read = (1000, 2048, 2048), 0

        def __len__(self) -> int:
            return self.shape[0]

        def __getitem__(self, key: object) -> NDArray[np.uint16]:
            index, rows, columns = key if isinstance(key, tuple) else (key, slice(None), slice(None))
            height, width = len(range(2048)[rows]), len(range(2048)[columns])
            Counting.read += height * width
            return np.roll(noise, 2023 * int(index), (0, 1))[rows, columns]  # to draw each plane takes long

    fit_images([Frames(Counting())])  # type: ignore[arg-type]
    assert Counting.read < 120e6, "3 % of the stack"


def test_real_camera_w2s(data_dir) -> None:
    """W2S was scaled so that the noise variance is 100 * (signal - 1000)."""
    import tifffile

    noisy, truth = (tifffile.imread(data_dir / f"w2s_ch1_{name}.tif")[::3] for name in ("noisy", "truth"))
    began = time.perf_counter()
    found = estimate_noise(noisy)
    print(f"estimation: {time.perf_counter() - began:.2f} s")  # benchmarks/noise.py measures it
    assert isinstance(found, PoissonGaussianNoise)
    assert found.gain == pytest.approx(100, rel=0.02)
    assert found.offset == pytest.approx(1000, abs=4)
    pick = np.random.default_rng(0).integers(0, truth.size, 400_000)
    signal, pixels = (torch.from_numpy(image.ravel()[pick].astype(np.float32)) for image in (truth, noisy))
    best = fit_calibration(noisy, truth).model
    lost = best.log_prob(pixels, signal).mean() - found.log_prob(pixels, signal).mean()
    assert float(lost) < 0.02  # nat a pixel


def test_real_camera_tirf(data_dir) -> None:
    """The variance over time is 2.32 * mean - 220, by a median over pixels; the gain 2.27 to 2.32 by weighting."""
    import tifffile

    fit = fit_images([Frames(tifffile.imread(data_dir / "tirf_scmos_20frames.tif"))])
    assert "static" in fit.source
    assert isinstance(fit.model, PoissonGaussianNoise)
    assert fit.model.gain == pytest.approx(2.30, rel=0.05)
    assert fit.correlation == ((0.0, 0.0), (0.0, 0.0))


def test_real_camera_convallaria(data_dir) -> None:
    """One frame of cells tells the variance that a calibration frame of the same camera has."""
    import tifffile

    frame, calibration = (
        tifffile.imread(data_dir / f"convallaria_{name}.tif") for name in ("frame", "calibration_frame")
    )
    slope, offset, _ = fit_calibration(calibration).camera()
    assert slope == pytest.approx(53, abs=2.5)
    assert offset == pytest.approx(480, abs=5)
    signal = torch.linspace(600, 3000, 13)
    found = estimate_noise(frame).variance(signal)
    torch.testing.assert_close(found, slope * (signal - offset), rtol=0.12, atol=0)


def test_real_correlation_of_two_photon(data_dir) -> None:
    import tifffile

    stack = tifffile.imread(data_dir / "twophoton_row_correlated_20frames.tif")
    for planes in (stack, stack[:1]):
        (along_x, _), (along_y, _) = fit_images([Frames(planes)]).correlation
        assert along_x == pytest.approx(0.41, abs=0.06)
        assert abs(along_y) < 0.1


def test_variances_of_an_image_of_zeros_are_not_negative(rng: np.random.Generator) -> None:
    image = np.where(rng.random((149, 113)) < 0.9, 0.0, rng.poisson(30, (149, 113)))
    fit = fit_noise("auto", [Frames(image[None])])
    assert fit.variances.min() >= 0
    diagnose([Frames(image[None])], fit)  # takes their square root


@pytest.mark.parametrize("seed", range(4))
def test_images_in_other_units_have_the_same_noise_in_these_units(seed: int) -> None:
    """Of whole counts, many windows are equally bright; small images have few of them, so that each matters."""
    counts = simulate(planes=4, size=64, seed=seed).noisy.astype(np.float64)
    plain = estimate_noise(counts)
    assert isinstance(plain, PoissonGaussianNoise)
    for scale in (7e-4, 0.3, 1.1, 5e3):
        found = estimate_noise(counts * scale)
        assert isinstance(found, PoissonGaussianNoise)
        assert found.gain == pytest.approx(plain.gain * scale, rel=1e-5)
        assert found.read_noise == pytest.approx(plain.read_noise * scale, rel=1e-4)
        assert found.offset == pytest.approx(plain.offset * scale, abs=1e-4 * found.read_noise)
