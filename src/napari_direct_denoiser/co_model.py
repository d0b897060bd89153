"""HDN, the Direct Denoiser, the noise model and the normalisation, as one model in image units.

This is the only place that knows how pixels are normalised. One training step of the two networks
is `hdn_loss` followed by `direct_loss` (Salmon & Krull 2023, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import Config, Device, ModelConfig
from .device import Compute, resolve
from .images import sampled_planes
from .networks import LadderVAE, UNet
from .networks.ladder_vae import free_bits
from .noise import NoiseModel

_SCALING_PIXELS = 8_000_000  # sampled for mean and deviation


class Scaling(Config):
    """Mean and deviation of the training images in each view that the networks see; the first is the image itself."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    variance_line: tuple[float, float]
    """Slope and intercept of the noise variance by which the image is stabilised, whatever the likelihood becomes."""

    @classmethod
    def of(cls, stacks: Sequence[NDArray[np.generic]], config: ModelConfig, noise: NoiseModel) -> Scaling:
        """Measure (planes, Y, X) stacks; of large ones only some planes are looked at."""
        line = noise.linear_variance()
        most = max(_SCALING_PIXELS // max(stack[0].size for stack in stacks), 4)
        planes = (torch.from_numpy(plane)[None, None] for plane in sampled_planes(stacks, most))
        pixels = torch.cat([_views(plane, config, line).flatten(2) for plane in planes], dim=2)
        deviations, means = torch.std_mean(pixels[0], dim=1)
        return cls(
            means=tuple(means.tolist()), deviations=tuple(deviations.clamp_min(1e-6).tolist()), variance_line=line
        )

    @property
    def mean(self) -> float:
        """Of the image, counts."""
        return self.means[0]

    @property
    def deviation(self) -> float:
        """Of the image, counts."""
        return self.deviations[0]


@dataclass(frozen=True)
class HDNLoss:
    """Loss of HDN and its parts, nats per pixel, and the clean image that was drawn for it."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    """KL of every level, (levels,), before free bits."""
    sample: Tensor
    """(B, 1, H, W), normalised, without gradient: the Direct Denoiser's target."""


class CoModel(nn.Module):
    """The two networks on one device. Planes come and go as float32 (B, 1, H, W) in image units."""

    def __init__(self, config: ModelConfig, noise: NoiseModel, scaling: Scaling) -> None:
        super().__init__()
        self.config = config
        self.scaling = scaling
        self.hdn = LadderVAE(config.hdn, config.inputs)
        blurred = config.inputs - 1 - len(config.blurs) // 2 if config.blurs else 0  # the middle one
        self.unet = UNet(config.direct, config.inputs, start=blurred)
        self.noise = noise
        self.compute = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.compute.device

    @property
    def multiple(self) -> int:
        """Sides of planes must be divisible by this."""
        return max(self.hdn.multiple, self.unet.multiple)

    @property
    def halo(self) -> int:
        """Pixels of context on each side after which a tile's inside no longer depends on its edge."""
        return 2 * self.multiple

    def on(self, device: Device) -> CoModel:
        """Move to a device of that name, at the precision that it gains by."""
        self.compute = resolve(device)
        self.to(self.compute.device)
        self.to(memory_format=self.compute.memory_format)  # type: ignore[call-overload]
        return self

    def hdn_loss(self, noisy: Tensor) -> HDNLoss:
        """Draw a clean image for each patch and measure it (eq. 3): reconstruction + KL, per pixel."""
        inputs = self._inputs(noisy)
        with self.compute.autocast():
            decoded = self.hdn(inputs)
        signal = decoded.signal.float()
        reconstruction = -self.noise.log_prob(noisy, self._counts(signal)).mean()
        pixels = noisy.shape[-1] * noisy.shape[-2]
        kl = free_bits(decoded.kl, self.config.hdn.free_bits) / pixels
        return HDNLoss(
            reconstruction + kl, reconstruction.detach(), decoded.kl.detach().mean(1) / pixels, signal.detach()
        )

    def direct_loss(self, noisy: Tensor, sample: Tensor) -> Tensor:
        """L2 or L1 distance of the direct prediction to a drawn clean image (eq. 7), normalised units."""
        inputs = self._inputs(noisy)
        with self.compute.autocast():
            predicted: Tensor = self.unet(inputs).float()
        error = predicted - sample
        return error.abs().mean() if self.config.loss == "l1" else error.square().mean()

    def direct(self, noisy: Tensor) -> Tensor:
        """Denoise (B, 1, H, W) in one pass."""
        inputs = self._inputs(noisy)
        with self.compute.autocast():
            predicted = self.unet(inputs)
        return self._counts(predicted.float())

    def encode(self, noisy: Tensor) -> list[Tensor]:
        """Bottom-up pass of HDN over (1, 1, H, W): what `sample` needs, once a tile."""
        inputs = self._inputs(noisy)
        with self.compute.autocast():
            features: list[Tensor] = self.hdn.encode(inputs)
        return features

    def sample(self, encoding: Sequence[Tensor], n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` clean images (n, 1, H, W) for the plane that was encoded."""
        with self.compute.autocast():
            decoded = self.hdn.decode(encoding, n, generator)
        return self._counts(decoded.signal.float())

    def _inputs(self, noisy: Tensor) -> Tensor:
        """The image as the networks see it: (B, config.inputs, H, W), each view of mean 0 and deviation 1.

        In float32, so never under autocast: bfloat16 cannot tell 100 counts from 100.4.
        """
        means, deviations = (
            torch.tensor(values, device=noisy.device).view(1, -1, 1, 1)
            for values in (self.scaling.means, self.scaling.deviations)
        )
        views = (_views(noisy, self.config, self.scaling.variance_line) - means) / deviations
        return views.contiguous(memory_format=self.compute.memory_format)

    def _counts(self, normalised: Tensor) -> Tensor:
        return normalised * self.scaling.deviation + self.scaling.mean


def _views(noisy: Tensor, config: ModelConfig, variance_line: tuple[float, float]) -> Tensor:
    """The image, and the copies of it that ``config`` asks for: (B, config.inputs, H, W)."""
    views = [noisy]
    if config.stabilised_input:
        views.append(stabilise(noisy, *variance_line))
    views += [gaussian_blur(noisy, sigma) for sigma in config.blurs]
    return torch.cat(views, dim=1)


def stabilise(noisy: Tensor, slope: float, intercept: float) -> Tensor:
    """Transform ``noisy`` so that noise of variance ``slope * signal + intercept`` has a deviation of about 1.

    The generalised Anscombe transform (Starck et al. 1998), or a mere division by sigma where the
    variance does not depend on the signal.
    """
    if slope <= 1e-6 * math.sqrt(max(intercept, 0.0)):
        return noisy / math.sqrt(intercept)
    return 2 / slope * (slope * noisy + 0.375 * slope**2 + intercept).clamp_min(0).sqrt()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur (B, 1, H, W) by a Gaussian of ``sigma`` pixels, cut off at 3 sigma."""
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
