"""Prediction by a stand-in whose results are known: tiles leave no trace, statistics are those of the samples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_direct_denoiser import progress
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.errors import DenoiserError, ImageError, SettingError
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.prediction import predict, tiling
from napari_direct_denoiser.prediction.predict import denoise_into, predict_steps
from napari_direct_denoiser.prediction.tiling import Output, plan_tiles
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.progress import Progress, drain

STD = 3.0


class StandIn(CoModel):
    """A network that reaches 6 pixels far on a grid of 4, and a denoising distribution `noisy + 1 +- 3`.

    All numbers of the direct pass are whole and small, so that float32 is exact and tiles can be compared bit by bit.
    The more memory it claims for a pixel, the smaller are the tiles.
    """

    multiple, halo = 4, 8  # type: ignore[assignment]

    def __init__(self, *, window: int | None = None, batch_pixels: int | None = None, room: float = np.inf) -> None:
        normalization = Normalization(units="noise", mean=0, std=1, slope=0, intercept=1, level=0)
        super().__init__(PRESETS["quick"].model, GaussianNoise(1.0), normalization)
        self.fine = nn.Conv2d(1, 2, 5, padding=2)
        self.coarse = nn.Conv2d(8, 4, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randint(-3, 4, parameter.shape, generator=torch.Generator().manual_seed(1)).float()
        self._pixel_bytes = 4
        if window:
            self._pixel_bytes = tiling.WHOLE_BYTES // window**2
        if batch_pixels:
            self._pixel_bytes = tiling.BATCH_BYTES // batch_pixels
        self.room = room  # pixels for which there is memory in one call
        self.encoded = self.both = 0
        self.batches: list[int] = []

    @property
    def pixel_bytes(self) -> int:
        return self._pixel_bytes

    def direct(self, noisy: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert noisy.dtype == torch.float32
        assert noisy.shape[-1] % 4 == 0
        assert noisy.shape[-2] % 4 == 0
        self._take(noisy.numel())
        blocks = nn.functional.pixel_unshuffle(self.fine(noisy), 2)  # depends on where the grid lies
        return nn.functional.pixel_shuffle(self.coarse(blocks), 2)

    def direct_with_std(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        self.both += 1
        direct = self.direct(noisy)
        return direct, direct.square()

    def encode(self, noisy: Tensor) -> list[Tensor]:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.encoded += 1
        return [noisy]

    def sample(self, encoding: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        self.batches.append(len(generators))
        if len(self.batches) > 2:  # some of the plane is done already
            self._take(len(generators) * encoding[0].numel())
        draws = [torch.randn(encoding[0].shape[1:], generator=generator) for generator in generators]
        return encoding[0] + 1 + STD * torch.stack(draws)

    def _take(self, pixels: int) -> None:
        if pixels > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def model() -> StandIn:
    return StandIn()


@pytest.fixture
def tiled() -> StandIn:
    """Sees windows of 40 x 40 pixels at most."""
    return StandIn(window=40)


@pytest.fixture(autouse=True)
def every_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "YIELD_SECONDS", 0.0)


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(0).integers(0, 50, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 90), (24, 24), (53, 71), (101, 64)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float64, ">i2"])
def test_direct_in_tiles_equals_whole(tiled: StandIn, shape: tuple[int, int], dtype: Any) -> None:
    plane = noise(1, *shape).astype(dtype)
    whole = np.pad(plane[0].astype(np.float32), [(0, -side % 4) for side in shape], mode="reflect")
    with torch.inference_mode():
        expected = tiled.eval().direct(torch.from_numpy(whole)[None, None])[0, 0].numpy()
    result = drain(predict_steps(tiled, plane, ["direct"]))["direct"]
    assert result.dtype == np.float32
    assert result.shape == plane.shape
    np.testing.assert_array_equal(result[0], expected[: shape[0], : shape[1]])


def test_direct_and_std_are_one_pass_of_every_tile(tiled: StandIn) -> None:
    planes = noise(2, 90, 61)
    expected = drain(predict_steps(tiled, planes, ["direct"]))["direct"]
    assert tiled.both == 0  # nobody pays for what nobody wants
    found = drain(predict_steps(tiled, planes, ["std", "direct"]))
    assert tiled.both == 2 * len(plan_tiles(tiled, (90, 61), ["direct"], 50)[0].tiles)
    assert not tiled.batches
    np.testing.assert_array_equal(found["direct"], expected)
    np.testing.assert_array_equal(found["std"], np.square(expected))
    np.testing.assert_array_equal(drain(predict_steps(tiled, planes, ["std"]))["std"], found["std"])


def test_a_model_that_predicts_no_std_gives_that_of_its_samples(model: StandIn) -> None:
    direct = model.config.direct.model_copy(update={"std": False})
    model.config = model.config.model_copy(update={"direct": direct})
    found = drain(predict_steps(model, noise(1, 20, 24), ["direct", "std", "sample_std", "sample"], samples=4))
    np.testing.assert_allclose(found["std"], found["sample"].std(0), atol=1e-5)
    np.testing.assert_array_equal(found["std"], found["sample_std"])
    assert model.both == 0


@pytest.mark.parametrize("samples", [1, 2, 7, 8])
def test_statistics_are_those_of_the_returned_samples(samples: int) -> None:
    model = StandIn(batch_pixels=3 * 20 * 32)  # 3 samples a call
    planes = noise(2, 20, 31)
    together = drain(predict_steps(model, planes, ["mean", "median", "sample_std", "sample"], samples=samples, seed=5))
    drawn = together["sample"]
    assert drawn.shape == (samples, 2, 20, 31)
    assert max(model.batches) <= 3
    assert model.encoded == 2
    for name, expected in (("mean", drawn.mean(0)), ("sample_std", drawn.std(0))):
        np.testing.assert_allclose(together[name], expected, atol=2e-5)
    np.testing.assert_array_equal(together["median"], np.median(drawn, axis=0))
    for name, value in together.items():  # and the same each alone
        np.testing.assert_array_equal(drain(predict_steps(model, planes, [name], samples=samples, seed=5))[name], value)


def test_large_planes_are_blended_from_tiles(tiled: StandIn) -> None:
    planes, n = noise(1, 90, 61), 400
    results = drain(predict_steps(tiled, planes, ["mean", "median", "sample_std"], samples=n))
    tiles = len(plan_tiles(tiled, (90, 61), ["mean"], n)[0].tiles)
    assert tiles > 4
    assert tiled.encoded == tiles
    error = STD / np.sqrt(n)
    assert np.abs(results["mean"] - planes - 1).max() < 5.5 * error
    assert np.abs(results["median"] - planes - 1).max() < 5.5 * 1.26 * error
    # In the seams too, where a blend of samples would vary by up to 1 / sqrt(2) less.
    assert np.abs(results["sample_std"] - STD).max() < 5.5 * error / np.sqrt(2)
    drawn = drain(predict_steps(tiled, planes, ["sample"], samples=n))["sample"]
    np.testing.assert_allclose(drawn.mean(0), results["mean"], atol=1e-4)


def test_neighbouring_tiles_and_planes_have_unrelated_samples(tiled: StandIn) -> None:
    planes = np.zeros((2, 48, 48), np.uint16)
    drawn = drain(predict_steps(tiled, planes, ["sample"], samples=2))["sample"].reshape(4, 48, 48)
    views = [drawn[0, :16, :16], drawn[0, 32:, :16], drawn[0, :16, 32:], *drawn[1:, :16, :16]]
    correlation = np.corrcoef([view.ravel() for view in views]) - np.eye(len(views))
    assert np.abs(correlation).max() < 5 / 16


def test_a_seed_decides_and_nothing_else_does(model: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = noise(3, 40, 40)
    first = drain(predict_steps(model, planes, ["sample"], samples=3, seed=1))["sample"]
    torch.manual_seed(99)
    again = drain(predict_steps(model, planes[:2], ["direct", "sample"], samples=3, seed=1))["sample"]
    other = drain(predict_steps(model, planes, ["sample"], samples=3, seed=2))["sample"]
    np.testing.assert_array_equal(first[:, :2], again)
    assert (first != other).mean() > 0.99
    # A median too large to be held is drawn apart: the mean beside it stays what it was.
    mean = drain(predict_steps(model, planes, ["mean"], samples=50))["mean"]
    monkeypatch.setattr(tiling, "HELD_PIXELS", 50 * 24 * 24)
    both = drain(predict_steps(model, planes, ["mean", "median"], samples=50))
    np.testing.assert_array_equal(both["mean"], mean)


def test_a_median_stays_within_its_budget(model: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    planes, n = noise(1, 240, 240), 100
    monkeypatch.setattr(tiling, "HELD_PIXELS", n * 40 * 40)
    result, peak = traced(predict_steps(model, planes, ["median"], samples=n))
    assert peak < 4 * n * planes.size / 4  # held at once would be four times as many bytes
    assert np.abs(result["median"] - planes - 1).max() < 6 * 1.26 * STD / np.sqrt(n)


def test_only_samples_that_are_kept_take_memory(model: StandIn) -> None:
    planes, n = noise(2, 128, 128), 40
    outputs: list[Output] = ["direct", "std", "mean", "sample_std", "sample"]
    everything, much = traced(predict_steps(model, planes, outputs, samples=n, seed=3))
    results, little = traced(predict_steps(model, planes, outputs, samples=n, seed=3, keep=2))
    assert results["sample"].shape == (2, *planes.shape)
    np.testing.assert_array_equal(results["sample"], everything["sample"][:2])
    for name in ("direct", "std", "mean", "sample_std"):  # which are of all samples
        np.testing.assert_array_equal(results[name], everything[name])
    assert much > 4 * n * planes.size
    assert little < 4 * 10 * planes.size
    targets = {name: np.full(value.shape, np.nan, np.float32) for name, value in results.items()}
    _, little = traced(denoise_into(model, planes, targets, axes="TYX", samples=n, seed=3))  # type: ignore[arg-type]
    assert little < 4 * 10 * planes[0].size
    for name, value in results.items():
        np.testing.assert_array_equal(targets[name], value)


def test_samples_that_nobody_wants_are_not_drawn(model: StandIn) -> None:
    drain(predict_steps(model, noise(1, 16, 16), ["direct", "std", "sample"], samples=50, keep=3))
    assert sum(model.batches) == 3


def traced(steps: Any) -> tuple[Any, int]:
    """Drain a prediction; give its result and the most bytes that numpy held meanwhile."""
    tracemalloc.start()
    try:
        return drain(steps), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_progress_rises_to_the_end(tiled: StandIn) -> None:
    records: list[Progress] = []
    drain(predict_steps(tiled, noise(2, 50, 50), ["direct", "mean"], samples=7), records.append)
    fractions = [record.fraction for record in records]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1
    assert len(fractions) == 2 * sum(plan.work for plan in plan_tiles(tiled, (50, 50), ["direct", "mean"], 7))
    assert records[-1].remaining_seconds == 0


def test_between_yields_the_caller_can_train(tiled: StandIn) -> None:
    tiled.train()
    steps = predict_steps(tiled, noise(1, 50, 50), ["direct", "mean"], samples=2)
    for _ in steps:
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
    assert tiled.training
    stopped = predict_steps(tiled, noise(1, 50, 50), ["direct"])
    next(stopped)
    stopped.close()
    assert tiled.training


@pytest.mark.parametrize("samples", [0, -3])
def test_fewer_than_one_sample_is_refused_at_once(model: StandIn, samples: int) -> None:
    with pytest.raises(SettingError, match=rf"found {samples}"):
        predict_steps(model, noise(1, 8, 8), ["mean"], samples=samples)


@pytest.mark.parametrize("keep", [0, 4])
def test_more_samples_than_are_drawn_cannot_be_kept(model: StandIn, keep: int) -> None:
    with pytest.raises(SettingError, match=f"1 to 3 samples to keep, found {keep}"):
        predict_steps(model, noise(1, 8, 8), ["sample"], samples=3, keep=keep)
    with pytest.raises(SettingError, match=f"found {keep}"):
        denoise_into(model, noise(1, 8, 8), {"sample": np.zeros((keep, 1, 8, 8))}, axes="TYX", samples=3)


def test_unknown_outputs_are_refused_at_once(model: StandIn) -> None:
    with pytest.raises(SettingError, match="modus"):
        predict_steps(model, noise(1, 8, 8), ["modus"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried ..."),
    ],
)
def test_out_of_memory_names_itself_and_the_mend(model: StandIn, monkeypatch: Any, error: Exception) -> None:
    def fail(*_: Any) -> Tensor:
        raise error

    monkeypatch.setattr(model, "sample", fail)
    with (
        pytest.warns(UserWarning, match="Memory is short"),  # it tries with less first
        pytest.raises(DenoiserError, match=r"Out of memory.*crop the image, close other programs"),
    ):
        drain(predict_steps(model, noise(1, 8, 8), ["mean"]))


def test_without_memory_for_one_tile_the_direct_pass_names_the_mend(tiled: StandIn) -> None:
    tiled.room = 20 * 20
    with pytest.raises(DenoiserError, match=r"Out of memory.*crop the image.*close other programs"):
        drain(predict_steps(tiled, noise(1, 60, 61), ["direct"]))


@pytest.mark.parametrize("outputs", [["mean", "sample_std"], ["mean", "sample", "median"]])
def test_with_less_memory_the_samples_are_the_same_and_it_is_said_once(outputs: list[Output]) -> None:
    planes, batch = noise(2, 36, 40), 4 * 36 * 40
    cramped = StandIn(batch_pixels=batch, room=2 * 36 * 40)
    expected = drain(predict_steps(StandIn(batch_pixels=batch), planes, outputs, samples=9))
    records: list[Progress] = []
    with pytest.warns(UserWarning, match="Memory is short: drawing fewer samples at a time"):
        found = drain(predict_steps(cramped, planes, outputs, samples=9), records.append)
    again = drain(predict_steps(cramped, planes, outputs, samples=9))  # a second warning would be an error
    assert records[-1].fraction == 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
        np.testing.assert_allclose(again[name], value, atol=1e-5)


def test_what_is_free_decides_on_batches_and_never_on_tiles(
    model: StandIn, tiled: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, outputs = (90, 61), ["direct", "mean", "sample"]
    plenty = drain(predict_steps(tiled, noise(1, *shape), outputs, samples=5, seed=4))
    whole = drain(predict_steps(model, noise(1, 40, 40), ["sample"], samples=5))
    encoded, tiled.encoded = tiled.encoded, 0
    model.batches.clear()
    monkeypatch.setattr(predict, "available_memory", lambda device: 4 * 2.6 * 40 * 40)
    with pytest.warns(UserWarning, match="Memory is short"):
        little = drain(predict_steps(model, noise(1, 40, 40), ["sample"], samples=5))
    assert model.batches == [2, 2, 1]
    np.testing.assert_array_equal(little["sample"], whole["sample"])
    for name, value in drain(predict_steps(tiled, noise(1, *shape), outputs, samples=5, seed=4)).items():
        np.testing.assert_array_equal(value, plenty[name])
    assert tiled.encoded == encoded
    monkeypatch.undo()
    model.batches.clear()  # one run with little memory leaves nothing behind
    drain(predict_steps(model, noise(1, 40, 40), ["sample"], samples=5))
    assert model.batches == [5]


@pytest.mark.parametrize("shape", [(7, 20), (20, 7), (0, 20)])
def test_planes_that_are_too_small_are_refused(model: StandIn, shape: tuple[int, int]) -> None:
    planes = noise(2, *shape)
    with pytest.raises(ImageError, match=r"8 x 8 pixels|it is empty"):
        drain(denoise_into(model, planes, {"direct": np.zeros(planes.shape, np.float32)}, axes="TYX"))


def test_other_failures_of_torch_are_told_too(model: StandIn) -> None:
    model.coarse = nn.Conv2d(3, 4, 3)  # a shape error
    with pytest.raises(DenoiserError, match="channels"):
        drain(predict_steps(model, noise(1, 8, 8), ["direct"]))
