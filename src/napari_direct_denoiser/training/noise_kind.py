"""Which kind of correlated noise the images have: the one under which they are more likely, given their direct pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..co_model import CoModel
from ..data.images import middle, sampled_planes
from ..noise import CorrelatedNoise, NoiseFit, NoiseModel, likelier_kind
from ..noise.wrapped import WholePlaneNoise, without_whole_planes

_PLANES, _SIDE = 4, 256  # of which the middle pixels are looked at


@torch.no_grad()
def choose_kind(model: CoModel, stacks: Sequence[NDArray[np.generic]], fit: NoiseFit) -> NoiseFit:
    """Give a model the kind of correlated noise that suits its images, if their noise is correlated.

    Parameters
    ----------
    model
        Pretrained networks on the CPU. Their direct pass, which has not learned from the images, stands for the signal.
    stacks
        The noisy images (planes, Y, X), counts.
    fit
        Of their noise. It is returned with the same noise model as the networks get.
    """
    pixel = without_whole_planes(model.noise)
    if not isinstance(pixel, CorrelatedNoise):
        return fit
    pairs = []
    for plane in sampled_planes([model.noise.measured(stack) for stack in stacks], _PLANES):
        part = plane[tuple(middle(side, _SIDE, model.multiple, pixel.row_period) for side in plane.shape)]
        noisy = torch.from_numpy(part)[None, None]
        pairs.append((noisy, model.direct(noisy)))
    model.change_noise(_with_pixel_noise(model.noise, likelier_kind(pixel, pairs)))
    return replace(fit, model=model.noise)


def _with_pixel_noise(model: NoiseModel, pixel: NoiseModel) -> NoiseModel:
    """Replace what is left of a model by `without_whole_planes`."""
    return model.with_base(_with_pixel_noise(model.base, pixel)) if isinstance(model, WholePlaneNoise) else pixel
