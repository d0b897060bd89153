"""Whether two planes show the same scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

_FINE = [c / 70**0.5 for c in (1, -4, 6, -4, 1)]  # fourth difference: optics hardly leaves structure as fine
_STATIC = 1.25  # largest ratio of low-resolution power to that of white noise in differences of a static scene
_WEIGHTS = 1.0, 1.0  # of the covariances at 1 and 2 pixels, at that resolution
_COARSE = 8, 16, 32  # pixels; sides of blocks that show structure weaker than the noise
_FAR = 7  # pixels that noise is correlated over there
_FEWEST_BLOCKS = 16
_SURE = 1.1  # largest ratio of the power of means of such blocks to the estimate, which is not exact
_CHANGED = 0.2  # of the power of what planes have in common: a lamp that drifts changes less

Plane = NDArray[np.float32]  # (Y, X)
Mask = NDArray[np.bool_]  # (Y, X)
Pair = tuple[Plane, Plane]


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
    high = across(difference)
    if 16 * float(blocks.var()) / power >= _STATIC * _spread(high, _WEIGHTS):
        return False
    around_0 = [np.where(shown, plane - np.nanmean(plane, dtype=np.float64), 0) for plane in (one, other)]
    return not any(_changed([difference, *around_0], shown, side, power, high) for side in _COARSE)


def _changed(planes: Sequence[NDArray[np.floating]], shown: Mask, side: int, power: float, high: Pair) -> bool:
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
    high
        Of `across` of the difference.
    """
    whole = block_means(shown.astype(np.float32), side) == 1
    if np.count_nonzero(whole) < _FEWEST_BLOCKS:
        return False
    apart, *both = (block_means(plane, side)[whole] for plane in planes)
    found, common = float(apart.var()), float(np.cov(*both)[0, 1])
    noise = power * _spread(high, [1 - lag / side for lag in range(1, _FAR + 1)]) / side**2
    unlikely = _SURE + 3 * (2 / len(apart)) ** 0.5  # three standard errors of a variance
    return found > unlikely * noise and found - noise > _CHANGED * 2 * common


def _spread(high: Pair, weights: Sequence[float]) -> float:
    """Variance of means of blocks over that of independent pixels; ``weights`` of covariances at 1, 2, ... pixels."""
    spread = 1.0
    for plane in (high[0], high[1].T):
        own = float(np.mean(plane * plane)) * plane.size or 1.0
        lags = [float(np.einsum("ij,ij->", plane[:, lag:], plane[:, :-lag])) for lag in range(1, len(weights) + 1)]
        spread *= 1 + 2 * float(np.dot(lags, weights)) / own
    return max(spread, 0.5)


def block_means(plane: Plane, side: int = 4) -> Plane:
    """Means of blocks of ``side`` x ``side`` pixels; what is left at the end of the axes is not in a block."""
    rows, columns = (length // side for length in plane.shape)
    within = plane[: rows * side, : columns * side]
    return np.asarray(within.reshape(rows, side, columns, side).mean((1, 3)))


def across(plane: Plane) -> Pair:
    """High-pass along y, for correlations along x, and along x, for those along y: it removes structure."""
    return along(plane, _FINE, 0), along(plane, _FINE, 1)


def along(plane: Plane, weights: Sequence[float], axis: int) -> Plane:
    """Filter along an axis."""
    return np.asarray(convolve1d(plane, weights, axis=axis), dtype=np.float32)
