"""Calibrated standard deviations are as large as the true errors, which the calibration does not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_direct_denoiser.calibration import Calibration, Curve
from napari_direct_denoiser.config import train_settings
from napari_direct_denoiser.data.images import Frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.denoiser import Denoiser
from napari_direct_denoiser.noise import CorrelatedNoise, GaussianNoise, LineNoise, NoiseModel
from napari_direct_denoiser.progress import drain
from napari_direct_denoiser.training import calibrate as calibration
from napari_direct_denoiser.training.calibrate import calibrate
from napari_direct_denoiser.training.measured import Measured

SIMULATED = simulate(planes=3, size=256, seed=5, photons=10.0)


def untrained(noisy: np.ndarray, noise: NoiseModel | None = None, **settings: object) -> Denoiser:
    return Denoiser.for_images(noisy, train_settings(device="cpu", **settings), noise=noise)


def error_over_std(denoiser: Denoiser, noisy: np.ndarray, error_of: str = "direct", std: str = "std") -> float:
    """Root mean squared error against the truth over root mean squared standard deviation."""
    steps = denoiser.denoise_steps(noisy, [error_of, std], samples=12)  # type: ignore[list-item]
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
    error = np.mean((found[error_of] - SIMULATED.truth) ** 2)
    return float(np.sqrt(error / np.mean(found[std] ** 2)))


@pytest.mark.usefixtures("all_pixels_measured")
@pytest.mark.parametrize("correlated", [False, True], ids=["white", "correlated"])
def test_the_predicted_std_becomes_as_large_as_the_error(correlated: bool) -> None:
    noise: NoiseModel = GaussianNoise(8.0)
    if correlated:
        noise = CorrelatedNoise.of(noise, [[0.5, 0.0, 0.0]])
    signal = torch.from_numpy(SIMULATED.truth)[:, None]
    noisy = noise.sample(signal, torch.Generator().manual_seed(3))[:, 0].numpy()
    denoiser = untrained(noisy, noise)
    model = denoiser.model
    with torch.no_grad():
        model.unet.std_head[-2].bias.add_(1.5)  # type: ignore[index, union-attr]  # far too large
    assert error_over_std(denoiser, noisy) < 0.5
    model.calibration, _ = calibrate(model, [Frames(noisy)])
    # the networks have not seen these images: samples of HDN are rougher than the signal
    assert error_over_std(denoiser, noisy) == pytest.approx(1.0, abs=0.25)
    assert error_over_std(denoiser, noisy, "mean", "sample_std") == pytest.approx(1.0, abs=0.25)


def test_a_second_calibration_finds_the_same_as_the_first() -> None:
    denoiser = untrained(SIMULATED.noisy[:1, :96, :96])
    images = [Frames(SIMULATED.noisy[:1, :96, :96])]
    found = [calibrate(denoiser.model, images)[0] for _ in range(2)]
    denoiser.model.calibration = found[0]
    assert calibrate(denoiser.model, images)[0] == found[0] == found[1] != Calibration()
    assert denoiser.model.calibration == found[0]


def test_training_leaves_a_calibrated_model_that_is_saved(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from napari_direct_denoiser import load

    denoiser = untrained(SIMULATED.noisy, max_steps=2)
    for _ in denoiser.train_steps():
        pass
    assert denoiser.model.calibration != Calibration()
    assert error_over_std(denoiser, SIMULATED.noisy) == pytest.approx(1.0, abs=0.2)
    denoiser.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", device="cpu")
    assert loaded.model.calibration == denoiser.model.calibration


def test_calibration_changes_neither_weights_nor_random_state() -> None:
    denoiser = untrained(SIMULATED.noisy)
    before = {name: each.clone() for name, each in denoiser.model.state_dict().items()}
    state = torch.get_rng_state()
    first, _ = calibrate(denoiser.model, [Frames(SIMULATED.noisy)])
    assert first == calibrate(denoiser.model, [Frames(SIMULATED.noisy)])[0]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(each, before[name]) for name, each in denoiser.model.state_dict().items())


def test_structured_noise_cannot_be_drawn_anew() -> None:
    denoiser = untrained(SIMULATED.noisy, structured=True)
    assert calibrate(denoiser.model, [Frames(SIMULATED.noisy)]) == (Calibration(), [])


def test_a_small_image_has_one_factor() -> None:
    noisy = SIMULATED.noisy[:1, :64, :64]
    found, _ = calibrate(untrained(noisy).model, [Frames(noisy)])
    assert len(found.signal.knots) == 1
    assert 0.2 < found.signal.values[0] < 5


@pytest.mark.usefixtures("all_pixels_measured")
def test_noise_that_is_weaker_in_the_dark_than_the_model_says_hardly_changes_the_std() -> None:
    """As of images that are clipped at the bottom."""
    truth = SIMULATED.truth
    dark = truth < np.quantile(truth, 0.5)
    noisy = truth + np.where(dark, 6.0, 9.0) * np.random.default_rng(0).normal(size=truth.shape)
    denoiser = untrained(noisy.astype(np.float32), GaussianNoise(9.0))
    denoiser.model.calibration, _ = calibrate(denoiser.model, [Frames(noisy.astype(np.float32))])
    found = drain(denoiser.denoise_steps(noisy.astype(np.float32), ["direct", "std"]))
    squares = (found["direct"] - truth) ** 2, found["std"] ** 2
    ratios = [float(np.sqrt(squares[0][part].mean() / squares[1][part].mean())) for part in (dark, ~dark)]
    assert ratios == pytest.approx([1.0, 1.0], abs=0.2)  # 0.70 in the dark if its strength is not measured


@pytest.mark.parametrize(("apart", "expected"), [(0.0, 1.0), (0.2, 1.0406), (0.9, 1.1)])
def test_68_percent_of_heavy_tailed_errors_are_within_one_std(apart: float, expected: float) -> None:
    """Errors of two sizes, of which the network knows nothing; the std becomes smaller by a tenth at most."""
    generator = torch.Generator().manual_seed(0)
    shape = 1, 1, 400, 400
    errors = torch.randn(shape, generator=generator) * torch.where(
        torch.rand(shape, generator=generator) < 0.5, 1 - apart, 1 + apart
    )
    blank = torch.zeros(shape)
    planes = [Measured(None, *[blank] * 6, redrawn_direct=blank, redrawn_std=blank + 3, redrawn_error=errors)]
    tails = calibration._tails(planes).values[0]
    assert tails == pytest.approx(expected, abs=0.01)
    std = errors.square().mean().sqrt() / tails
    if apart < 0.9:
        assert float((errors.abs() < std).double().mean()) == pytest.approx(0.683, abs=0.003)


@pytest.mark.usefixtures("all_pixels_measured")
def test_what_is_left_of_line_noise_is_a_part_of_the_std() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 45, (*SIMULATED.truth.shape[:2], 1))
    noisy = (SIMULATED.truth + rng.normal(0, 8, SIMULATED.truth.shape) + rows).astype(np.float32)
    noise = LineNoise(GaussianNoise(8.0), row_std=45.0)
    denoiser = untrained(noisy, noise)
    denoiser.model.calibration, _ = calibrate(denoiser.model, [Frames(noise.measured(noisy))])
    assert error_over_std(denoiser, noisy) == pytest.approx(1.0, abs=0.25)
    denoiser.model.calibration = denoiser.model.calibration.model_copy(update={"lines": 0.0})
    assert error_over_std(denoiser, noisy) > 1.4


def test_frames_of_a_static_scene_tell_the_error_whatever_the_noise_model_says() -> None:
    """As of noise that neighbours share, of which the noise model knows nothing, in frames whose brightness drifts."""
    light = (SIMULATED.truth[:1] - 100) * np.array([1.0, 0.9, 1.1, 0.95], np.float32)[:, None, None]
    truth = (100 + light).astype(np.float32)
    drawn = np.random.default_rng(0).normal(size=(4, 258, 256))
    noisy = (truth + 5 * (drawn[:, 1:-1] + 0.6 * (drawn[:, :-2] + drawn[:, 2:]))).astype(np.float32)
    denoiser = untrained(noisy, GaussianNoise(6.6))
    ratios = {}
    for step in (1, 4):  # four planes apart, there are no other frames
        denoiser.model.calibration, _ = calibrate(denoiser.model, [Frames(noisy, step)])
        found = drain(denoiser.denoise_steps(noisy, ["direct", "std"]))
        ratios[step] = float(np.sqrt(np.mean((found["direct"] - truth) ** 2) / np.mean(found["std"] ** 2)))
    assert ratios[1] == pytest.approx(1.0, abs=0.1)
    assert ratios[4] > 1.5


def test_after_a_long_training_more_planes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, measured = untrained(SIMULATED.noisy), list[int]()
    plane = calibration._SIDE**2
    monkeypatch.setattr(calibration, "_PIXELS", plane)
    monkeypatch.setattr(calibration, "_factor", lambda planes, white: measured.append(len(planes)) or Curve())
    few = 20 * plane
    for trained in (0, few, 2 * few, 100 * few):
        calibrate(denoiser.model, [Frames(SIMULATED.noisy)], trained_pixels=trained)
    assert measured == [1, 1, 2, 3]
    calibrate(denoiser.model, [Frames(SIMULATED.noisy)], trained_pixels=100 * few, final=False)
    assert measured[-1] == 1
