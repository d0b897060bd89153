"""What a prediction is planned to take: bounded whatever the side of the plane and the number of samples."""

from __future__ import annotations

import numpy as np
import pytest

from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import PresetName
from napari_direct_denoiser.noise import GaussianNoise
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.prediction.tiling import HELD_PIXELS, WHOLE_BYTES, Output, plan_tiles
from napari_direct_denoiser.presets import PRESETS

OUTPUTS: list[Output] = ["direct", "std", "mean", "sample_std"]


@pytest.fixture(params=sorted(PRESETS))
def model(request: pytest.FixtureRequest) -> CoModel:
    name: PresetName = request.param
    config, noise = PRESETS[name].model, GaussianNoise(1.0)
    stack = np.random.default_rng(0).normal(100, 1, (2, 64, 64))
    return CoModel(config, noise, Normalization.of([stack], config.units, noise))


@pytest.mark.parametrize("side", [100, 2048, 4096, 20_000])
@pytest.mark.parametrize("samples", [1, 1000])
def test_memory_is_bounded(model: CoModel, side: int, samples: int) -> None:
    assert max(each.bytes for each in plan_tiles(model, (side, side), OUTPUTS, samples)) <= WHOLE_BYTES
    median = plan_tiles(model, (side, side), ["median"], samples)[0]
    assert median.bytes <= WHOLE_BYTES + 4 * HELD_PIXELS


def test_planes_of_common_cameras_are_sampled_whole_by_the_quick_networks(model: CoModel) -> None:
    whole = len(plan_tiles(model, (2048, 2048), ["sample"], 1)[0].tiles) == 1
    assert whole == (model.config.units == "noise")
    assert len(plan_tiles(model, (1024, 1024), ["direct", "sample"], 1)[1].tiles) == 1


def test_less_memory_makes_batches_smaller_down_to_one_sample(model: CoModel) -> None:
    (plan,) = plan_tiles(model, (100, 100), ["mean"], 64)
    assert plan.batch_within(1e15) == plan.batch
    assert plan.batch_within(1.5 * plan.call_bytes) == 1
    assert plan.batch_within(0) == 1
    if plan.batch > 2:
        assert plan.batch_within(2.5 * plan.call_bytes) == 2
    (median,) = plan_tiles(model, (100, 100), ["median"], 64)
    assert median.batch_within(plan.bytes) < max(plan.batch, 2)  # the held samples take some of it
