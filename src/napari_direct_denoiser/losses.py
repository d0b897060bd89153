"""Losses of the Direct Denoiser (eq. 7 of the paper): which estimate of the clean image it learns.

The targets are samples of the denoising distribution, so the loss decides which of its properties is learned: l2 the
mean, l1 the median, quantile the quantile, tukey the densest part (near the MAP). A new loss is one function here, and
a name in `config.LOSSES`.

Errors and images are (B, 1, H, W), in units of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

PixelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Error of the prediction (prediction minus clean image), its standard deviation without gradient, (B, 1, H, W) or a
number, and the fraction of the training that is done; gives a number."""
Encoder = Callable[[Tensor], Sequence[Tensor]]
"""Features of an image at several scales."""

_TUKEY_BEGIN, _TUKEY_END = 6.0, 0.45  # cut-off in standard deviations
_TUKEY_ANNEALED = 0.6  # fraction of the training after which the cut-off stays
_SCALES = 3  # of the structural similarity, each with half of the pixels of the one before along both axes
_WINDOW = 7  # pixels, of the structural similarity
_STABLE = 1.0  # variance, in units of the noise, below which structure hardly counts
_FEATURES_WEIGHT = 1.0


def pixel_loss(name: str) -> PixelLoss | None:
    """Find a loss of single pixels by its name in the settings; None for `perceptual`, which sees images."""
    kind, _, argument = name.partition(":")
    if kind == "quantile":
        return partial(quantile, q=float(argument))
    losses: dict[str, PixelLoss] = {"l2": l2, "l1": l1, "tukey": tukey}
    return losses.get(kind)


def l2(error: Tensor, std: Tensor, fraction: Tensor) -> Tensor:
    """Mean squared error: learns the mean (MMSE)."""
    return error.square().mean()


def l1(error: Tensor, std: Tensor, fraction: Tensor) -> Tensor:
    """Mean absolute error: learns the median (MMAE)."""
    return error.abs().mean()


def quantile(error: Tensor, std: Tensor, fraction: Tensor, *, q: float) -> Tensor:
    """Pinball loss (Koenker & Bassett 1978): learns the quantile ``q``, 0 < q < 1. With 0.5 it is `l1`."""
    return 2 * torch.maximum((1 - q) * error, -q * error).mean()


def tukey(error: Tensor, std: Tensor, fraction: Tensor) -> Tensor:
    """Tukey's biweight (Belagiannis et al. 2015): learns the densest part of the distribution, near the MAP.

    Errors beyond a cut-off have no gradient. The cut-off begins at six standard deviations, where the loss is nearly
    `l2`, so that the prediction is drawn to where most of the distribution is, and falls geometrically.
    """
    annealed = (fraction / _TUKEY_ANNEALED).clamp_max(1.0)
    cut_off: Tensor = std * _TUKEY_BEGIN * (annealed * math.log(_TUKEY_END / _TUKEY_BEGIN)).exp()
    inside = (1 - (error / cut_off).square()).clamp_min(0)
    return (cut_off.square() / 3 * (1 - inside.pow(3))).mean()


def perceptual(prediction: Tensor, clean: Tensor, encode: Encoder | None = None) -> Tensor:
    """Mean absolute error, structural similarity at several scales, and the distance of features.

    Structural similarity (Wang et al. 2003) compares contrast and structure of small windows; their mean is left to the
    absolute error (Zhao et al. 2017). Features are compared as in Johnson et al. (2016): a blurred prediction lacks
    contrast, and has other features.
    """
    loss = (prediction - clean).abs().mean()
    if encode is not None:
        with torch.no_grad():
            wanted = encode(clean)
        for found, feature in zip(encode(prediction), wanted, strict=True):
            spread = feature.float().std(dim=(0, 2, 3), keepdim=True) + 1e-3
            loss = loss + _FEATURES_WEIGHT / len(wanted) * ((found.float() - feature.float()) / spread).square().mean()
    for scale in range(_SCALES):
        if scale:
            prediction, clean = F.avg_pool2d(prediction, 2), F.avg_pool2d(clean, 2)
        loss = loss + (1 - _structure(prediction, clean)).mean() / _SCALES
    return loss


def _structure(one: Tensor, other: Tensor) -> Tensor:
    """Contrast and structure term of the structural similarity of each window."""

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, min(_WINDOW, *image.shape[-2:]), 1)

    level = other.mean()  # variances are differences of squares
    one, other = one - level, other - level
    mean_one, mean_other = mean(one), mean(other)
    variances = mean(one.square()) - mean_one.square() + mean(other.square()) - mean_other.square()
    covariance = mean(one * other) - mean_one * mean_other
    structure: Tensor = (2 * covariance + _STABLE) / (variances + _STABLE)
    return structure
