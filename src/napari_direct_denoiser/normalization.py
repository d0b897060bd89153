"""Normalisation: the input of the networks, and the conversion of their output to counts.

Trained networks transfer to another image only if the noise looks the same in both. Therefore the quick and balanced
presets work in units of the noise. HDN draws clean images whose noise has a standard deviation of 1 everywhere. The
Direct Denoiser predicts what to add to a blurred image, in local standard deviations of the noise. The networks of the
paper get the image with mean 0 and standard deviation 1.
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
from .errors import ImageError
from .noise import NoiseModel
from .system import in_float32

VIEWS = {"noise": 5, "image": 1}
"""Input channels of the networks, by the kind of units."""

_SAMPLED_PIXELS = 8_000_000
_BLURS = (1.0, 2.0, 4.0)  # sigmas, pixels; with blurred copies as input the networks learn to average sooner
_BAND_GAINS = (1.0, 4.0, 8.0)  # make the noise about equally strong in each band between two blurs
_BASE_BLUR = 2.0  # sigma, pixels; the untrained Direct Denoiser is this blur
_UNTRAINED_STD = 3.0  # `NetworkInput.step`s: the untrained error is 0.3 standard deviations of the noise
_DIRECT_GAIN = 0.1  # standard deviations of the noise; the correction is small, and a first step must not overshoot
_ANSCOMBE = 0.375
_FLOOR = 0.25  # electrons; the standard deviation of the noise is at least that of so much light


class NetworkInput(NamedTuple):
    """Input of both networks, and the scale of the Direct Denoiser's output. All (B, 1, H, W) but the views."""

    noisy: Tensor
    """Counts."""
    views: Tensor
    """(B, `VIEWS`, H, W), of the order of 1. In units of the noise: differences between blurs of growing sigma
    (correlated copies would be harder to learn from), the strongest blur, and the skewness of the noise, which is large
    where there is little light."""
    base: Tensor
    """Counts to which the Direct Denoiser's output is added."""
    step: Tensor
    """Counts that an output of 1 adds. The result is linear in the output, so that a mean remains a mean."""


class Normalization(Config):
    """Statistics of the whitened training images (`NoiseModel.whiten`) on which the units of the networks depend."""

    units: Literal["noise", "image"]
    mean: float
    """Mean of the images, counts."""
    std: float
    """Standard deviation of the images, counts."""
    slope: float
    """Slope of the noise variance over the signal, counts. It stays as it is if the noise model is refitted."""
    intercept: float
    """Noise variance at a signal of 0, counts^2 (negative if the camera has an offset)."""
    level: float
    """Mean of the images after the Anscombe transform."""
    hdn_scale: float = 1.0
    """Factor that makes HDN's samples unbiased, and with it:"""
    hdn_shift: float = 0.0
    """What is added to them then, counts."""

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
        """Measure (planes, Y, X) stacks; of large ones only some planes are read."""
        slope, intercept = noise.innovation.linear_variance()
        most = max(_SAMPLED_PIXELS // max(stack[0].size for stack in stacks), 4)
        measured = [noise.measured(stack) for stack in stacks]
        planes = (noise.whiten(torch.from_numpy(plane)) for plane in sampled_planes(measured, most))
        pixels = torch.cat([plane.flatten() for plane in planes])
        std, mean = torch.std_mean(pixels)
        level = float(anscombe(pixels, slope, intercept).mean())
        numbers = {"mean": float(mean), "std": float(std), "slope": slope, "intercept": intercept, "level": level}
        if not all(map(math.isfinite, numbers.values())):
            raise ImageError(
                f"Expected images whose statistics float32 can hold, found a mean of {mean:.3g} and noise of variance "
                f"{slope:.3g} * signal + {intercept:.3g}: divide them by a constant, or correct the noise model"
            )
        return cls(units=units, **{**numbers, "std": max(numbers["std"], 1e-6)})

    def prepare(self, noisy: Tensor) -> NetworkInput:
        """Prepare (B, 1, H, W) counts for the networks.

        Computed in float32, never under autocast: bfloat16 cannot distinguish 100 counts from 100.4.
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
        """Convert a clean image drawn by HDN to counts."""
        if self.units == "image":
            return drawn * self.std + self.mean
        return inverse_anscombe(drawn + self.level, self.slope, self.intercept)

    def error_std(self, inputs: NetworkInput, log_std: Tensor) -> Tensor:
        """Convert the standard deviation whose logarithm the Direct Denoiser predicts to counts."""
        return _UNTRAINED_STD * inputs.step * log_std.exp()

    def unbiased(self, signal: Tensor) -> Tensor:
        """Correct the bias of a signal that HDN decoded."""
        return signal * self.hdn_scale + self.hdn_shift

    @property
    def unit(self) -> float:
        """Unit of the Direct Denoiser's loss, counts."""
        return self.std if self.units == "image" else float(self._sigma(torch.tensor(self.mean)))

    def _sigma(self, signal: Tensor) -> Tensor:
        """Standard deviation of the noise, counts; never less than that of `_FLOOR` electrons."""
        typical = max(self.slope * self.mean + self.intercept, 0.0)
        floor = max(_FLOOR * self.slope**2, 1e-2 * typical, 1e-30)
        return (self.slope * signal + self.intercept).clamp_min(floor).sqrt()


def anscombe(noisy: Tensor, slope: float, intercept: float) -> Tensor:
    """Transform ``noisy`` so that noise of variance ``slope * signal + intercept`` has a standard deviation of about 1.

    The generalised Anscombe transform (Starck et al. 1998), or a division by sigma if the variance does not depend on
    the signal.
    """
    if _is_flat(slope, intercept):
        return noisy / math.sqrt(intercept)
    return 2 / slope * (slope * noisy + _ANSCOMBE * slope**2 + intercept).clamp_min(0).sqrt()


def inverse_anscombe(stabilised: Tensor, slope: float, intercept: float) -> Tensor:
    """The inverse of `anscombe`, continued as a straight line below the value of no light."""
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
    offset = image.new_ones(2 * radius + 1).cumsum(0) - (radius + 1)  # made from the image, for `export`: see there
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    with in_float32(image.device):
        return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
