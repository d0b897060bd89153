"""Correct the bias of HDN's samples, which a noise model that is not quite right gives them.

The mean of the noise is 0 and does not depend on other pixels. So the difference of a noisy image and a posterior
sample has no mean, and no covariance with the brightness around a pixel without the pixel itself. Where the likelihood
pulls the samples away from that, for example because the noise is less skewed than its model, a line mends it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..normalization import NetworkInput
from ..system import double
from .state import State
from .world import ALONE, World

_DECAY = 0.95  # of the moments, a step
_AROUND, _MIDDLE = 7, 3  # sides of the ring around a pixel
_PRIOR = 0.01  # of the variance of the image: keeps the scale at 1 where there is no contrast
_MOST = 0.2  # largest correction of the scale


class BiasCorrection:
    """Line ``scale * sample + shift`` that makes samples unbiased, from running moments of noisy images and samples.

    The moments are those of the images of all processes that train together.
    """

    def __init__(self, world: World = ALONE) -> None:
        self._world = world
        self._moments: Tensor | None = None
        self._added = 0

    @torch.no_grad()
    def add(self, inputs: NetworkInput, signal: Tensor) -> None:
        """Take into account the signals (B, 1, H, W) that HDN decoded for some images."""
        noisy, signal = double(inputs.noisy), double(signal)
        ring = _ring(noisy)
        parts = [noisy, signal, ring, noisy * ring, signal * ring, noisy * noisy]
        moments = torch.stack([part.mean() for part in parts])
        self._world.average([moments])
        self._added += 1
        weight = max(1 / self._added, 1 - _DECAY)
        self._moments = moments if self._moments is None else self._moments.lerp(moments, weight)

    def state(self) -> State:
        """The moments so far."""
        return {"moments": self._moments, "added": self._added}

    def restore(self, state: State, device: torch.device) -> None:
        """Go on with these moments."""
        here = double(torch.zeros((), device=device))
        self._moments = None if state["moments"] is None else state["moments"].to(here)
        self._added = state["added"]

    def line(self) -> Tensor | None:
        """Scale, and shift in counts, (2,); None before anything was added. Nothing here waits for a GPU."""
        if self._moments is None:
            return None
        noisy, signal, ring, noisy_ring, signal_ring, square = self._moments
        prior = _PRIOR * (square - noisy**2)
        variance = signal_ring - signal * ring + prior
        scale = (noisy_ring - noisy * ring + prior) / torch.where(variance == 0, 1.0, variance)
        scale = scale.clamp(1 - _MOST, 1 + _MOST)
        return torch.stack([scale, noisy - scale * signal])


def unbiased(signal: Tensor, line: Tensor) -> Tensor:
    """Correct the bias of a signal that HDN decoded by a `BiasCorrection.line`."""
    scale, shift = line.to(signal).unbind()
    return signal * scale + shift


def _ring(image: Tensor) -> Tensor:
    """Mean of the 7 x 7 pixels around each pixel without the inner 3 x 3: independent of the noise in the middle."""
    wide, inner = (
        F.avg_pool2d(image, side, 1, side // 2, count_include_pad=False) * side**2 for side in (_AROUND, _MIDDLE)
    )
    return (wide - inner) / (_AROUND**2 - _MIDDLE**2)
