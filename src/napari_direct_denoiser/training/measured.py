"""What calibration measures: the direct pass, how it changes with the noise, and its error on redrawn noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import Curve
from ..co_model import CoModel
from ..noise.scene import FEWEST_FRAMES
from ..risk import STEP, Probe
from ..system import double

STRENGTH_RANGE = 0.25, 4.0
"""Of the variance of the noise over that of the noise model."""
_EDGE = 8  # pixels that are left out: predictions are worse there
_BIN_PIXELS = 50_000
_MOST_BINS = 8
_BRIGHTEST = 15 / 16, 31 / 32  # where the last of them is divided: few pixels are bright, and they differ most


class Measured(NamedTuple):
    """What is known of one plane; all (1, 1, H, W) counts, without the edge."""

    others: Tensor | None
    """Other frames of the scene less the direct prediction, (frames, 1, H, W), float64; None if there are not two."""
    direct: Tensor
    std: Tensor
    residual: Tensor
    """Noisy image minus direct prediction."""
    noise: Tensor
    """Independent noise b."""
    weighted: Tensor
    """b with the skewness of the noise; see `Probe`."""
    product: Tensor
    """Jacobian product of the direct pass and b."""
    redrawn_direct: Tensor
    redrawn_std: Tensor
    redrawn_error: Tensor

    @classmethod
    def of(cls, model: CoModel, scene: Sequence[NDArray[np.float32]], generator: torch.Generator) -> Measured:
        """Measure a frame (H, W), the first of a scene."""
        frames = torch.from_numpy(np.stack(scene))[:, None].to(model.device)
        noisy, others = frames[:1], double(frames[1:])
        direct, std = model.direct_with_std(noisy)
        seed = int(torch.randint(2**31, (), generator=generator, device=model.device))
        probe = Probe.draw(model.noise, noisy, direct, seed)
        product = probe.response(direct, model.direct(probe.shifted)).product
        sample = model.sample(model.encode(noisy), [generator])
        redrawn_direct, redrawn_std = model.direct_with_std(model.noise.sample(sample, generator))
        real = direct, std, noisy - direct, probe.noise, probe.weighted, product
        apart = _inner(others - double(direct)) if len(scene) >= FEWEST_FRAMES else None
        return cls(apart, *map(_inner, (*real, redrawn_direct, redrawn_std, redrawn_direct - sample)))

    @property
    def left_noise(self) -> Tensor:
        """What the direct pass leaves of the variance of the noise by the noise model, counts^2; right on average."""
        return self.noise.square() - 2 * self.weighted * self.product

    def unbiased(self, bias: Curve) -> Measured:
        """The same of a direct pass to which ``bias`` is added, over itself."""
        added, redrawn = bias(self.direct), bias(self.redrawn_direct)
        return self._replace(
            others=None if self.others is None else self.others - double(added),
            direct=self.direct + added,
            residual=self.residual - added,
            product=self.product + (bias(self.direct + STEP * self.product) - added) / STEP,
            redrawn_direct=self.redrawn_direct + redrawn,
            redrawn_error=self.redrawn_error + redrawn,
        )


def all_by_frames(planes: Sequence[Measured]) -> bool:
    """Whether other frames of the scene tell the error of every plane."""
    return all(plane.others is not None for plane in planes)


def bin_edges(images: Sequence[Tensor]) -> Tensor:
    """Values between bins (bins - 1,) that have about equally many pixels, float64."""
    pixels = double(torch.cat([image.flatten() for image in images]))
    bins = min(max(len(pixels) // _BIN_PIXELS, 1), _MOST_BINS)
    shares = np.linspace(0, 1, bins + 1)[1:-1].tolist()
    if bins == _MOST_BINS:
        shares += _BRIGHTEST
    return torch.from_numpy(np.quantile(pixels.cpu().numpy(), shares)).to(pixels)


def mean_in_bins(values: Sequence[Tensor], bin: Sequence[Tensor], bins: int) -> Tensor:
    """Mean in each bin (bins,), float64; not a number where there is no pixel."""
    numbers = torch.cat([each.flatten() for each in bin])
    pixels = double(torch.cat([each.flatten() for each in values]))
    return torch.zeros(bins, dtype=torch.float64, device=pixels.device).index_add_(0, numbers, pixels) / torch.bincount(
        numbers, minlength=bins
    )


def _inner(image: Tensor) -> Tensor:
    return image[..., _EDGE:-_EDGE, _EDGE:-_EDGE]
