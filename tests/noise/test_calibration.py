"""A calibration gives the noise it was recorded with; what is none is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.errors import ImageError, SettingError
from napari_direct_denoiser.noise import (
    CorrelatedNoise,
    MixtureNoise,
    NoiseFit,
    PoissonGaussianNoise,
    fit_calibration,
    fit_images,
    fit_mixture,
    fit_noise,
    mixture_of,
    write_npz,
)

CAMERA = PoissonGaussianNoise(2.0, 100.0, 4.0)


@pytest.fixture(autouse=True)
def fewer_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the pixels that a calibration takes is enough for the tolerances here."""
    monkeypatch.setattr("napari_direct_denoiser.noise.calibration._PAIRS", 50_000)


def scene(low: float = 110.0, high: float = 900.0) -> NDArray[np.float32]:
    """Brightness that rises slowly from left to right, as with a field diaphragm out of focus."""
    return np.tile(np.linspace(low, high, 256, dtype=np.float32), (256, 1))


def expose(signal: NDArray[np.float32], frames: int | None = None, seed: int = 0) -> NDArray[np.float32]:
    clean = torch.from_numpy(signal) if frames is None else torch.from_numpy(signal).expand(frames, -1, -1)
    return CAMERA.sample(clean, torch.Generator().manual_seed(seed)).numpy()


def check(fit: NoiseFit, tolerance: float = 0.06) -> None:
    assert isinstance(fit.model, MixtureNoise)
    signal = torch.linspace(170, 850, 16)
    torch.testing.assert_close(fit.model.variance(signal), CAMERA.variance(signal), rtol=tolerance, atol=0)
    gain, offset, _ = fit.camera()
    assert gain == pytest.approx(2.0, rel=0.05)
    assert offset == pytest.approx(100 - 16 / 2, abs=5)  # the line meets zero before the offset, for the read noise


def test_frames_of_a_static_scene() -> None:
    check(fit_calibration(expose(scene(), frames=10)))


def test_one_frame_of_a_smooth_scene() -> None:
    check(fit_calibration(expose(scene())), tolerance=0.12)


def test_signals_that_are_given() -> None:
    structure = simulate(planes=2, size=128, seed=1, photons=80).truth.astype(np.float32)
    structure = 110 + (structure - structure.min()) / np.ptp(structure) * 800
    noisy = np.concatenate([expose(structure[k], frames=4, seed=k) for k in range(2)])
    check(fit_calibration(noisy, structure), tolerance=0.12)


def test_defective_pixels_do_not_sway_it() -> None:
    noisy = expose(scene(), frames=10)
    noisy[3, 5:250:20, 7:250:20] = 60_000
    check(fit_calibration(noisy))


def test_pixels_that_are_not_finite_are_left_out() -> None:
    for noisy, tolerance in ((expose(scene(), frames=10), 0.06), (expose(scene())[None], 0.12)):
        damaged = noisy.astype(np.float64)
        damaged.flat[np.random.default_rng(1).integers(0, noisy.size, 60)] = np.nan
        damaged[:, 100, 100], damaged[:, 50, 60] = np.inf, 1e300
        check(fit_calibration(damaged), tolerance)
    check(fit_calibration(damaged, np.where(np.arange(256) == 7, np.nan, scene())), tolerance)
    with pytest.raises(ImageError, match="no finite pixels"):
        fit_calibration(damaged, np.full((256, 256), np.nan))


@pytest.mark.parametrize(
    ("coefficients", "along_x", "along_y"),
    [
        ([[0.5, 0.0, 0.0]], [0.5, 0.25], [0.0, 0.0]),
        ([[0.5], [0.0]], [0.0, 0.0], [0.5, 0.25]),
        ([[-0.25, 0.5, 0.0], [0.5, 0.0, 0.0]], [0.5, 0.25], [0.5, 0.25]),
    ],
)
def test_correlated_noise_is_found_and_fitted(
    coefficients: list[list[float]], along_x: list[float], along_y: list[float]
) -> None:
    """In frames of a static scene, in one smooth scene, and with known signals."""
    camera = CorrelatedNoise.of(CAMERA, coefficients)
    clean = torch.from_numpy(scene())
    noisy = camera.sample(clean.expand(6, -1, -1), torch.Generator().manual_seed(0)).numpy()
    noisy[2, 5:250:60, 7:250:60] = 60_000  # hot pixels
    noisy[1, 40] += 30  # a row with an offset
    for images, signal in ((noisy, None), (noisy[0], None), (noisy, scene())):
        fit = fit_calibration(images, signal)
        assert isinstance(fit.model, CorrelatedNoise)
        assert isinstance(fit.model.innovation, MixtureNoise)
        assert fit.autocorrelation is not None
        assert fit.autocorrelation.along_x[1:3] == pytest.approx(along_x, abs=0.04)
        assert fit.autocorrelation.along_y[1:3] == pytest.approx(along_y, abs=0.04)
        levels = torch.linspace(200, 850, 8)
        torch.testing.assert_close(fit.model.variance(levels), CAMERA.variance(levels), rtol=0.12, atol=0)
        predicted = fit.model.variance(torch.from_numpy(fit.signals))
        torch.testing.assert_close(predicted, torch.from_numpy(fit.variances), rtol=0.3, atol=0)
    best = camera.log_prob(torch.from_numpy(noisy[3:]), clean).mean()
    assert float(fit.model.log_prob(torch.from_numpy(noisy[3:]), clean).mean()) > float(best) - 0.02


def test_dark_frames_with_correlated_noise() -> None:
    camera = CorrelatedNoise.of(CAMERA, [[0.4, 0.0, 0.0]])
    dark = camera.sample(torch.full((8, 96, 96), 100.0), torch.Generator().manual_seed(1)).numpy()
    fit = fit_calibration(dark)
    assert isinstance(fit.model, CorrelatedNoise)
    level = torch.tensor([100.0])
    torch.testing.assert_close(fit.model.variance(level), camera.variance(level), rtol=0.08, atol=0)


def test_weak_correlation_is_modelled_on_demand() -> None:
    camera = CorrelatedNoise.of(CAMERA, [[0.06, 0.0, 0.0]])
    clean = torch.from_numpy(scene()).expand(8, -1, -1)
    noisy = camera.sample(clean, torch.Generator().manual_seed(0)).numpy()
    assert isinstance(fit_calibration(noisy).model, MixtureNoise)
    fit = fit_calibration(noisy, correlated=True)
    assert isinstance(fit.model, CorrelatedNoise)
    assert fit.model.autocorrelation(1)[0, 2] == pytest.approx(0.06, abs=0.02)
    with pytest.raises(ImageError, match="too small to measure the correlation"):
        fit_calibration(noisy[:, :15, :15], scene()[:15, :15], correlated=True)


def test_mixture_has_the_shape_of_skewed_noise() -> None:
    """At two electrons the density of a Gaussian of the right variance is far off; that of a mixture is not."""
    camera = PoissonGaussianNoise(100.0, 1000.0, 10.0)
    signal = torch.linspace(1050, 3000, 100_000)
    noisy = camera.sample(signal, torch.Generator().manual_seed(0))
    mixture = fit_mixture(signal, noisy)
    gaussian = torch.distributions.Normal(signal, camera.variance(signal).sqrt()).log_prob(noisy).mean()
    best = float(camera.log_prob(noisy, signal).mean())
    found = float(mixture.log_prob(noisy, signal).mean())
    assert found > best - 0.02
    assert found > float(gaussian) + 0.005


def test_the_same_pairs_give_the_same_mixture_wherever_they_lie_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_direct_denoiser.noise.calibration._ITERATIONS", 1)
    signal = torch.linspace(110, 900, 100_000)
    noisy = CAMERA.sample(signal, torch.Generator().manual_seed(0))
    random, others = np.random.default_rng(0), list[torch.Tensor]()
    found = set()
    for _ in range(150):
        others.append(torch.empty(int(random.integers(5_000_000))))
        if len(others) > 20:
            others.pop(int(random.integers(20)))
        found.add(json.dumps(fit_mixture(signal, noisy).document()))
    assert len(found) == 1


def test_any_noise_model_can_be_written_as_a_mixture() -> None:
    fit = fit_images([Frames(simulate(planes=4, size=128, photons=30.0).noisy)])
    mixture = mixture_of(fit)
    signal = torch.linspace(*fit.signal_range, 12)
    torch.testing.assert_close(mixture.variance(signal), fit.model.variance(signal), rtol=0.15, atol=1.0)


def test_refuses_scenes_that_are_neither_static_nor_smooth() -> None:
    stack = simulate(planes=3, size=128, photons=200.0).noisy
    with pytest.raises(ImageError, match=r"structure in plane 1 of 1 finer than 6 pixels: give frames"):
        fit_calibration(stack[0])
    mixed = np.stack([expose(scene()), np.pad(stack[0], ((0, 128), (0, 128)), mode="reflect")])
    with pytest.raises(ImageError, match="plane 2 of 2"):
        fit_calibration(mixed)


def test_refuses_signals_that_do_not_pair() -> None:
    noisy = expose(scene(), frames=4)
    with pytest.raises(ImageError, match=r"4 planes of 256 x 256 and 3 of 256 x 256"):
        fit_calibration(noisy, np.stack([scene()] * 3))
    with pytest.raises(ImageError, match=r"256 x 256 and 1 of 200 x 256"):
        fit_calibration(noisy, scene()[:200])


def test_refuses_a_calibration_of_too_little_of_the_range(tmp_path) -> None:
    write_npz(tmp_path / "dark.npz", mixture_of(fit_calibration(expose(scene(105, 200), frames=6))))
    images = [Frames(expose(scene(110, 900), frames=2, seed=5))]
    with pytest.raises(
        SettingError, match=r"fitted to .*: 21\d\.\d to [\d.]+ counts \(8\d% of the pixels\) is missing"
    ):
        fit_noise(str(tmp_path / "dark.npz"), images)


def test_a_little_outside_the_range_is_said_and_goes_on(tmp_path) -> None:
    from napari_direct_denoiser.noise import diagnose

    write_npz(tmp_path / "most.npz", mixture_of(fit_calibration(expose(scene(105, 700), frames=6))))
    images = [Frames(expose(scene(110, 900), frames=2, seed=5))]
    fit = fit_noise(str(tmp_path / "most.npz"), images)
    [finding] = [finding for finding in diagnose(images, fit) if finding.kind == "range"]
    assert "extrapolated" in finding.words
    assert finding.value == pytest.approx(200 / 790, abs=0.08)
    beyond = torch.tensor([900.0])
    torch.testing.assert_close(fit.model.variance(beyond), CAMERA.variance(beyond), rtol=0.1, atol=0)
