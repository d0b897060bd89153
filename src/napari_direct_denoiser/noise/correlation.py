"""Measure how the noise of neighbouring pixels is correlated, and fit an autoregressive process to it.

Two estimates, each right where the other is not. Both are taken from frames of a static scene if there are some.

- Along one axis: the autocorrelation of a high-pass across that axis. Optics leaves no structure that fine, so this is
  exact, if the noise is white across the axis.
- Along both: the autocorrelation in small windows without structure, with a quadratic surface removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.ndimage import convolve1d, correlate

from ..data.images import Frames, spread_over
from ..errors import ImageError, SettingError
from .correlated import CorrelatedNoise, whitening_kernel
from .estimation import fit_images, more_skewed
from .fit import LAGS, Autocorrelation, Axes, Lags, NoiseFit
from .quiet_windows import QUIETEST, SIDE, correlation_in_windows, cut_windows, variance_line
from .scaled import ScaledCorrelatedNoise
from .scan import backward_rows
from .windows import as_float, crop, extreme, fill, hot_pixels, usable_part

Plane = NDArray[np.float32]  # (Y, X)
Measure = Callable[[bool], Autocorrelation]

_PLANES = 8
LEAST = 0.1
"""Correlation of neighbours below which noise is taken for white."""
_ORDER = 4  # neighbours along one axis that predict a pixel
_REACH = 3  # rows and columns of neighbours along both axes
_RIDGE = 1e-4  # white noise, as part of the variance, that keeps the equations solvable
_FINE = (1, -4, 6, -4, 1)  # fourth difference
_COARSER, _FINER = (1, -2, 1), (1, -6, 15, -20, 15, -6, 1)
_SHORT, _NOTHING = 4, 0.02  # pixels at which correlation has ended, and what is left there then
_PART = 0.05  # weight of a pixel in a whitened one below which it does not matter whether it is saturated
_SEPARABLE = 0.1  # largest difference of the correlation of neighbours between those two


def fit_correlated(stacks: Sequence[Frames], white: NoiseFit, measure: Measure | None = None) -> NoiseFit:
    """Measure the correlation of the noise, and model it if neighbours share noise.

    Parameters
    ----------
    stacks
        The noisy images.
    white
        What `fit_images` found in them: it is returned, with the correlation, if the noise is white, or if no stable
        process has that correlation.
    measure
        Measures the correlation, given whether the scene is static; as `measure_correlation` if not given.
    """
    measure = measure or (lambda static: measure_correlation(stacks, static=static))
    found = measure(white.static)
    if not found.axes:
        return replace(white, autocorrelation=found)
    try:
        innovation, model = _fit_innovation(stacks, found)
        if white.static != innovation.static:  # correlated noise hid that the scene changes, or that it does not
            found = measure(innovation.static)
            innovation, model = _fit_innovation(stacks, found)
    except (SettingError, ImageError):
        return replace(white, autocorrelation=found)
    return replace(
        innovation,
        model=model,
        signals=innovation.signals / model.dc_gain,
        variances=innovation.variances * model.energy,
        signal_range=white.signal_range,
        pairs=white.pairs,
        hot_pixels=white.hot_pixels,
        autocorrelation=found,
    )


def _fit_innovation(stacks: Sequence[Frames], found: Autocorrelation) -> tuple[NoiseFit, CorrelatedNoise]:
    """Whiten the images, and fit a model to the noise that is independent then."""
    coefficients = autoregression(found)
    planes = [cast("NDArray[Any]", Whitened(stack.planes, coefficients, mark_saturated=True)) for stack in stacks]
    whitened = [Frames(white, stack.step) for white, stack in zip(planes, stacks, strict=True)]
    innovation = fit_images(
        whitened, line=None if found.separable else variance_line(list(some_planes(whitened, static=False)))
    )
    backward, model = None, innovation.model
    if found.axes == "x":
        backward, ratio = backward_rows(list(some_planes(stacks, static=False)), coefficients)
        model = more_skewed(model, ratio)  # it was measured with all rows filtered forwards
    return innovation, ScaledCorrelatedNoise(model, coefficients, backward)


def measure_correlation(stacks: Sequence[Frames], *, static: bool = False) -> Autocorrelation:
    """Measure the correlation of noise up to 6 pixels away.

    Parameters
    ----------
    stacks
        The noisy images; a few planes of them are read.
    static
        Whether their frames show one scene: then differences of frames are measured, which hold noise alone.
    """
    return correlation_of(list(some_planes(stacks, static=static)), 1.0 if static else QUIETEST)


def correlation_of(planes: Sequence[Plane], share: float = 1.0) -> Autocorrelation:
    """Measure the correlation in planes (Y, X), with NaN where a pixel is not to be used.

    ``share`` is the part of the windows, at each brightness, that are taken for free of structure: 1 if the planes hold
    noise alone.
    """
    none = (np.arange(LAGS + 1) == 0).astype(np.float64)
    along = [_along(planes, axis) for axis in (0, 1)]  # along y, along x
    correlated = [lags[1] > LEAST for lags in along]
    axes: Axes = "yx" if all(correlated) else "y" if correlated[0] else "x" if correlated[1] else ""
    down, right = (lags if own or not axes else none for lags, own in zip(along, correlated, strict=True))
    product = np.outer(down, np.concatenate([right[:0:-1], right]))
    if axes == "yx":
        whole = correlation_in_windows(planes, share)
        short = max(abs(down[_SHORT:]).max(), abs(right[_SHORT:]).max()) < _NOTHING
        # structure that windows keep makes their correlation larger, never smaller, as long as it ends within them
        if (short and (product - whole).max() > _SEPARABLE) or not _is_separable(planes):
            return Autocorrelation(whole, axes)
    return Autocorrelation(product, axes)


def _is_separable(planes: Sequence[Plane]) -> bool:
    """Whether the correlation along one axis is the same at all frequencies across it."""
    coarser, finer = ([_along(planes, axis, across)[1] for axis in (0, 1)] for across in (_COARSER, _FINER))
    return bool(np.abs(np.subtract(coarser, finer)).max() < _SEPARABLE)


def autoregression(found: Autocorrelation) -> Lags:
    """Coefficients of the process with that correlation, by the Yule-Walker equations, as `CorrelatedNoise` takes them.

    Along one axis each pixel is predicted from the 4 before it, along both from the 24 nearest.
    """
    if found.axes != "yx":
        along = found.along_x if found.axes == "x" else found.along_y
        weights = solve_toeplitz(along[:_ORDER] + _RIDGE * (np.arange(_ORDER) == 0), along[1 : _ORDER + 1])
        if found.axes == "y":
            return np.append(weights[::-1], 0.0)[:, None]
        return np.concatenate([weights[::-1], np.zeros(_ORDER + 1)])[None]
    before = [(dy, dx) for dy in range(_REACH + 1) for dx in range(-_REACH, _REACH + 1) if dy > 0 or dx < 0]
    normal = np.array([[_at(found.lags, a[0] - b[0], b[1] - a[1]) for b in before] for a in before])
    weights = np.linalg.solve(
        normal + _RIDGE * np.eye(len(before)), np.array([_at(found.lags, dy, -dx) for dy, dx in before])
    )
    grid = np.zeros((_REACH + 1, 2 * _REACH + 1))
    for (dy, dx), weight in zip(before, weights, strict=True):
        grid[_REACH - dy, _REACH + dx] = weight
    return grid


def _at(lags: Lags, down: int, right: int) -> float:
    """Correlation at a distance that may point upwards."""
    if down < 0:
        down, right = -down, -right
    return float(lags[down, LAGS + right])


def some_planes(stacks: Sequence[Frames], *, static: bool) -> Iterator[Plane]:
    """Read some planes, or differences of successive frames, with NaN where a pixel is not to be used."""
    places = [
        (number, index)
        for number, stack in enumerate(stacks)
        for index in range(len(stack.planes) - (stack.step if static else 0))
    ]
    hot = [hot_pixels(stack.planes) for stack in stacks]
    for place in spread_over(len(places), _PLANES):
        number, index = places[place]
        stack = stacks[number]
        plane = usable_part(stack, index, hot[number])
        if static:
            later = stack.planes[(index + stack.step, *crop(stack.planes.shape, index))]
            plane = (plane - as_float(later)) / np.float32(2**0.5)
        yield plane


def _along(planes: Sequence[Plane], axis: int, across: Sequence[float] = _FINE) -> NDArray[np.float64]:
    """Correlation at lags 0 to 6 along an axis, of a high-pass across it: the median over windows, (7,)."""
    products = []
    for plane in planes:
        filled, missing = fill(plane)
        high = convolve1d(filled, across, axis=1 - axis)
        high[convolve1d(missing.astype(np.float32), np.ones(len(across)), axis=1 - axis) > 0] = np.nan
        cut = cut_windows(high if axis == 1 else high.T)
        cut = cut[np.isfinite(cut).all(axis=(1, 2))].astype(np.float64)
        ahead = [(cut[:, :, : SIDE - lag] * cut[:, :, lag:]).mean((1, 2)) for lag in range(LAGS + 1)]
        products.append(np.stack(ahead, axis=1))
    found = np.concatenate(products)
    found = found[found[:, 0] > 0]
    if len(found) * SIDE <= 4 / LEAST**2:
        return np.asarray(np.arange(LAGS + 1) == 0, dtype=np.float64)
    return np.asarray(np.median(found / found[:, :1], axis=0))


class Whitened:
    """Planes (P, Y, X) that are whitened when they are read; indexed like an array of planes.

    If wanted, pixels that a saturated pixel has a part in get the highest value of their plane, so that they are seen
    to be saturated as well.
    """

    def __init__(self, planes: NDArray[Any], coefficients: Lags, *, mark_saturated: bool = False) -> None:
        self._planes, self._mark_saturated = planes, mark_saturated
        self.shape = planes.shape
        kernel = whitening_kernel(coefficients)
        pad = kernel.shape[0] - 1
        self._kernel = np.concatenate([kernel, np.zeros((pad, kernel.shape[1]))]).astype(np.float32)
        self._share = (np.abs(self._kernel) > _PART).astype(np.float32)

    def __len__(self) -> int:
        return len(self._planes)

    def __getitem__(self, key: Any) -> Plane:
        index, *region = key if isinstance(key, tuple) else (key,)
        plane = as_float(self._planes[index])
        white: Plane = correlate(plane, self._kernel, mode="mirror")
        if self._mark_saturated and (saturated := extreme(plane)).any():
            white[correlate(saturated.astype(np.float32), self._share, mode="mirror") > 0] = np.nanmax(white)
        found: Plane = white[tuple(region)]
        return found
