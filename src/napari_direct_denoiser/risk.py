r"""Which of two estimates of a noisy image is nearer to the truth, without the truth (Stein 1981).

With x the noisy image, s its signal and f(x) an estimate of it, the mean squared error of f is

.. math:: E(f - s)^2 = E(f - x)^2 + 2 E[(x - s) f] - E(x - s)^2

and :math:`E[(x - s) f] = E[b J_f b]`, with b drawn from the noise model and J_f the Jacobian of f at x. It is exact for
Gaussian noise, also for correlated noise. Skewed noise, as that of few photons, is taken for a shifted gamma
distribution: then it is exact again if one b is multiplied by its Stein kernel, which is linear in the noise of x. The
product J_f b is a finite difference (Ramani, Blu & Unser 2008). In the difference of two estimates the variance of the
noise, :math:`E(x - s)^2`, cancels. It is much larger than the errors, so that it must be known exactly for the error of
one estimate, and hardly for a difference.

Everything works on tensors (B, 1, H, W) in counts: whole planes or patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .noise import NoiseModel
from .normalization import gaussian_blur
from .system import double

if TYPE_CHECKING:
    from .co_model import CoModel

VARIANCE_UNKNOWN = 0.03
"""Relative error of the variance of an estimated noise model, about."""
SKEWNESS_UNKNOWN = 0.5
"""Relative error of what the skewness of the noise adds, about: real noise has no gamma distribution."""
STRUCTURED = "Structured noise is not described by the noise model: only a truth, or frames of a static scene, can tell"
"""Why a model that was trained for structured noise is not judged."""
QUANTILE = "The model predicts a quantile: how near it is to the truth says nothing of it"
"""Why a model that predicts a quantile is not judged."""
SQUARED_ERROR_UNKNOWN = 0.1
"""Relative error of `Probe.squared_error`, about."""
STEP = 0.05
"""Part of the noise that is added for a Jacobian product: more is taken for structure, less drowns in rounding."""
BLURS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Standard deviations of the blurs that an estimate is compared with, pixels."""
_STRENGTH = 0.12  # largest relative error of the variance with which a noise model fits
_SHARED = 0.1  # largest covariance of neighbours, as a part of the variance, that the noise model may lack
_CLIPPED = 0.03  # largest part of the variance of the noise below the lowest value
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1))  # pixels down and to the right
_RATIO = 0.25, 4.0  # of the errors that neighbours share; beyond, the noise model is wrong
_BINS = 16  # of brightness
_SEED = 0x5EED  # mixed in, so that this noise is never that of an image that was simulated with a plain seed
_BLOCK = 32  # side in pixels of squares whose errors are nearly independent

Map = Callable[[Tensor], Tensor]


class RiskDifference(NamedTuple):
    """Mean squared error of one estimate less that of another, counts^2: negative if the first is better."""

    difference: float
    error: float
    """Standard error, with the effect of what is not known of the noise."""


class Gain(NamedTuple):
    """Ratio of two mean squared errors, dB: positive if the first estimate is better."""

    db: float
    error_db: float


def unjudged(model: CoModel, *, by_frames: bool = False) -> str | None:
    """Why a model cannot be judged by its noise model, or by frames of a static scene; None if it can."""
    if model.predicts_quantile:
        return QUANTILE
    return STRUCTURED if model.config.hdn.structured and not by_frames else None


@dataclass(frozen=True, eq=False)
class Response:
    """An estimate, and how it changes with the noise; both (B, 1, H, W)."""

    estimate: Tensor
    """f(x), counts."""
    product: Tensor
    """Jacobian product J_f b, counts."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Noisy images, and noise with which estimates of them are tested: the same for all estimates, (B, 1, H, W)."""

    noisy: Tensor
    """x, counts."""
    noise: Tensor
    """b, counts: independent of the noise of `noisy`."""
    weighted: Tensor
    """b times the Stein kernel over the variance, counts: the same as `noise` if that is not skewed."""
    white: bool
    """Whether by the noise model neighbours share no noise."""

    @classmethod
    def draw(cls, model: NoiseModel, noisy: Tensor, signal: Tensor, seed: int = 0) -> Probe:
        """Draw noise at an estimated signal. The same seed and signal give the same noise.

        It is drawn where it is independent from pixel to pixel, in the whitened image, a little beyond the edge.
        """
        generator = torch.Generator(device=noisy.device).manual_seed(seed ^ _SEED)
        edge = model.reach
        wide = F.pad(signal, (edge,) * 4, mode="replicate")
        white = model.whiten(wide)
        drawn = model.white_sample(white, generator) - white
        residual = model.whiten(F.pad(noisy - signal, (edge,) * 4))
        height, width = noisy.shape[-2:]
        noise, weighted = (
            model.color(each)[..., edge : edge + height, edge : edge + width]
            for each in (drawn, drawn * _stein_kernel(white, drawn, residual))
        )
        return cls(noisy, noise, weighted, white=edge == 0)

    @property
    def shifted(self) -> Tensor:
        """The noisy images with a little more noise: what an estimate is made from a second time."""
        return self.noisy + STEP * self.noise

    def inside(self, border: int) -> Probe:
        """Leave out the border of the images."""
        part = ..., slice(border, -border), slice(border, -border)
        return Probe(self.noisy[part], self.noise[part], self.weighted[part], self.white)

    @property
    def nothing_done(self) -> Response:
        """The response of the noisy images themselves, taken for an estimate."""
        return Response(self.noisy, self.noise)

    def response(self, estimate: Tensor, shifted: Tensor) -> Response:
        """The response of an estimate, given that of `noisy` and that of `shifted`."""
        return Response(estimate, (shifted - estimate) / STEP)

    def respond(self, estimate: Map) -> Response:
        """The response of an estimate that is a function of noisy images."""
        return self.response(estimate(self.noisy), estimate(self.shifted))

    def difference(self, first: Response, second: Response) -> RiskDifference:
        """Mean squared error of the first estimate less that of the second."""
        pixels, unknown = self.pixels(first, second)
        return RiskDifference(float(pixels.mean()), math.hypot(_error(_blocks(pixels)), unknown))

    def pixels(self, first: Response, second: Response) -> tuple[Tensor, float]:
        """What `difference` is the mean of (B, 1, H, W), float64, and the error of the mean that pixels share."""
        noisy, product = double(self.noisy), 2 * (double(first.product) - double(second.product))
        squares = (double(first.estimate) - noisy).square() - (double(second.estimate) - noisy).square()
        trace = product * double(self.weighted)
        skewness = float((trace - product * double(self.noise)).mean())
        unknown = math.hypot(VARIANCE_UNKNOWN * float(trace.mean()), SKEWNESS_UNKNOWN * skewness)
        return squares + trace, unknown

    def covariance(self, response: Response, down: int = 0, right: int = 0) -> float:
        """Covariance of the errors of an estimate in two pixels so far apart, counts^2; its risk at no distance.

        It is that of the residuals less that of the noise. So it is right only if the noise model is: a noise model
        that lacks a part of the noise, or of what neighbours share of it, makes it far too large; the opposite makes
        it negative.
        """
        residual, product = _pair(self.noisy - response.estimate, down, right), _pair(response.product, down, right)
        noise, weighted = _pair(self.noise, down, right), _pair(self.weighted, down, right)
        change = weighted[0] * product[1] + weighted[1] * product[0]
        shared = 0 if self.white and (down or right) else noise[0] * noise[1]
        return float((residual[0] * residual[1] - shared + change).mean())

    def squared_error(self, response: Response, redrawn_error: Tensor) -> Tensor:
        """Squared error of an estimate (B, 1, H, W), counts^2; right on average, not in each pixel.

        The covariance of the errors of neighbouring pixels is known without the variance of the noise. Its ratio to
        that on noise drawn anew says by how much these errors are too small or too large; half of it is believed.

        Parameters
        ----------
        response
            Of the estimate.
        redrawn_error
            Its error on noise that was drawn anew for posterior samples (B, 1, H, W), counts.
        """
        ratios = []
        for lag in _NEIGHBOURS:
            one, other = _pair(redrawn_error, *lag)
            ratios.append(self.covariance(response, *lag) / float((one * other).mean()))
        ratio = min(max(float(np.median(ratios)), _RATIO[0]), _RATIO[1])
        return double(redrawn_error).square() * (1 + ratio) / 2

    @property
    def variance(self) -> float:
        """Mean variance of the noise, counts^2."""
        return float(double(self.noise).square().mean())

    def misfit(self, response: Response, redrawn_error: Tensor) -> str | None:
        """Why the noise model does not fit the images, and what to do; None if it does.

        Parameters
        ----------
        response
            Of a good estimate.
        redrawn_error
            As in `squared_error`. It is small beside the noise.
        """
        if not self.variance:
            return (
                "The noise of the noise model is too small for float32 beside numbers as large as those of the images: "
                "train with the noise set to auto, or subtract a constant from the images"
            )
        error = float(double(redrawn_error).square().mean())
        lowest = self.noisy.min()
        below = (lowest - response.estimate - self.noise).clamp_min(0)
        if float(double(below).square().mean()) > _CLIPPED * self.variance:
            return (
                f"The noise model expects {float(double(below > 0).mean()):.0%} of the pixels below the lowest "
                f"value that there is, {float(lowest):g}: the images are clipped; record with a higher offset"
            )
        for axis, down, right in (("x", 0, 1), ("y", 1, 0)):
            share = self.covariance(response, down, right) / self.variance
            if not -_SHARED < share < _SHARED + error / self.variance:
                return (
                    f"Neighbouring pixels share noise along {axis} (a correlation of about {share:.2f}) that the noise "
                    "model does not describe: train with the noise set to auto"
                )
        strength = 1 + (self.covariance(response) - error) / self.variance
        if abs(strength - 1) > _STRENGTH:
            return (
                f"The variance of the noise is about {max(strength, 0.0):.2f} times what the noise model says: train "
                "with the noise set to auto, or calibrate the camera"
            )
        return None


def blurs(noisy: Response) -> Iterator[tuple[float, Response]]:
    """The noisy images and blurs of them, each with its sigma in pixels. A blur is linear: it is its own Jacobian."""
    yield 0.0, noisy
    for sigma in BLURS:
        yield sigma, Response(gaussian_blur(noisy.estimate, sigma), gaussian_blur(noisy.product, sigma))


def gain(squared_error: Tensor, more: Tensor, shared: tuple[float, float] = (0.0, 0.0)) -> Gain | None:
    """Gain of an estimate over another one.

    Parameters
    ----------
    squared_error
        Of the estimate, in all pixels (B, 1, H, W), counts^2. Only its mean over many pixels has to be right.
    more
        By how much the squared error of the other one is larger, likewise.
    shared
        Errors of the means of both that all pixels share, counts^2.

    Returns
    -------
    Gain or None
        None if a mean squared error is not positive.
    """
    own, more = double(squared_error), double(more)
    mean, other = float(own.mean()), float(own.mean() + more.mean())
    if not (mean > 0 and other > 0):
        return None
    slopes = 1 / other - 1 / mean, 1 / other  # of the natural logarithm of the ratio
    sampling = _error(_blocks(slopes[0] * own + slopes[1] * more))
    error = math.hypot(sampling, slopes[0] * shared[0], slopes[1] * shared[1])
    decibel = 10 / math.log(10)
    return Gain(decibel * math.log(other / mean), decibel * error)


def repeated_error(residuals: Tensor) -> Tensor:
    """Squared error of an estimate of one frame of a static scene, without that of the noise.

    ``residuals`` (frames, ..., H, W) are two or more other frames less the estimate. Their noise is independent, so
    that the mean product of two of them (..., H, W) has the mean of the squared error.
    """
    count, squares = len(residuals), residuals.square().sum(0)
    return (residuals.sum(0).square() - squares) / (count * (count - 1))


def block_side(pixels: Tensor) -> int:
    """Side of squares of (..., H, W) whose errors are nearly independent, pixels."""
    return max(min(_BLOCK, pixels.shape[-2] // 2, pixels.shape[-1] // 2), 1)


def _stein_kernel(signal: Tensor, drawn: Tensor, residual: Tensor) -> Tensor:
    """Stein kernel of a shifted gamma distribution over its variance: 1 + skewness / 2 * residual / std.

    Parameters
    ----------
    signal, drawn, residual
        Signal, noise drawn for it, from which skewness and std over the signal are measured, and the noise of the image
        as far as it is known; (B, 1, H, W) whitened counts.
    """
    kernel = torch.ones_like(signal).flatten()
    noise, residual = double(drawn.flatten()), residual.flatten()
    for bin in signal.flatten().argsort().chunk(_BINS):
        centred = noise[bin.to(noise.device)]
        centred = centred - centred.mean()
        variance = centred.square().mean().clamp_min(1e-30)
        slope = (0.5 * centred.pow(3).mean() / variance.square()).float()
        kernel[bin] += slope.to(residual.device) * residual[bin]
    return kernel.clamp_min(0).view_as(signal)


def _pair(image: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """All pixels of images that have such a neighbour, and their neighbours, in float64."""
    image = double(image)
    height, width = image.shape[-2:]
    return image[..., : height - down, : width - right], image[..., down:, right:]


def _blocks(pixels: Tensor) -> Tensor:
    """Means of squares of pixels (B, 1, H, W), (blocks,)."""
    return F.avg_pool2d(pixels, block_side(pixels)).flatten()


def _error(blocks: Tensor) -> float:
    """Standard error of the mean of independent values."""
    return float(blocks.std()) / math.sqrt(len(blocks)) if len(blocks) > 1 else math.inf
