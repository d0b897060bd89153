"""Small networks in place of those of the quick preset, which learn in few steps; all else is as users have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from napari_direct_denoiser.config import DivNoisingConfig, HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.presets import PRESETS

HDN = HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False)
DIVNOISING = DivNoisingConfig(filters=(8, 8), latent_channels=4, blocks=1, published=False)
UNET = UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True)
QUICK = PRESETS["quick"].model_copy(
    update={
        "model": ModelConfig(hdn=HDN, direct=UNET, units="noise"),
        "divnoising": DIVNOISING,
        "pretrained": False,
    }
)
"""The quick preset with small networks of random weights."""


@contextmanager
def small_networks() -> Iterator[None]:
    """Put it in the place of the quick preset, with smaller patches, and computed in float32 everywhere."""
    schedule = QUICK.schedule.model_copy(update={"patch": 32, "side_by_side": False})
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", QUICK.model_copy(update={"schedule": schedule}))
        patched.setattr("napari_direct_denoiser.system._cpu_has_bfloat16", lambda: False)
        yield
