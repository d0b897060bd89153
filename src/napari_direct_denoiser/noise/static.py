"""Whether two planes show the same scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

_FINE = [c / 70**0.5 for c in (1, -4, 6, -4, 1)]  # fourth difference: optics hardly leaves structure as fine
_STATIC = 1.25  # largest ratio of low-resolution power to that of white noise in differences of a static scene
_WEIGHTS = 1.0, 1.0  # of the correlations at 1 and 2 pixels, at that resolution
_COARSE = 8, 16, 32  # pixels; sides of blocks that show structure weaker than the noise
_FAR = 7  # pixels that noise is correlated over there
_FEWEST_BLOCKS = 16
_SURE = 1.1  # largest ratio of the power of means of such blocks to the estimate, which is not exact
_CHANGED = 0.2  # of the power of what planes have in common: a lamp that drifts changes less

Plane = NDArray[np.float32]  # (Y, X)
Mask = NDArray[np.bool_]  # (Y, X)
Lags = NDArray[np.float64]


def is_static(one: Plane, other: Plane) -> bool:
    """Whether two planes show the same scene: at low resolution their difference has no more power than noise.

    Noise that is correlated over some pixels has more power there, which is taken into account. Structure weaker than
    the noise shows only in means of large blocks. A lamp that drifts shows there too, but it changes little of what the
    planes have in common. Missing pixels (NaN) are left out.
    """
    difference = one - other
    shown = ~np.isnan(difference)
    values = difference[shown]
    if not len(values):
        return False
    values = np.clip(values, *np.quantile(values, (0.001, 0.999)))
    values = (values - values.mean()).astype(np.float32)
    power = float(values.var())
    if power == 0:
        return False  # a copy tells nothing of the noise
    difference = np.zeros_like(difference)
    difference[shown] = values
    blocks = block_means(difference)[block_means(shown.astype(np.float32)) == 1]
    if not len(blocks):
        return False
    correlations = _correlations(difference)
    if 16 * float(blocks.var()) / power >= _STATIC * _spread(correlations, _WEIGHTS):
        return False
    around_0 = [np.where(shown, plane - np.nanmean(plane, dtype=np.float64), 0) for plane in (one, other)]
    return not any(_changed([difference, *around_0], shown, side, power, correlations) for side in _COARSE)


def _changed(planes: Sequence[NDArray[np.floating]], shown: Mask, side: int, power: float, correlations: Lags) -> bool:
    """Whether blocks differ by more than noise, and by more than a lamp that drifts.

    Parameters
    ----------
    planes
        The difference of two planes, and both, with 0 for missing pixels.
    shown
        Pixels that are not missing.
    side
        Of the blocks, pixels.
    power
        Of the difference.
    correlations
        Of the difference, as `_correlations` gives them.
    """
    whole = block_means(shown.astype(np.float32), side) == 1
    if np.count_nonzero(whole) < _FEWEST_BLOCKS:
        return False
    apart, *both = (block_means(plane, side)[whole] for plane in planes)
    found, common = float(apart.var()), float(np.cov(*both)[0, 1])
    noise = power * _spread(correlations, [1 - lag / side for lag in range(1, _FAR + 1)]) / side**2
    unlikely = _SURE + 3 * (2 / len(apart)) ** 0.5  # three standard errors of a variance
    return found > unlikely * noise and found - noise > _CHANGED * 2 * common


def _correlations(difference: Plane) -> Lags:
    """Correlation of the noise at 1, 2, ... pixels along x and along y, (2, 7)."""
    along_x, along_y = across(difference)
    found = []
    for high in (along_x, along_y.T):
        own = float(np.mean(high * high)) * high.size or 1.0
        lags = range(1, _FAR + 1)
        found.append([float(np.einsum("ij,ij->", high[:, lag:], high[:, :-lag])) / own for lag in lags])
    return np.array(found)


def _spread(correlations: Lags, weights: Sequence[float]) -> float:
    """Variance of means of blocks over that of independent pixels; ``weights`` of correlations at 1, 2, ... pixels."""
    return max(float(np.prod(1 + 2 * correlations[:, : len(weights)] @ np.array(weights))), 0.5)


def block_means(plane: Plane, side: int = 4) -> Plane:
    """Means of blocks of ``side`` x ``side`` pixels; what is left at the end of the axes is not in a block."""
    rows, columns = (length // side for length in plane.shape)
    within = plane[: rows * side, : columns * side]
    return np.asarray(within.reshape(rows, side, columns, side).mean((1, 3)))


def across(plane: Plane) -> tuple[Plane, Plane]:
    """High-pass along y, for correlations along x, and along x, for those along y: it removes structure."""
    return along(plane, _FINE, 0), along(plane, _FINE, 1)


def along(plane: Plane, weights: Sequence[float], axis: int) -> Plane:
    """Filter along an axis."""
    return np.asarray(convolve1d(plane, weights, axis=axis), dtype=np.float32)
