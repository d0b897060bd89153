"""Prediction by a stand-in whose results are known: tiles leave no trace, statistics are those of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_direct_denoiser import passes, prediction, sample_statistics
from napari_direct_denoiser.errors import DenoiserError, SettingError
from napari_direct_denoiser.prediction.predict import predict_steps
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.progress import Progress, drain

DEVIATION = 3.0


class StandIn(nn.Module):
    """A network that reaches 6 pixels far on a grid of 4, and a denoising distribution `noisy + 1 +- 3`.

    All numbers of the direct pass are whole and small, so that float32 is exact and tiles can be compared bit by bit.
    """

    multiple, halo, pixel_bytes, memory_share = 4, 8, 4, 1.0
    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 2, 5, padding=2)
        self.coarse = nn.Conv2d(8, 4, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randint(-3, 4, parameter.shape, generator=torch.Generator().manual_seed(1)).float()
        self.encoded = 0
        self.batches: list[int] = []

    def direct(self, noisy: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert noisy.dtype == torch.float32
        assert noisy.shape[-1] % 4 == 0
        assert noisy.shape[-2] % 4 == 0
        blocks = nn.functional.pixel_unshuffle(self.fine(noisy), 2)  # depends on where the grid lies
        return nn.functional.pixel_shuffle(self.coarse(blocks), 2)

    def encode(self, noisy: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.encoded += 1
        return noisy

    def sample(self, encoding: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        self.batches.append(len(generators))
        draws = [torch.randn(encoding.shape[1:], generator=generator) for generator in generators]
        return encoding + 1 + DEVIATION * torch.stack(draws)


@pytest.fixture
def model() -> StandIn:
    return StandIn()


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "DIRECT_TILE", 24)
    monkeypatch.setattr(passes, "WHOLE_PIXELS", 40 * 40)
    monkeypatch.setattr(passes, "BATCH_BYTES", 4 * 3 * 40 * 40)
    monkeypatch.setattr(prediction, "YIELD_SECONDS", 0.0)


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(0).integers(0, 50, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 90), (24, 24), (53, 71), (101, 64)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float64, ">i2"])
def test_direct_in_tiles_equals_whole(model: StandIn, small_tiles: None, shape: tuple[int, int], dtype: Any) -> None:
    plane = noise(1, *shape).astype(dtype)
    whole = np.pad(plane[0].astype(np.float32), [(0, -side % 4) for side in shape], mode="reflect")
    with torch.inference_mode():
        expected = model.eval().direct(torch.from_numpy(whole)[None, None])[0, 0].numpy()
    result = drain(predict_steps(model, plane, ["direct"]))["direct"]
    assert result.dtype == np.float32
    assert result.shape == plane.shape
    np.testing.assert_array_equal(result[0], expected[: shape[0], : shape[1]])


@pytest.mark.parametrize("samples", [1, 2, 7, 8])
def test_statistics_are_those_of_the_returned_samples(model: StandIn, monkeypatch: Any, samples: int) -> None:
    monkeypatch.setattr(passes, "BATCH_BYTES", 4 * 3 * 20 * 32)  # 3 samples a call
    planes = noise(2, 20, 31)
    together = drain(predict_steps(model, planes, ["mean", "median", "std", "sample"], samples=samples, seed=5))
    drawn = together["sample"]
    assert drawn.shape == (samples, 2, 20, 31)
    assert max(model.batches) <= 3
    assert model.encoded == 2
    for name, expected in (("mean", drawn.mean(0)), ("std", drawn.std(0))):
        np.testing.assert_allclose(together[name], expected, atol=2e-5)
    np.testing.assert_array_equal(together["median"], np.median(drawn, axis=0))
    for name, value in together.items():  # and the same each alone
        np.testing.assert_array_equal(drain(predict_steps(model, planes, [name], samples=samples, seed=5))[name], value)


def test_large_planes_are_blended_from_tiles(model: StandIn, small_tiles: None) -> None:
    planes, n = noise(1, 90, 61), 400
    results = drain(predict_steps(model, planes, ["mean", "median", "std"], samples=n))
    tiles = len(passes.plan(model, (90, 61), ["mean"], n)[0].tiles)
    assert tiles > 4
    assert model.encoded == tiles
    error = DEVIATION / np.sqrt(n)
    assert np.abs(results["mean"] - planes - 1).max() < 5.5 * error
    assert np.abs(results["median"] - planes - 1).max() < 5.5 * 1.26 * error
    # In the seams too, where a blend of samples would vary by up to 1 / sqrt(2) less.
    assert np.abs(results["std"] - DEVIATION).max() < 5.5 * error / np.sqrt(2)
    drawn = drain(predict_steps(model, planes, ["sample"], samples=n))["sample"]
    np.testing.assert_allclose(drawn.mean(0), results["mean"], atol=1e-4)


def test_neighbouring_tiles_and_planes_have_unrelated_samples(model: StandIn, small_tiles: None) -> None:
    planes = np.zeros((2, 48, 48), np.uint16)
    drawn = drain(predict_steps(model, planes, ["sample"], samples=2))["sample"].reshape(4, 48, 48)
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
    monkeypatch.setattr(passes, "MEDIAN_PIXELS", 50 * 24 * 24)
    both = drain(predict_steps(model, planes, ["mean", "median"], samples=50))
    np.testing.assert_array_equal(both["mean"], mean)


def test_a_median_stays_within_its_budget(model: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "MEDIAN_PIXELS", 200 * 24 * 24)
    largest = 0
    median = sample_statistics.median

    def spy(held: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        nonlocal largest
        largest = max(largest, held.size)
        return median(held)

    monkeypatch.setattr(sample_statistics, "median", spy)
    planes = noise(1, 61, 64)
    result = drain(predict_steps(model, planes, ["median"], samples=200))["median"]
    assert 0 < largest <= passes.MEDIAN_PIXELS
    assert np.abs(result - planes - 1).max() < 5.5 * 1.26 * DEVIATION / np.sqrt(200)


def test_progress_is_true_and_ends_at_the_total(model: StandIn, small_tiles: None) -> None:
    records: list[Progress] = []
    drain(predict_steps(model, noise(2, 50, 50), ["direct", "mean"], samples=7), records.append)
    direct, mean = passes.plan(model, (50, 50), ["direct", "mean"], 7)
    assert {record.total for record in records} == {2 * (len(direct.tiles) + 7 * len(mean.tiles))}
    done = [record.done for record in records]
    assert done == sorted(set(done))
    assert done[-1] == records[-1].total
    assert len(done) >= 2 * (len(direct.tiles) + len(mean.tiles))  # told after every call of the model
    assert records[-1].remaining_seconds == 0


def test_progress_is_not_told_more_than_ten_times_a_second(model: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(np.arange(1000) * 0.03)
    monkeypatch.setattr(prediction.time, "monotonic", lambda: next(now))
    records: list[Progress] = []
    drain(predict_steps(model, noise(40, 8, 8), ["direct"]), records.append)
    gaps = np.diff([record.elapsed_seconds for record in records])
    assert len(records) < 25
    assert gaps[:-1].min() >= 0.1 - 1e-9
    assert records[-1].done == 40


def test_between_yields_the_caller_can_train(model: StandIn, small_tiles: None) -> None:
    model.train()
    steps = predict_steps(model, noise(1, 50, 50), ["direct", "mean"], samples=2)
    for _ in steps:
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
    assert model.training
    stopped = predict_steps(model, noise(1, 50, 50), ["direct"])
    next(stopped)
    stopped.close()
    assert model.training


@pytest.mark.parametrize("samples", [0, -3])
def test_fewer_than_one_sample_is_refused_at_once(model: StandIn, samples: int) -> None:
    with pytest.raises(SettingError, match=rf"found {samples}"):
        predict_steps(model, noise(1, 8, 8), ["mean"], samples=samples)


def test_unknown_outputs_are_refused_at_once(model: StandIn) -> None:
    with pytest.raises(SettingError, match="mode"):
        predict_steps(model, noise(1, 8, 8), ["mode"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
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
        pytest.raises(DenoiserError, match=r"Out of memory.*fewer samples"),
    ):
        drain(predict_steps(model, noise(1, 8, 8), ["mean"]))


class Cramped(StandIn):
    """Has memory for so many pixels a call."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels, self.calls = pixels, 0

    def direct(self, noisy: Tensor) -> Tensor:
        self._take(noisy.numel())
        return super().direct(noisy)

    def sample(self, encoding: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        self.calls += 1
        if self.calls > 2:  # some of the plane is done already
            self._take(len(generators) * encoding.numel())
        return super().sample(encoding, generators)

    def _take(self, pixels: int) -> None:
        if pixels > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("outputs", "pixels"), [(["direct"], 30 * 30), (["mean", "sample", "median"], 2 * 40 * 40)])
def test_with_less_memory_the_result_is_the_same_and_it_is_said_once(
    model: StandIn, small_tiles: None, outputs: list[Output], pixels: int
) -> None:
    planes, cramped = noise(2, 60, 61), Cramped(pixels)
    expected = drain(predict_steps(model, planes, outputs, samples=9))
    records: list[Progress] = []
    with pytest.warns(UserWarning, match="in smaller parts"):
        found = drain(predict_steps(cramped, planes, outputs, samples=9), records.append)
    again = drain(predict_steps(cramped, planes, outputs, samples=9))  # a second warning would be an error
    assert records[-1].done == records[-1].total
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
        np.testing.assert_array_equal(again[name], found[name])


def test_with_still_less_memory_samples_are_drawn_in_smaller_tiles(model: StandIn, small_tiles: None) -> None:
    cramped, n = Cramped(34 * 34), 400
    with pytest.warns(UserWarning, match="in smaller parts"):
        found = drain(predict_steps(cramped, noise(1, 40, 40), ["mean"], samples=n))
    assert np.abs(found["mean"] - noise(1, 40, 40) - 1).max() < 5.5 * DEVIATION / np.sqrt(n)


def test_what_is_planned_fits_into_the_memory_that_is_free(
    model: StandIn, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "available_memory", lambda device: 4 * 1700)
    with pytest.warns(UserWarning, match="in smaller parts"):
        drain(predict_steps(model, noise(1, 40, 40), ["sample"], samples=5))
    assert max(model.batches) * 40 * 40 <= 1700


def test_other_failures_of_torch_are_told_too(model: StandIn) -> None:
    model.coarse = nn.Conv2d(3, 4, 3)  # a shape error
    with pytest.raises(DenoiserError, match="channels"):
        drain(predict_steps(model, noise(1, 8, 8), ["direct"]))
