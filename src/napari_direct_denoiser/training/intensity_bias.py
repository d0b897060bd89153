"""Bias of the direct prediction over its brightness, without the truth.

Of all pixels with the same prediction f, the mean of the signal s should be f. Where frames of a static scene are among
the images, the others tell the mean of s - f. Otherwise Stein's identity does: for any function g,

    E[(s - f) g(f)] = E[(x - f) g(f)] - E[b g'(f) J b]

with x, b and J as in `risk`. The bias is sought as a function that is linear between knots. Its normal equations need
this for hat functions g, whose sum is 1. How strong the noise is, is measured with the same identity.

What is found has an error, which is measured on squares of the images. The bias is taken as normally distributed about
0, with a standard deviation of some part of that of the noise, and the most likely part; what is returned is the
posterior mean (empirical Bayes). A bias that is not larger than its error is so returned as nearly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..calibration import NO_BIAS, Curve
from ..risk import block_side
from ..system import double
from .measured import STRENGTH_RANGE, Measured, all_by_frames, bin_edges, mean_in_bins

_FEWEST_BLOCKS = 4  # for each knot
_STRENGTH_UNKNOWN = 0.01  # relative error of the measured strength of the noise, about
_MOSTLY_REMOVED = 0.5  # of the variance of the noise
_PARTS = (0.0, *np.geomspace(1e-4, 0.3, 50).tolist())  # of the noise, that a bias may be


class _Sums(NamedTuple):
    """Sums over each square of pixels, float64; their number is the first axis."""

    moment: Tensor
    """Of (s - f) g, (squares, knots), counts."""
    noise: Tensor
    """The part of it that noise of the noise model adds, likewise."""
    gram: Tensor
    """Of the products of two hat functions, (squares, knots, knots)."""


def intensity_bias(planes: Sequence[Measured]) -> Curve:
    """Find what is to be added to the direct prediction, over itself; 0 where the images are too small to tell."""
    edges = bin_edges([plane.direct for plane in planes])
    bins = len(edges) + 1
    here = [torch.bucketize(double(plane.direct), edges) for plane in planes]
    knots = mean_in_bins([plane.direct for plane in planes], here, bins)
    noise = mean_in_bins([plane.noise.square() for plane in planes], here, bins).sqrt()
    if bins == 1 or not bool((knots.diff() > 0).all() and (noise > 0).all()):
        return NO_BIAS
    by_frames = all_by_frames(planes)
    strength = _strength(planes)
    sums = [_sums(plane, knots, strength, by_frames=by_frames) for plane in planes]
    found = _posterior(_Sums(*map(torch.cat, zip(*sums, strict=True))), noise)
    if found is None or not bool(found.isfinite().all()):
        return NO_BIAS
    return Curve(tuple(knots.tolist()), tuple(found.tolist()))


def _strength(planes: Sequence[Measured]) -> float:
    """Variance of the noise over that of the noise model; 1 where the direct pass removes little of it.

    It is that of all pixels: Stein's identity does not hold for those of one prediction. Hot pixels hardly count.
    """
    least, most = STRENGTH_RANGE
    squares, left, noise = (
        float(torch.cat([double(each).flatten() for each in images]).mean())
        for images in (
            [
                plane.residual.square().clamp_max(most * plane.noise.square().max()) - plane.redrawn_error.square()
                for plane in planes
            ],
            [plane.left_noise for plane in planes],
            [plane.noise.square() for plane in planes],
        )
    )
    return min(max(squares / left, least), most) if left > _MOSTLY_REMOVED * noise else 1.0


def _sums(plane: Measured, knots: Tensor, strength: float, *, by_frames: bool) -> _Sums:
    """Sum over squares of a plane; pixels that are left over at the edges are not used."""
    direct = _squares(plane.direct)
    hats, slopes = _hats(direct, knots)
    if by_frames and plane.others is not None:
        residual, noise = _squares(plane.others.mean(0, keepdim=True)), torch.zeros_like(direct)
    else:
        residual, noise = _squares(plane.residual), _squares(plane.weighted) * _squares(plane.product)
    added = strength * (slopes * noise[..., None]).sum(1)
    moment = (hats * residual[..., None]).sum(1) - added
    return _Sums(moment, added, hats.transpose(1, 2) @ hats)


def _squares(image: Tensor) -> Tensor:
    """Pixels of squares of (1, 1, H, W): (squares, pixels), float64."""
    (height, width), side = image.shape[-2:], block_side(image)
    rows, columns = height // side, width // side
    cut = double(image[0, 0, : rows * side, : columns * side])
    return cut.view(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)


def _hats(values: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Hat functions of the knots (..., knots), and their derivatives; both are constant beyond the last knots."""
    right = torch.bucketize(values, knots).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((values - low) / (high - low)).clamp(0, 1)
    slope = ((values >= low) & (values <= high)) / (high - low)
    hats, slopes = (torch.zeros(*values.shape, len(knots)).to(values) for _ in range(2))
    for index, hat, its_slope in ((right - 1, 1 - share, -slope), (right, share, slope)):
        hats.scatter_(-1, index[..., None], hat[..., None])
        slopes.scatter_(-1, index[..., None], its_slope[..., None])
    return hats, slopes


def _posterior(sums: _Sums, noise: Tensor) -> Tensor | None:
    """Posterior mean of the bias at the knots, counts; None if there are too few squares, or nothing can be found.

    ``noise`` is the standard deviation of the noise at the knots.
    """
    if len(sums.moment) < _FEWEST_BLOCKS * len(noise):
        return None
    inverse, singular = torch.linalg.inv_ex(sums.gram.sum(0))
    if singular:
        return None
    found = inverse @ sums.moment.sum(0)
    apart = sums.moment - sums.gram @ found
    unknown = _STRENGTH_UNKNOWN * (inverse @ sums.noise.sum(0))
    found, scaled = found / noise, (apart @ inverse) / noise
    error = scaled.T @ scaled + torch.outer(unknown / noise, unknown / noise)
    most_likely, posterior = -math.inf, None
    for part in _PARTS:
        prior = part**2 * torch.eye(len(found)).to(found)
        factor, failed = torch.linalg.cholesky_ex(prior + error)
        if failed:
            continue
        solved = torch.cholesky_solve(found[:, None], factor)[:, 0]
        likelihood = float(-factor.diagonal().log().sum() - 0.5 * found @ solved)
        if likelihood > most_likely:
            most_likely, posterior = likelihood, noise * (prior @ solved)
    return posterior
