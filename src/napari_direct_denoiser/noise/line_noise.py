"""Line noise: offsets of whole rows or columns that are drawn anew for each plane.

Read-out of cameras and jitter of scanners cause it. Pixel noise is modelled by another model, about planes without the
offsets: they are estimated from whole planes and subtracted before anything else is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from ..data.images import Frames, spread_over
from ..errors import SettingError
from .fit import NoiseFit
from .models import NoiseModel
from .windows import as_float, fill
from .wrapped import PlanesWhenRead, WholePlaneNoise

Plane = NDArray[np.float32]  # (Y, X)
Line = NDArray[np.float32]  # (Y,) or (X,)

_PLANES = 8  # that are measured
_LEAST = 0.1  # ratio of the offsets to the pixel noise; weaker ones hardly show beside it
_SURE = 3.0  # standard errors
_FINE = (1, -6, 15, -20, 15, -6, 1)  # sixth difference: optics leaves no structure as fine
_FEWEST = 32  # rows and columns to measure offsets in
_MEASURED_STRIP, _STRIP = 32, 64  # pixels; width of strips whose errors are independent
_FEWEST_STRIPS = 4
_BLUR = 4.0  # sigma along a column, pixels: what it leaves is taken for structure
_AROUND = 9, 33  # rows and columns over which the variance of a pixel is averaged
_QUIETEST = 0.1  # lowest variance, as a part of the median: clipped pixels have none, and show no offsets
_OUTLIER = 3.0  # standard deviations
_SMOOTHED = 2.0  # sigma, frequencies


class LineNoise(WholePlaneNoise):
    """Offsets of whole rows and columns, normally distributed and new in each plane, beside the noise of pixels.

    `measured` removes the offsets. Everything else is about planes without them, and so is that of the base.

    Parameters
    ----------
    base
        Model of the noise of pixels, or its `document`.
    row_std, column_std
        Standard deviations of the offsets of rows and of columns, counts; 0 for none.

    Raises
    ------
    SettingError
        If a standard deviation is negative or not finite.
    """

    kind = "lines"

    def __init__(self, base: NoiseModel | dict[str, Any], row_std: float = 0.0, column_std: float = 0.0) -> None:
        super().__init__(base)
        for name, std in (("rows", row_std), ("columns", column_std)):
            if not (np.isfinite(std) and std >= 0):
                raise SettingError(
                    f"Expected a standard deviation of at least 0 counts for the offsets of {name}, found {std:g}: "
                    "correct the noise model"
                )
        self.row_std, self.column_std = float(row_std), float(column_std)

    def with_base(self, base: NoiseModel) -> LineNoise:
        return LineNoise(base, self.row_std, self.column_std)

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        return self.base.measured(cast("NDArray[Any]", _WithoutLines(planes, self.row_std, self.column_std)))

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base": self.base.document(),
            "row_std": self.row_std,
            "column_std": self.column_std,
        }

    def describe(self) -> str:
        found = [f"row offsets of std {self.row_std:.3g} counts"] if self.row_std else []
        found += [f"column offsets of std {self.column_std:.3g} counts"] if self.column_std else []
        return ", ".join([self.base.describe(), *found])


def fit_lines(
    given: NoiseModel | None,
    stacks: Sequence[Frames],
    fit_pixels: Callable[[NoiseModel | None, Sequence[Frames]], NoiseFit],
) -> NoiseFit:
    """Measure offsets of lines, and fit the noise of pixels without them.

    Parameters
    ----------
    given
        The noise model if it is known; one of line noise stays as it is.
    stacks
        The noisy images.
    fit_pixels
        Fits the noise of pixels, or compares a given model with it.
    """
    known = given if isinstance(given, LineNoise) else None
    stds = (known.row_std, known.column_std) if known else measure_lines(stacks)
    if not any(stds):
        return fit_pixels(given, stacks)
    straight = [Frames(cast("NDArray[Any]", _WithoutLines(stack.planes, *stds)), stack.step) for stack in stacks]
    fit = fit_pixels(known.base if known else given, straight)
    return replace(fit, model=known or LineNoise(fit.model, *stds))


def measure_lines(stacks: Sequence[Frames]) -> tuple[float, float]:
    """Measure the standard deviations (counts) of the offsets of rows and of columns; 0 where there are none.

    Offsets are what distant strips of a row have in common at the highest frequencies across rows, where optics leaves
    no structure. Neither pixel noise nor its correlation between neighbours adds to that. What all planes have in
    common is a fixed pattern, not noise: it is subtracted if there are several planes of one shape.
    """
    places = [(stack.planes, index) for stack in stacks for index in range(len(stack.planes))]
    groups: dict[tuple[int, ...], list[Plane]] = defaultdict(list)
    for place in spread_over(len(places), _PLANES):
        planes, index = places[place]
        if min(planes.shape[1:]) >= _FEWEST:
            groups[planes.shape[1:]].append(fill(as_float(planes[index]))[0])
    rows = [_shared(group) for group in groups.values()]
    columns = [_shared([plane.T for plane in group]) for group in groups.values()]
    return _std(rows), _std(columns)


def _std(measured: Sequence[tuple[NDArray[np.float64], float]]) -> float:
    """Standard deviation of offsets, from their products and the pixel noise of each group; 0 if it is not sure."""
    if not measured:
        return 0.0
    products = np.concatenate([product for product, _ in measured])
    noise = float(np.mean([level for _, level in measured]))
    variance = float(products.mean())
    error = 2 * float(products.std()) / len(products) ** 0.5  # differences of neighbouring rows are not independent
    return variance**0.5 if variance > max((_LEAST * noise) ** 2, _SURE * error, 1e-12) else 0.0


def _shared(planes: Sequence[Plane]) -> tuple[NDArray[np.float64], float]:
    """Products of the offsets that pairs of strips of a row show, (planes * rows,), and the std of the pixel noise."""
    energy = sum(weight**2 for weight in _FINE)
    rows = planes[0].shape[0] - len(_FINE) + 1
    levels, means = [], []
    for plane in planes:
        high = np.zeros((rows, plane.shape[1]))
        for shift, weight in enumerate(_FINE):
            high += weight * plane[shift : shift + rows]
        levels.append(1.4826 * float(np.median(np.abs(high))) / energy**0.5)
        starts = _starts(plane.shape[1], _MEASURED_STRIP)
        widths = np.diff([*starts, plane.shape[1]])
        means.append(np.add.reduceat(high, starts, axis=1) / widths)
    strips = np.stack(means)  # (planes, rows, strips)
    if len(strips) > 1:
        strips = (strips - strips.mean(0)) * (len(strips) / (len(strips) - 1)) ** 0.5
    weights = 1 / np.maximum(np.square(strips).mean((0, 1)), 1e-12)
    weights /= weights.sum()
    pairs = (strips @ weights) ** 2 - np.square(strips) @ weights**2
    return pairs.ravel() / ((1 - float(np.sum(weights**2))) * energy), float(np.mean(levels))


def _starts(width: int, strip: int) -> NDArray[np.intp]:
    """First pixel of each strip; there are at least four."""
    return np.linspace(0, width, max(width // strip, _FEWEST_STRIPS), endpoint=False).astype(np.intp)


def row_offsets(plane: Plane, std: float) -> Line:
    """Estimate the offset of each row (counts), (Y,), given their standard deviation; the mean over all rows is 0.

    The estimate is linear and the best one for the measured spectrum of its errors (Wiener): slow changes over many
    rows are not told from structure, and stay. Of the plane without its blur along y, the mean of each row is taken in
    strips, where pixels with little noise and structure around them count more. What the strips differ by gives the
    errors.
    """
    if min(plane.shape) < 2 * _FEWEST_STRIPS or not std:
        return np.zeros(len(plane), np.float32)
    means, noise = _row_means(plane)
    kept = _kept(len(plane))
    gain = kept * std**2 / (kept**2 * std**2 + noise)
    return np.asarray(idct(gain * dct(means, norm="ortho"), norm="ortho"), dtype=np.float32)


def left_variance(model: NoiseModel, planes: Sequence[Plane]) -> float:
    """Variance (counts^2) of what is left of the offsets of lines in planes (Y, X) of `NoiseModel.measured`.

    It is the expected squared error of `row_offsets`; 0 for a model without line noise.
    """
    while isinstance(model, WholePlaneNoise) and not isinstance(model, LineNoise):
        model = model.base
    if not isinstance(model, LineNoise):
        return 0.0
    return float(np.mean([_left(each, model.row_std) + _left(each.T, model.column_std) for each in planes]))


def _left(plane: Plane, std: float) -> float:
    """Mean squared error of `row_offsets`, counts^2; offsets that were removed do not change it."""
    if min(plane.shape) < 2 * _FEWEST_STRIPS or not std:
        return std**2
    kept = _kept(len(plane))
    _, noise = _row_means(plane)
    return float(np.mean(std**2 * noise / (kept**2 * std**2 + noise)))


def _row_means(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each row of a plane without its blur along y, and the variance of its errors at each frequency, (Y,)."""
    rest = plane - gaussian_filter1d(plane, _BLUR, axis=0, mode="reflect")
    middle = np.median(rest, axis=1, keepdims=True)
    own = rest - middle
    variance = uniform_filter1d(uniform_filter1d(own**2, _AROUND[0], axis=0), _AROUND[1], axis=1)
    variance = np.maximum(variance, max(_QUIETEST * float(np.median(variance)), 1e-12))
    most = _OUTLIER * np.sqrt(variance)
    bounded = np.clip(own, -most, most) + middle
    starts = _starts(plane.shape[1], _STRIP)
    weights = np.add.reduceat(1 / variance, starts, axis=1, dtype=np.float64)  # (Y, strips)
    parts = np.add.reduceat(bounded / variance, starts, axis=1, dtype=np.float64) / weights
    weights /= weights.sum(1, keepdims=True)
    means = np.sum(weights * parts, axis=1)
    errors = dct(weights * (parts - means[:, None]), axis=0, norm="ortho")
    noise = np.square(errors).sum(1) / (1 - np.square(weights).sum(1).mean())
    return means, np.exp(gaussian_filter1d(np.log(noise + 1e-12), _SMOOTHED))


def _kept(count: int) -> NDArray[np.float64]:
    """What the blur leaves of an offset at each frequency."""
    return np.asarray(1 - np.exp(-0.5 * (np.pi * np.arange(count) / count * _BLUR) ** 2))


class _WithoutLines(PlanesWhenRead):
    """Planes (P, Y, X) without offsets of lines, float32.

    Only the offsets are kept in memory: they are estimated from the whole plane when its first pixels are read.
    """

    def __init__(self, planes: NDArray[Any], row_std: float, column_std: float) -> None:
        super().__init__(planes)
        self._stds = row_std, column_std
        self._offsets: dict[int, tuple[Line, Line]] = {}

    def _read(self, index: int, rows: slice, columns: slice) -> Plane:
        down, right = self._of_plane(int(index))
        part: Plane = as_float(self._planes[index, rows, columns])
        return np.asarray(part - down[rows, None] - right[columns])

    def _of_plane(self, index: int) -> tuple[Line, Line]:
        index %= len(self)
        if index not in self._offsets:
            plane = fill(as_float(self._planes[index]))[0]
            self._offsets[index] = row_offsets(plane, self._stds[0]), row_offsets(plane.T, self._stds[1])
        return self._offsets[index]
