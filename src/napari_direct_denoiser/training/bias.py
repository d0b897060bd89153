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

    Attributes
    ----------
    running
        (7,): how often images were added, and the moments. It stays where it is (`CudaGraphs`).
    """

    def __init__(self, device: torch.device, world: World = ALONE) -> None:
        self._world = world
        self.running = double(torch.zeros(7, device=device))

    @torch.no_grad()
    def add(self, inputs: NetworkInput, signal: Tensor) -> None:
        """Take into account the signals (B, 1, H, W) that HDN decoded for some images."""
        noisy, signal = double(inputs.noisy), double(signal)
        ring = _ring(noisy)
        parts = [noisy, signal, ring, noisy * ring, signal * ring, noisy * noisy]
        moments = torch.stack([part.mean() for part in parts])
        self._world.average([moments])
        self.running[0] += 1
        self.running[1:].lerp_(moments, (1 / self.running[0]).clamp_min(1 - _DECAY))

    def state(self) -> State:
        """The moments so far. This waits for a GPU."""
        added = round(self.running[0].item())
        return {"moments": self.running[1:].clone() if added else None, "added": added}

    def restore(self, state: State) -> None:
        """Go on with these moments."""
        self.running.zero_()
        if state["moments"] is not None:
            self.running[0] = state["added"]
            self.running[1:] = state["moments"].to(self.running)

    def line(self) -> Tensor:
        """Scale, and shift in counts, (2,): 1 and 0 before anything was added. Nothing here waits for a GPU."""
        added, noisy, signal, ring, noisy_ring, signal_ring, square = self.running.unbind()
        prior = _PRIOR * (square - noisy**2)
        variance = signal_ring - signal * ring + prior
        scale = (noisy_ring - noisy * ring + prior) / torch.where(variance == 0, 1.0, variance)
        scale = torch.where(added == 0, 1.0, scale.clamp(1 - _MOST, 1 + _MOST))
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
