"""The units of the networks: what they see of an image, and what their output means in counts.

Trained networks only carry over to another image if noise looks alike in both. So the quick and
balanced presets work in units of the noise: HDN draws clean images whose noise would have a
deviation of 1 everywhere, and the Direct Denoiser gives what is to be added to a blurred image, in
deviations of the noise there. The paper's networks see the image with mean 0 and deviation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from .config import Config
from .data.images import sampled_planes
from .noise import NoiseModel

VIEWS = {"noise": 5, "image": 1}
"""Channels that the networks see in each kind of units."""

_SAMPLED_PIXELS = 8_000_000
_BLURS = (1.0, 2.0, 4.0)  # pixels; with blurred copies at hand the networks learn sooner to average
_BAND_GAINS = (1.0, 4.0, 8.0)  # noise weighs about as much in each band between two blurs
_BASE_BLUR = 2.0  # what the Direct Denoiser begins as
_DIRECT_GAIN = 0.1  # deviations of the noise; what there is to add is small, and a first step must not overshoot it
_ANSCOMBE = 0.375
_FLOOR = 0.25  # electrons; the deviation of the noise is never taken as less than that of so much light


class NetworkInput(NamedTuple):
    """An image as the networks see it, and what the Direct Denoiser's output means. All (B, 1, H, W) but the views."""

    noisy: Tensor
    """Counts."""
    views: Tensor
    """(B, `VIEWS`, H, W), of the order of 1. In units of the noise these are bands between blurs of growing sigma, for
    as copies of one another they would be hard to learn from; what is left of the image above the bands; and how
    skewed the noise is, which it is where there is little light."""
    base: Tensor
    """Counts to which the Direct Denoiser adds."""
    step: Tensor
    """Counts that an output of 1 adds. The result is linear in the output, so that the mean remains a mean."""


class Normalization(Config):
    """Brightness and noise of the training images, as far as the networks' units depend on them."""

    units: Literal["noise", "image"]
    mean: float
    """Of the images, counts."""
    std: float
    """Of the images, counts."""
    slope: float
    """Of the noise variance over the signal, counts; whatever the likelihood becomes."""
    intercept: float
    """Noise variance at a signal of 0, counts^2 (negative where there is an offset)."""
    level: float
    """Mean of the stabilised images."""

    @model_validator(mode="before")
    @classmethod
    def _migrate(cls, values: Any) -> Any:
        """Read files of version 0.1, which call the standard deviation `deviation`."""
        if isinstance(values, dict) and "deviation" in values:
            values = {**values, "std": values["deviation"]}
            del values["deviation"]
        return values

    @classmethod
    def of(
        cls, stacks: Sequence[NDArray[np.generic]], units: Literal["noise", "image"], noise: NoiseModel
    ) -> Normalization:
        """Measure (planes, Y, X) stacks; of large ones only some planes are looked at."""
        slope, intercept = noise.linear_variance()
        most = max(_SAMPLED_PIXELS // max(stack[0].size for stack in stacks), 4)
        pixels = torch.cat([torch.from_numpy(plane).flatten() for plane in sampled_planes(stacks, most)])
        std, mean = torch.std_mean(pixels)
        return cls(
            units=units,
            mean=float(mean),
            std=max(float(std), 1e-6),
            slope=slope,
            intercept=intercept,
            level=float(anscombe(pixels, slope, intercept).mean()),
        )

    def prepare(self, noisy: Tensor) -> NetworkInput:
        """Prepare (B, 1, H, W) counts for the networks.

        In float32, so never under autocast: bfloat16 cannot tell 100 counts from 100.4.
        """
        if self.units == "image":
            base, step = torch.full_like(noisy, self.mean), torch.full_like(noisy, self.std)
            return NetworkInput(noisy, (noisy - base) / step, base, step)
        blurred = [gaussian_blur(noisy, sigma) for sigma in _BLURS]
        fine, *coarser = [anscombe(image, self.slope, self.intercept) for image in (noisy, *blurred)]
        views = []
        for gain, coarse in zip(_BAND_GAINS, coarser, strict=True):
            views.append(gain * (fine - coarse))
            fine = coarse
        base = blurred[_BLURS.index(_BASE_BLUR)]
        sigma = self._sigma(base)
        views += [fine - self.level, self.slope / sigma]
        return NetworkInput(noisy, torch.cat(views, dim=1), base, _DIRECT_GAIN * sigma)

    def signal(self, drawn: Tensor) -> Tensor:
        """Counts of a clean image that HDN drew."""
        if self.units == "image":
            return drawn * self.std + self.mean
        return inverse_anscombe(drawn + self.level, self.slope, self.intercept)

    @property
    def unit(self) -> float:
        """Counts in which errors of the Direct Denoiser are measured."""
        return self.std if self.units == "image" else float(self._sigma(torch.tensor(self.mean)))

    def _sigma(self, signal: Tensor) -> Tensor:
        """Deviation of the noise, counts, as that of some light where there is none."""
        typical = max(self.slope * self.mean + self.intercept, 0.0)
        floor = max(_FLOOR * self.slope**2, 1e-2 * typical, 1e-30)
        return (self.slope * signal + self.intercept).clamp_min(floor).sqrt()


def anscombe(noisy: Tensor, slope: float, intercept: float) -> Tensor:
    """Transform ``noisy`` so that noise of variance ``slope * signal + intercept`` has a deviation of about 1.

    The generalised Anscombe transform (Starck et al. 1998), or a mere division by sigma where the
    variance does not depend on the signal.
    """
    if _is_flat(slope, intercept):
        return noisy / math.sqrt(intercept)
    return 2 / slope * (slope * noisy + _ANSCOMBE * slope**2 + intercept).clamp_min(0).sqrt()


def inverse_anscombe(stabilised: Tensor, slope: float, intercept: float) -> Tensor:
    """The inverse of `anscombe`; below what no light would give it goes on as a straight line."""
    if _is_flat(slope, intercept):
        return stabilised * math.sqrt(intercept)
    dark = 2 * math.sqrt(_ANSCOMBE)
    light = stabilised.clamp_min(dark)
    signal = (0.25 * slope * light.square()) - _ANSCOMBE * slope - intercept / slope
    return signal + 0.5 * slope * dark * (stabilised - light)


def _is_flat(slope: float, intercept: float) -> bool:
    return slope <= 1e-6 * math.sqrt(max(intercept, 0.0))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur (B, 1, H, W) by a Gaussian of ``sigma`` pixels, cut off at 3 sigma."""
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
