"""Calibration of the direct prediction and of predicted standard deviations, without the truth.

`intensity_bias` finds what makes the direct prediction unbiased. How large its error is, frames of a static scene tell
where they are among the images: see `repeated_error`. Otherwise it is found in two ways:

- **Redrawn noise**: a posterior sample of HDN is taken for a signal, noise is drawn for it, and the direct pass
  denoises it. Its error is known then. This error is as large as the real one only as far as samples of HDN look like
  the signal. They miss structure that HDN never draws, and have some that is not there.
- **Neighbours**: Stein's estimate of the covariance of the errors of two neighbouring pixels, divided by that with
  redrawn noise. The covariance hardly depends on the variance of the noise model, which would have to be right to a few
  parts in a thousand to give the error of a single pixel. It depends on the noise model saying right how much noise
  neighbours share. So the median over several directions and distances is taken: one of them may be wrong. How strong
  the noise is at each brightness is measured on single pixels: in the dark, a straight line fits it badly.

The second corrects the first where it is known well: they are weighted by their standard errors. It is the product of
residuals that are nearly all noise, so that a hundred thousand pixels know it to a third where the image is dark. So do
frames of a static scene, which take the place of neighbours.

Errors are more often small, and more often large, than normal ones of the same size. So standard deviations are made
smaller by up to a tenth: 68 % of the errors with redrawn noise, where each is known, are then within one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import NO_BIAS, Calibration, Curve
from ..co_model import CoModel
from ..data.images import Frames
from ..noise.line_noise import left_variance
from ..noise.scene import sampled_scenes
from ..risk import repeated_error
from ..system import double
from .intensity_bias import intensity_bias
from .mean_or_direct import AgainstMean
from .measured import STRENGTH_RANGE, Measured, all_by_frames, bin_edges, mean_in_bins

_PIXELS = 1_000_000  # measured at least, of all planes
_MOST_PIXELS = 4_000_000  # more take memory
_TRAINED = 20  # pixels that were trained on for one that is measured: a few percent of the time
_FEW_PIXELS = 500_000  # measured while training goes on
_SIDE = 512  # pixels; of larger planes the middle is measured
_LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # neighbours, pixels down and to the right
_NEIGHBOURS_RANGE = 0.25, 4.0  # of the squared error of neighbours over that with redrawn noise: beyond, noise is wrong
_FRAMES_RANGE = 0.1, 16.0  # of that by frames, which depends on no noise model
_REDRAWN_UNKNOWN = 1.0  # standard error of 1 as that ratio: in the dark it is a half to a quarter
_ROUNDS = 3  # the strength of the noise depends on the error, and the error on it
_MEDIAN_ERROR = 1.25  # standard error of a median over that of a mean
_SAMPLES_RANGE = 0.25, 16.0  # of the factor of the variance of samples
_WITHIN = 0.6627, 0.7027  # around the share of normal errors within one standard deviation
_TAILS_RANGE = 1.0, 1.1  # of the root mean square of errors over the half width that holds that share


def calibrate(
    model: CoModel, stacks: Sequence[Frames], seed: int = 0, *, final: bool = True, trained_pixels: int = 0
) -> tuple[Calibration, list[AgainstMean]]:
    """Find what makes the direct prediction of a model unbiased, and its standard deviations as large as its errors.

    The bias of medians, modes and quantiles is left as it is: they are not means.

    Parameters
    ----------
    model
        Trained networks.
    stacks
        Noisy images (planes, Y, X), counts. Some planes are read.
    seed
        Of samples and noise.
    final
        Whether training has ended. Before, fewer pixels are measured, and the bias is not corrected.
    trained_pixels
        Pixels of all patches that were trained on: after a long training, more pixels are measured.

    Returns
    -------
    calibration : Calibration
        That which changes nothing for a model that predicts no standard deviation, or where noise cannot be drawn anew.
    against : list of AgainstMean
        What was measured of samples, for `direct_over_mean`; nothing for such a model.
    """
    if not model.has_std or model.config.hdn.structured:
        return Calibration(), []
    generator = torch.Generator(device=model.device).manual_seed(seed)
    # what is predicted is measured, not what an earlier calibration made of it
    before, model.calibration = model.calibration, Calibration()
    with torch.no_grad(), model.evaluating():
        most = max(min(trained_pixels // _TRAINED, _MOST_PIXELS), _PIXELS) if final else min(_PIXELS, _FEW_PIXELS)
        planes = max(round(most / min(stacks[0].planes[0].size, _SIDE**2)), 1)
        scenes = list(sampled_scenes(stacks, planes, _SIDE, model.multiple, model.noise.row_period))
        measured = [Measured.of(model, each, generator) for each in scenes]
        unmeasured = model.noise.std_factor([each.redrawn_error[0, 0].cpu().numpy() for each in measured])
        direct = intensity_bias(measured) if final and model.config.loss == "l2" else NO_BIAS
        measured = [plane.unbiased(direct) for plane in measured]
        signal = _factor(measured, white=model.noise.reach == 0)
        # frames also show what is left of lines
        left = 0.0 if all_by_frames(measured) else left_variance(model.noise, [first for first, *_ in scenes])
        found = Calibration(direct=direct, signal=signal, lines=left**0.5, unmeasured=unmeasured)
        model.calibration = found
        against = AgainstMean.of_planes(model, stacks, seed, single=not final)
    model.calibration = before
    tails = _tails(measured)
    curves = {"signal": _divided(signal, tails), "samples": _divided(_of_samples(against), tails)}
    return found.model_copy(update=curves), against


def _factor(planes: Sequence[Measured], *, white: bool) -> Curve:
    """Error over predicted standard deviation, in bins of the direct prediction with about equally many pixels.

    `white` says that by the noise model neighbours share no noise.
    """
    edges = bin_edges([plane.direct for plane in planes])
    bins = len(edges) + 1
    here = [torch.bucketize(double(plane.direct), edges) for plane in planes]
    redrawn = [torch.bucketize(double(plane.redrawn_direct), edges) for plane in planes]
    error = mean_in_bins([plane.redrawn_error.square() for plane in planes], redrawn, bins)
    variance = mean_in_bins([plane.redrawn_std.square() for plane in planes], redrawn, bins)
    if all_by_frames(planes):
        squares = _of_frames(planes, here, bins, error / variance)
    else:
        found = [_neighbours(planes, here, redrawn, bins, lag, white=white) for lag in _LAGS]
        fixed, per_noise, weight = map(torch.stack, zip(*found, strict=True))
        squares = error / variance * _ratio(fixed, per_noise, weight, _single(planes, here, bins), error)
    values = squares.sqrt().cpu().numpy()
    knots = mean_in_bins([plane.direct for plane in planes], here, bins).cpu().numpy()
    good: NDArray[np.bool_] = np.isfinite(values) & np.isfinite(knots)
    if not good.any():
        return Curve()
    return Curve(tuple(knots[good].tolist()), tuple(values[good].tolist()))


def _of_frames(planes: Sequence[Measured], here: Sequence[Tensor], bins: int, redrawn: Tensor) -> Tensor:
    """Squared error over predicted variance by frames of static scenes, (bins,).

    It is weighted with that with redrawn noise, ``redrawn``, which counts where frames know little.
    """
    repeated = [repeated_error(plane.others)[None] for plane in planes if plane.others is not None]
    expected = redrawn * mean_in_bins([plane.std.square() for plane in planes], here, bins)
    error = mean_in_bins(repeated, here, bins)
    spread = mean_in_bins([each.square() for each in repeated], here, bins) - error.square()
    pixels = torch.bincount(torch.cat([each.flatten() for each in here]), minlength=bins)
    ratio = (error / expected).nan_to_num(1.0).clamp(*_FRAMES_RANGE)
    weight = (pixels * expected.square() / spread).nan_to_num(0.0)
    return redrawn * (weight * ratio + 1) / (weight + 1)


def _ratio(fixed: Tensor, per_noise: Tensor, weight: Tensor, single: tuple[Tensor, Tensor], redrawn: Tensor) -> Tensor:
    """Squared error over that with redrawn noise, (bins,).

    Parameters
    ----------
    fixed, per_noise, weight
        Of `_neighbours`, (lags, bins) each.
    single
        Of `_single`.
    redrawn
        Squared error with redrawn noise, (bins,) counts^2.
    """
    weight = weight.sum(0).nan_to_num(0.0) / _MEDIAN_ERROR**2
    prior = 1 / _REDRAWN_UNKNOWN**2
    ratio, (residual, left) = torch.ones_like(redrawn), single
    for _ in range(_ROUNDS):
        strength = ((residual - ratio * redrawn) / left).nan_to_num(1.0).clamp(*STRENGTH_RANGE)
        neighbours = (fixed + strength * per_noise).quantile(0.5, dim=0).nan_to_num(1.0).clamp(*_NEIGHBOURS_RANGE)
        ratio = (weight * neighbours + prior) / (weight + prior)
    return ratio


def _single(planes: Sequence[Measured], here: Sequence[Tensor], bins: int) -> tuple[Tensor, Tensor]:
    """Squared residual, and what the denoising leaves of the variance of the noise by the noise model, (bins,) each.

    By Stein's identity, the first is the second and the squared error, if the noise model is right. The error is small
    beside the noise: so the two say how strong the noise is at each brightness.
    """
    residual = mean_in_bins([plane.residual.square() for plane in planes], here, bins)
    left = mean_in_bins([plane.left_noise for plane in planes], here, bins)
    return residual, left


def _neighbours(
    planes: Sequence[Measured],
    here: Sequence[Tensor],
    redrawn: Sequence[Tensor],
    bins: int,
    lag: tuple[int, int],
    *,
    white: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of the errors of neighbours over that with redrawn noise, each (bins,).

    Two parts: that of the residuals, and what the noise adds, which is to be multiplied by its strength. Then one over
    the variance of their sum.
    """
    products, changes, simulated = [], [], []
    for plane in planes:
        residual, noise, weighted, product, error = (
            _pair(each, lag)
            for each in (plane.residual, plane.noise, plane.weighted, plane.product, plane.redrawn_error)
        )
        shared = 0 if white else noise[0] * noise[1]
        products.append(residual[0] * residual[1])
        changes.append(weighted[0] * product[1] + weighted[1] * product[0] - shared)
        simulated.append(error[0] * error[1])
    places = [_pair(each, lag)[0] for each in here]
    own, noise_part = mean_in_bins(products, places, bins), mean_in_bins(changes, places, bins)
    squares = [(one + other).square() for one, other in zip(products, changes, strict=True)]
    spread = mean_in_bins(squares, places, bins) - (own + noise_part).square()
    pixels = torch.bincount(torch.cat([each.flatten() for each in places]), minlength=bins)
    expected = mean_in_bins(simulated, [_pair(each, lag)[0] for each in redrawn], bins)
    return own / expected, noise_part / expected, pixels * expected.square() / spread


def _pair(image: Tensor, lag: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """All pixels that have such a neighbour, and their neighbours."""
    (down, right), (height, width) = lag, image.shape[-2:]
    one = image[..., : height - down, max(-right, 0) : width - max(right, 0)]
    return one, image[..., down:, max(right, 0) : width + min(right, 0)]


def _tails(planes: Sequence[Measured]) -> Curve:
    """Root mean square of errors over the half width that holds 68 % of them, in bins of the direct prediction.

    It is measured with redrawn noise, where each error is known. For normal errors it is 1.
    """
    direct = torch.cat([double(plane.redrawn_direct).flatten() for plane in planes])
    away = torch.cat([double(plane.redrawn_error.abs() / plane.redrawn_std).flatten() for plane in planes])
    edges = bin_edges([direct])
    here = torch.bucketize(direct, edges)
    knots, values = [], []
    for bin in range(len(edges) + 1):
        within = np.sort(away[here == bin].cpu().numpy())
        first, last = (round(share * (len(within) - 1)) for share in _WITHIN)
        half_width = float(within[first : last + 1].mean()) if len(within) else 0.0
        if half_width > 0:
            knots.append(float(direct[here == bin].mean()))
            ratio = float(np.clip(np.sqrt(np.square(within).mean()) / half_width, *_TAILS_RANGE))
            values.append(round(ratio, 3))  # images in other units, which are rounded otherwise, have the same
    return Curve(tuple(knots), tuple(values)) if knots else Curve()


def _divided(curve: Curve, by: Curve) -> Curve:
    """Divide a curve by another, at its knots."""
    divisor = by(torch.tensor(curve.knots, dtype=torch.float64)).tolist()
    return Curve(curve.knots, tuple(value / each for value, each in zip(curve.values, divisor, strict=True)))


def _of_samples(planes: Sequence[AgainstMean]) -> Curve:
    """Error of the mean of many samples over their standard deviation, in bins of that mean.

    Its squared error is that of the direct pass and Stein's estimate of the difference.
    """
    means = [plane.mean for plane in planes]
    edges = bin_edges(means)
    here, bins = [torch.bucketize(mean.contiguous(), edges) for mean in means], len(edges) + 1
    spread = mean_in_bins([plane.variance for plane in planes], here, bins).cpu().numpy()
    error = mean_in_bins([plane.own + plane.worse for plane in planes], here, bins).cpu().numpy()
    knots = mean_in_bins(means, here, bins).cpu().numpy()
    good = spread > 0
    if not good.any():
        return Curve()
    factors = np.sqrt(np.clip(error[good] / spread[good], *_SAMPLES_RANGE))
    return Curve(tuple(knots[good].tolist()), tuple(factors.tolist()))
