"""Whether the direct pass or the mean of samples of HDN is nearer to the truth, without a truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..co_model import CoModel
from ..data.images import Frames
from ..noise.scene import FEWEST_FRAMES, sampled_scenes
from ..progress import SAMPLES_OF_MEAN
from ..risk import SQUARED_ERROR_UNKNOWN, Gain, Probe, gain, repeated_error
from ..system import double

_SAMPLES = 8
_SIDE = 512  # pixels; of larger planes the middle is judged, as samples take long
_PLANES = 4
_EDGE = 8  # pixels that are left out: predictions are worse there


@dataclass(frozen=True, eq=False)
class AgainstMean:
    """The direct pass of an image beside the mean of ever more samples; all (1, 1, H, W) without the edge, float64."""

    worse: Tensor
    """Squared error of that mean less that of the direct pass, counts^2, right on average: Stein's estimate, or that of
    frames of a static scene."""
    unknown: float
    """Error of the mean of `worse` that all pixels share, counts^2."""
    variance: Tensor
    """Of the samples, counts^2."""
    own: Tensor
    """Squared error of the direct pass as the model predicts it, counts^2."""
    mean: Tensor
    """Of a few samples, counts."""

    @classmethod
    def of(cls, model: CoModel, scene: Tensor, seed: int) -> AgainstMean:
        """Measure a frame, the first of a scene (frames, 1, H, W), counts; without two others by Stein's estimate."""

        def draw(image: Tensor) -> Tensor:
            generators = [torch.Generator(device=model.device).manual_seed(seed + number) for number in range(_SAMPLES)]
            return model.sample(model.encode(image), generators)

        noisy, others = scene[:1], double(scene[1:])
        direct, std = model.direct_with_std(noisy)
        variance, mean = torch.var_mean(draw(noisy), 0, keepdim=True)
        if len(scene) >= FEWEST_FRAMES:
            of_mean, own = (repeated_error(others - double(each))[None] for each in (mean, direct))
            worse, unknown = of_mean - own, 0.0
        else:
            probe = Probe.draw(model.noise, noisy, direct, seed)
            worse, unknown = probe.pixels(
                probe.response(mean, draw(probe.shifted).mean(0, keepdim=True)),
                probe.response(direct, model.direct(probe.shifted)),
            )
        variance = double(variance)
        inner = ..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
        return cls(
            (worse - variance / _SAMPLES)[inner],
            unknown,
            variance[inner],
            double(std).square()[inner],
            double(mean)[inner],
        )

    @classmethod
    @torch.no_grad()
    def of_planes(
        cls, model: CoModel, stacks: Sequence[Frames], seed: int, *, single: bool = False
    ) -> list[AgainstMean]:
        """Measure the middle of some planes of one size, or of a single one."""
        scenes = sampled_scenes(stacks, 1 if single else _PLANES, _SIDE, model.multiple, model.noise.row_period)
        found = [cls.of(model, torch.from_numpy(np.stack(scene))[:, None].to(model.device), seed) for scene in scenes]
        return [each for each in found if each.own.shape == found[0].own.shape]


def direct_over_mean(planes: Sequence[AgainstMean]) -> Gain | None:
    """Estimate by how much the direct pass is better than the mean of as many samples as `denoise` draws.

    Parameters
    ----------
    planes
        Of a trained model, whose predicted standard deviations are calibrated: they give the ratio in dB.

    Returns
    -------
    Gain or None
        None if nothing was measured, or if a mean squared error is not positive.
    """
    if not planes:
        return None
    own = torch.cat([each.own for each in planes])
    more = torch.cat([each.worse + each.variance / SAMPLES_OF_MEAN for each in planes])
    unknown = sum(each.unknown for each in planes) / len(planes)
    return gain(own, more, (SQUARED_ERROR_UNKNOWN * float(own.mean()), unknown))
