"""From frames of one static scene the Direct Denoiser learns what the noise model does not say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.patches import Augmentation, Part, split_frames
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.presets import PRESETS, ScheduleConfig
from napari_direct_denoiser.training.frame_pairs import FramePairs, read_scenes
from napari_direct_denoiser.training.parts import Parts

Images = NDArray[np.float32]
TRUTH = simulate(planes=1, size=192, seed=3).truth[0]
QUICK = PRESETS["quick"]


def exposed(truth: Images, seed: int = 0, sigma: float = 25.0) -> Images:
    """Frames with noise of mean 0 that is skewed as no noise model for it says."""
    rng = np.random.default_rng(seed)
    return np.asarray(truth + sigma * (rng.exponential(size=truth.shape) - 1), np.float32)


STATIC = exposed(np.broadcast_to(TRUTH, (8, 192, 192)))


def settings(**others: object) -> TrainSettings:
    return TrainSettings.model_validate(
        {"preset": "quick", "noise": "gaussian:25", "device": "cpu", "max_minutes": None, "max_steps": 40, **others}
    )


def test_scenes_are_a_frame_and_the_mean_of_others() -> None:
    part = Part(STATIC, np.arange(8), range(10, 150), range(192))
    scenes = read_scenes([part], [1], 1)
    assert len(scenes) == 8
    frame, others = (each.stack[0] for each in scenes[4])
    np.testing.assert_array_equal(frame, STATIC[4, 10:150])
    assert np.isnan(others).mean() < 0.002
    error = others - TRUTH[10:150]
    assert np.nanvar(error) == pytest.approx(25**2 / 7, rel=0.2)
    noise = (frame - TRUTH[10:150])[~np.isnan(others)]
    assert abs(np.corrcoef(noise, error[~np.isnan(others)])[0, 1]) < 0.03


def test_nothing_is_learned_from_a_scene_that_moves_or_in_which_a_part_flashes() -> None:
    moving = exposed(np.stack([np.roll(TRUTH, 3 * shift, 0) for shift in range(8)]))
    assert read_scenes([Part.whole(moving)], [1], 1) == []
    flashing = STATIC.copy()
    for number, frame in enumerate(flashing):
        for y, x in np.random.default_rng(number).integers(8, 176, (3, 2)):
            frame[y : y + 6, x : x + 6] += 75
    assert read_scenes([Part.whole(flashing)], [1], 1) == []
    few = STATIC.copy()
    few[4, 80:84, 80:84] += 60
    scenes = read_scenes([Part.whole(few)], [1], 1)
    assert np.isnan(scenes[4][1].stack[0, 80:84, 80:84]).all()


def test_both_patches_show_the_same_place_turned_alike() -> None:
    where = np.arange(96 * 96, dtype=np.float32).reshape(1, 96, 96)
    pairs = FramePairs(
        [(Part.whole(where), Part.whole(where + 0.5))], 32, 0, augmentation=Augmentation(), margin=4, row_period=1
    )
    frames, others = pairs.draw(6, 2, (1, 2))
    assert frames.shape == (3, 1, 40, 40)
    torch.testing.assert_close(others, frames + 0.5)
    assert not torch.equal(frames, pairs.draw(6, 3, (1, 2))[0])


def test_what_is_held_out_of_static_scenes_is_in_no_target() -> None:
    model = Denoiser.for_images(STATIC, settings()).model
    parts = Parts.of(model, [STATIC], 64, [1])
    assert parts.referee is not None
    assert parts.training[0].planes.tolist() == list(range(8))
    rows = {*parts.training[0].rows} & {*parts.held_out[0].rows}
    columns = {*parts.training[0].columns} & {*parts.held_out[0].columns}
    assert not (rows and columns)
    assert parts.samplers(model, QUICK.schedule, 0)[2] is not None
    many = np.concatenate([STATIC, exposed(STATIC * 0 + TRUTH, seed=5)[:2]])
    parts = Parts.of(model, [many], 64, [1])
    assert parts.held_out[0].planes.tolist() == [1, 4, 7]
    assert parts.training[0].planes.tolist() == [0, 2, 3, 5, 6, 8, 9]
    assert parts.referee is not None
    others = read_scenes(parts.training, [1], 1)[2][1].stack[0]
    expected = many[[0, 2, 5, 6]].mean(0)  # of the four before and after plane 3 that are not held out
    assert np.nanstd(others - expected) < 1  # but for their brightness


def test_frames_of_every_field_are_held_out() -> None:
    fields = np.arange(20 * 2).reshape(40, 1, 1) * np.ones((1, 80, 80))
    divided = split_frames([fields], [2], 3)
    assert divided is not None
    (training,), (held_out,), (apart,) = divided
    assert held_out.planes.tolist() == [6, 7, 18, 19, 30, 31]
    assert apart == 12
    assert sorted([*training.planes, *held_out.planes]) == list(range(40))
    assert split_frames([fields, fields[:16]], [2, 2], 3) is None


def test_planes_of_other_stacks_are_held_out() -> None:
    others = simulate(planes=9, size=192, seed=1).noisy
    model = Denoiser.for_images(others, settings()).model
    parts = Parts.of(model, [others], 64, [1])
    assert parts.referee is None
    assert parts.held_out[0].planes.tolist() == [3]
    assert parts.samplers(model, QUICK.schedule, 0)[2] is None


@pytest.mark.parametrize(
    ("side", "loss", "schedule"),
    [(192, "l1", QUICK.schedule), (192, "l2", PRESETS["paper"].schedule), (96, "l2", QUICK.schedule)],
    ids=["median", "paper", "no region to hold out"],
)
def test_frames_are_not_learned(side: int, loss: str, schedule: ScheduleConfig) -> None:
    """Others have the mean of the clean image, not its median. The published schedule stays as it was published."""
    stack = STATIC[:, :side, :side]
    model = Denoiser.for_images(stack, settings(loss=loss)).model
    assert Parts.of(model, [stack], 64, [1]).samplers(model, schedule, 0)[2] is None


def test_pixels_that_changed_have_no_gradient() -> None:
    model = Denoiser.for_images(STATIC, settings()).model
    noisy = torch.from_numpy(STATIC[:2, None, :64, :64].copy())
    others = torch.from_numpy(STATIC[2:4, None, :64, :64].copy())
    with torch.no_grad():
        error = (model.direct(noisy) - others) / model.normalization.unit
        assert model.noise2noise_loss(noisy, others).item() == pytest.approx(error.square().mean().item(), rel=1e-4)
    others[0] = torch.nan
    loss = model.noise2noise_loss(noisy, others)
    assert loss.item() == pytest.approx(error[1].square().mean().item() / 2, rel=1e-3)
    loss.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.unet.parameters())


def test_frames_teach_what_the_noise_model_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise is stronger than training is told, and exponential instead of normal."""

    def errors(*, learns_frames: bool) -> tuple[float, float]:
        """Mean squared error of the direct prediction, and of the mean of HDN's samples."""
        denoiser = Denoiser.for_images(STATIC, settings(noise="gaussian:18"))
        for _ in denoiser.train_steps():
            pass
        assert denoiser.provenance.learned_frames == learns_frames
        noisy = exposed(TRUTH, seed=9)
        direct, mean = denoiser.denoise(noisy), denoiser.posterior_mean(noisy, 20)
        return float(np.square(direct - TRUTH).mean()), float(np.square(mean - TRUTH).mean())

    direct, mean = errors(learns_frames=True)
    schedule = QUICK.schedule.model_copy(update={"learn_frames": False})
    monkeypatch.setitem(PRESETS, "quick", QUICK.model_copy(update={"schedule": schedule}))
    direct_without, mean_without = errors(learns_frames=False)
    assert direct < 0.95 * direct_without
    assert mean < 0.95 * mean_without
