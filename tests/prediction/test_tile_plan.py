"""What a prediction is planned to take: bounded whatever the side of the plane and the number of samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import PRESETS, PresetName
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.prediction.tiling import MEDIAN_PIXELS, WHOLE_BYTES, Output, plan, plan_with_less

OUTPUTS: list[Output] = ["direct", "mean", "std"]


@pytest.fixture(params=sorted(PRESETS))
def model(request: pytest.FixtureRequest) -> CoModel:
    name: PresetName = request.param
    config, noise = PRESETS[name].model, GaussianNoise(1.0)
    stack = np.random.default_rng(0).normal(100, 1, (2, 64, 64))
    return CoModel(config, noise, Normalization.of([stack], config.units, noise))


@pytest.mark.parametrize("side", [100, 2048, 4096, 20_000])
@pytest.mark.parametrize("samples", [1, 1000])
def test_memory_is_bounded(model: CoModel, side: int, samples: int) -> None:
    assert max(each.bytes for each in plan(model, (side, side), OUTPUTS, samples)) <= WHOLE_BYTES
    median = plan(model, (side, side), ["median"], samples)[0]
    assert median.bytes <= WHOLE_BYTES + 4 * MEDIAN_PIXELS


def test_planes_of_common_cameras_are_sampled_whole_by_the_quick_networks(model: CoModel) -> None:
    whole = len(plan(model, (2048, 2048), ["sample"], 1)[0].tiles) == 1
    assert whole == (model.config.units == "noise")
    assert len(plan(model, (1024, 1024), ["direct", "sample"], 1)[1].tiles) == 1


def test_less_memory_takes_samples_at_a_time_first_and_then_tiles(model: CoModel) -> None:
    shape, n = (512, 512), 64
    passes = plan(model, shape, ["mean"], n)
    seen = [(passes[0].batch, len(passes[0].tiles))]
    while found := plan_with_less(model, shape, ["mean"], n, passes[0].bytes):
        model.memory_share, passes = found
        seen.append((passes[0].batch, len(passes[0].tiles)))
    batches = [batch for batch, tiles in seen if tiles == 1]
    assert batches == sorted(batches, reverse=True)
    assert batches[-1] == 1
    assert seen[-1][1] > 1
    assert passes[0].bytes < math.prod(shape) * model.pixel_bytes
