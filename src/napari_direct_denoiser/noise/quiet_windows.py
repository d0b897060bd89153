"""Windows of noisy images that have the least structure: how the noise in them is correlated, and how strong it is.

A quadratic surface is removed from every window, and what that removes of the noise is taken into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fit import LAGS, Lags, robust_line

Plane = NDArray[np.float32]  # (Y, X)
Windows = NDArray[np.float64]  # (windows, 256): the pixels of each window; 0 where they do not count

SIDE = 16
"""Of a window, pixels."""
QUIETEST = 0.1
"""Share of the windows, at each brightness, that are taken for free of structure."""
_LEVELS = 12  # of brightness
_LEAST_LEVELS = 4  # that have the least correlation of neighbours: the others have structure if theirs is larger by
_STRUCTURE = 0.05
_QUIET = 0.845  # mean variance of the quietest tenth of windows of white noise, as a part of that of all

Parity = int | None
"""The pixels that count: all (None), or those of a checkerboard whose row + column is even (0) or odd (1)."""


def cut_windows(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Cut a plane into windows (windows, 16, 16) side by side."""
    rows, columns = (side // SIDE for side in plane.shape)
    cut = plane[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE)


class Level(NamedTuple):
    """The quietest windows of similar brightness."""

    brightness: float
    """Counts."""
    variance: float
    """Of their pixels, counts^2, as far as a quadratic surface leaves it."""
    rest: Windows
    """What a quadratic surface leaves of them, (windows, 256), scaled to a variance of 1."""


def quiet_windows(planes: Sequence[Plane], share: float = QUIETEST, parity: Parity = None) -> list[Level]:
    """Noise, with as little structure as there is: this share of the windows, of least variance, at each brightness."""
    brightness, rest = _rests(planes, parity)
    power = np.square(rest).mean(1)
    found = []
    for level in np.array_split(np.argsort(brightness, kind="stable"), _LEVELS):
        level = level[power[level] > 0]
        quiet = level[np.argsort(power[level], kind="stable")[: max(round(share * len(level)), 1)]]
        if len(quiet):
            variance = float(power[quiet].mean())
            found.append(Level(float(brightness[quiet].mean()), variance, rest[quiet] / variance**0.5))
    return found


def correlation_in_windows(planes: Sequence[Plane], share: float = QUIETEST, parity: Parity = None) -> Lags:
    """Correlation (7, 13) in the quietest windows; at each brightness this share of the windows is used.

    That of a checkerboard is over the distance on its lattice, which is turned: a row further is (1, 1), and a column
    further is (-1, 1).
    """
    levels = quiet_windows(planes, share, parity)
    found = _covariances(levels, parity)
    if share < 1:
        found = found * _without_structure(found, parity)[:, None]
    covariance = np.array([len(level.rest) for level in levels]) @ found
    values = covariance / covariance[0]
    # what is left of structure is as strong at the farthest lags: it is taken for a part of the variance
    far = [max(map(abs, _in_plane(*place, parity))) == LAGS - 1 for place in _places(parity)]
    rest = max(float(values[far].mean()), 0.0)
    lags = np.zeros((LAGS + 1, 2 * LAGS + 1))
    for (down, right), value in zip(_places(parity), (values - rest) / (1 - rest), strict=True):
        lags[down, LAGS + right] = value
    lags[0, :LAGS] = lags[0, :LAGS:-1]
    return np.asarray(0.5 * (lags + lags[:, ::-1]))  # noise has no handedness: a fit to chance would


def variance_line(planes: Sequence[Plane]) -> tuple[float, float]:
    """Slope and intercept of the variance of nearly white noise over brightness, from windows without structure."""
    levels = quiet_windows(planes)
    use = _without_structure(_covariances(levels, None), None)
    whole = SIDE**2 / (SIDE**2 - _surfaces(None).shape[1]) / _QUIET
    signals, variances, counts = (
        np.array([measure(level) for level, free in zip(levels, use, strict=True) if free])
        for measure in (
            lambda level: level.brightness,
            lambda level: level.variance * whole,
            lambda level: len(level.rest),
        )
    )
    return robust_line(signals, variances, counts)


def _covariances(levels: Sequence[Level], parity: Parity) -> NDArray[np.float64]:
    """Covariance at every lag of `_places` (levels, lags), as a part of the variance of the window."""
    solve = np.linalg.inv(_expected_products(parity))
    products = [_products(level.rest.T @ level.rest / len(level.rest), parity) for level in levels]
    return np.stack([solve @ each for each in products])


def _without_structure(covariances: NDArray[np.float64], parity: Parity) -> NDArray[np.bool_]:
    """Which levels are free of structure: it makes the correlation of neighbours larger than at other levels."""
    near = [_places(parity).index(place) for place in ((0, 1), (1, 0))]
    correlation = covariances[:, near].mean(1) / covariances[:, 0]
    return np.asarray(correlation < np.sort(correlation)[:_LEAST_LEVELS].mean() + _STRUCTURE)


def _rests(planes: Sequence[Plane], parity: Parity) -> tuple[NDArray[np.float64], Windows]:
    """Brightness of windows (windows,), and what a quadratic surface leaves of them."""
    cut = np.concatenate([cut_windows(plane) for plane in planes]).astype(np.float64).reshape(-1, SIDE**2)
    cut = cut[np.isfinite(cut).all(axis=1)]
    counts = _counts(parity).ravel()
    brightness = cut[:, counts].mean(1)
    flat = np.where(counts, cut - brightness[:, None], 0.0)
    surface = _surfaces(parity)
    return brightness, flat - (flat @ surface) @ surface.T


def _products(covariance: NDArray[np.float64], parity: Parity) -> NDArray[np.float64]:
    """Mean covariance of pixels at every lag of `_places`, from that of all pixels of a window (256, 256)."""
    return np.array([covariance[here, there].mean() for here, there in _pairs(parity)])


def _counts(parity: Parity) -> NDArray[np.bool_]:
    """Which pixels of a window count, (16, 16)."""
    y, x = np.indices((SIDE, SIDE))
    return np.ones((SIDE, SIDE), bool) if parity is None else (y + x) % 2 == parity


def _in_plane(down: int, right: int, parity: Parity) -> tuple[int, int]:
    """A lag as rows and columns of the plane."""
    return (down, right) if parity is None else (down - right, down + right)


@cache
def _places(parity: Parity) -> tuple[tuple[int, int], ...]:
    """Lags (down, right) of half a plane, up to 6 pixels of the plane."""
    half = [(down, right) for down in range(LAGS + 1) for right in range(-LAGS, LAGS + 1) if down > 0 or right >= 0]
    return tuple(lag for lag in half if max(map(abs, _in_plane(*lag, parity))) <= LAGS)


@cache
def _pairs(parity: Parity) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]:
    """Pixels of a window at every lag of `_places`, as two lists of numbers below 256."""
    pixels, counts = np.arange(SIDE**2).reshape(SIDE, SIDE), _counts(parity)
    pairs = []
    for place in _places(parity):
        down, right = _in_plane(*place, parity)
        here = np.s_[max(-down, 0) : SIDE - max(down, 0), max(-right, 0) : SIDE - max(right, 0)]
        there = np.s_[max(down, 0) : SIDE - max(-down, 0), max(right, 0) : SIDE - max(-right, 0)]
        use = counts[here]
        pairs.append((pixels[here][use], pixels[there][use]))
    return tuple(pairs)


@cache
def _surfaces(parity: Parity) -> NDArray[np.float64]:
    """Orthonormal quadratic surfaces over the pixels of a window that count, (256, 6)."""
    at = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(at, at, indexing="ij")
    surfaces = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1) * _counts(parity)[..., None]
    return np.asarray(np.linalg.qr(surfaces.reshape(-1, 6))[0])


@cache
def _expected_products(parity: Parity) -> NDArray[np.float64]:
    """Expectation of `_products` at each lag (rows) if the covariance is 1 at one lag (columns), surfaces removed."""
    keep = np.diag(_counts(parity).ravel().astype(np.float64)) - _surfaces(parity) @ _surfaces(parity).T
    columns = []
    for number, (here, there) in enumerate(_pairs(parity)):
        covariance = keep[:, here] @ keep[there]
        columns.append(_products(covariance + covariance.T if number else covariance, parity))
    return np.stack(columns, axis=1)
