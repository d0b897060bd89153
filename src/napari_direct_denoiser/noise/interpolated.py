"""Interpolated pixels: a colour camera measures a colour in a part of the pixels, and interpolates it in the others.

Noise of such images is not stationary, and the interpolated pixels hold nothing that the measured ones do not. So the
measured pixels alone are denoised, as an image of their own on their lattice, where noise is stationary; the others are
interpolated again, from the result. A checkerboard (green of a Bayer pattern) is a square lattice that is turned by 45
degrees; one of four pixels (red and blue) is an image of half the height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..data.images import Frames
from ..data.patches import reflected
from ..errors import SettingError
from .correlation import LEAST, Measure, measure_correlation, some_planes
from .fit import LAGS, Autocorrelation, NoiseFit
from .models import NoiseModel
from .quiet_windows import SIDE, correlation_in_windows, quiet_windows
from .recording import sampled_planes
from .wrapped import WholePlaneNoise

Pattern = Literal["checkerboard", "quarter"]
Indices = NDArray[np.intp]
Image = NDArray[np.float32]

_MARGIN = 2  # lattice pixels around the image, for the interpolation; reflected
_MIDPOINT = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # cubic interpolation half way between pixels
_PATTERNS: tuple[tuple[Pattern, int, int], ...] = (
    *(("quarter", row, column) for row in (0, 1) for column in (0, 1)),
    ("checkerboard", 0, 0),
    ("checkerboard", 1, 0),
)
_EXPLAINED = 0.9  # least part of the variance of interpolated pixels that the measured ones around them explain
_UNEVEN = 1.25  # least ratio of the variances of two of the four kinds of pixels; smoothed noise is alike in all
_AROUND = 3  # pixels
_FEWEST = 32  # windows
_SMALLEST = 128  # pixels; least side of a lattice to train on


class InterpolatedNoise(WholePlaneNoise):
    """Noise of images of which a part of the pixels is measured, and the others are interpolated.

    `measured` gives the measured pixels as planes (P, U, V) of their own. Everything else is about these, and so is
    the noise of the base. `restored` interpolates the others.

    Parameters
    ----------
    base
        Model of the noise of the measured pixels on their lattice, or its `document`.
    pattern
        ``"checkerboard"``: every second pixel is measured, or ``"quarter"``: one of four.
    row, column
        Where the first measured pixel is, 0 or 1. That of a checkerboard is in column 0.

    Raises
    ------
    SettingError
        If there is no such pattern.
    """

    kind = "interpolated"

    def __init__(self, base: NoiseModel | dict[str, Any], pattern: Pattern, row: int = 0, column: int = 0) -> None:
        super().__init__(base)
        if (pattern, row, column) not in _PATTERNS:
            raise SettingError(
                "Expected a checkerboard of measured pixels from row 0 or 1, or a quarter of the pixels from row and "
                f"column 0 or 1, found {str(pattern)[:20]!r} from row {row!r} and column {column!r}: correct the noise "
                "model"
            )
        self.pattern, self.row, self.column = pattern, int(row), int(column)

    def with_base(self, base: NoiseModel) -> InterpolatedNoise:
        return InterpolatedNoise(base, self.pattern, self.row, self.column)

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        return self.base.measured(cast("NDArray[Any]", Measured(planes, self.pattern, self.row, self.column)))

    def at_measured(self, images: NDArray[Any]) -> NDArray[Any]:
        found = Measured(images, self.pattern, self.row, self.column)
        return self.base.at_measured(np.stack([found[number] for number in range(len(found))]))

    def restored(self, image: Image, shape: tuple[int, int]) -> Image:
        lattice = Lattice(self.pattern, self.row, self.column, shape)
        planes = self.base.restored(image, lattice.shape).reshape(-1, *lattice.shape)
        return np.stack([lattice.restored(plane) for plane in planes]).reshape(*image.shape[:-2], *shape)

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base": self.base.document(),
            "pattern": self.pattern,
            "row": self.row,
            "column": self.column,
        }

    def describe(self) -> str:
        which = "a checkerboard" if self.pattern == "checkerboard" else "one of four"
        return f"{self.base.describe()}, in {which} of the pixels; the others are interpolated"


class Lattice:
    """Where the measured pixels of a plane are.

    Parameters
    ----------
    pattern, row, column
        As in `InterpolatedNoise`.
    shape
        Of the plane, pixels.
    """

    def __init__(self, pattern: Pattern, row: int, column: int, shape: tuple[int, int]) -> None:
        self.plane, (height, width) = shape, shape
        self.pattern, self.row, self.column = pattern, row, column
        self._down = height // 2 + 1  # brings differences of columns and rows to numbers from 0
        if pattern == "checkerboard":
            side = (height + width) // 2 + 2 * _MARGIN + 3
            self.shape = side, side
        else:
            self.shape = (height + 1) // 2 + 2 * _MARGIN, (width + 1) // 2 + 2 * _MARGIN

    def pixels(self, rows: Indices, columns: Indices) -> tuple[Indices, Indices]:
        """Row and column in the plane of the pixels of some rows and columns of the lattice, each (rows, columns)."""
        u, v = rows[:, None] - _MARGIN, columns[None] - _MARGIN
        if self.pattern == "checkerboard":
            v = v - self._down
            y, x = self.row + u - v, u + v
        else:
            y, x = self.row + 2 * u + 0 * v, self.column + 2 * v + 0 * u
        return reflected(y, self.plane[0]), reflected(x, self.plane[1])

    def restored(self, image: Image) -> Image:
        """The whole plane: measured pixels from an image on the lattice, the others interpolated."""
        twice = _between(_between(image).T).T
        y, x = np.arange(self.plane[0])[:, None] - self.row, np.arange(self.plane[1])[None]
        if self.pattern == "checkerboard":
            return np.asarray(twice[x + y + 2 * _MARGIN, x - y + 2 * (_MARGIN + self._down)])
        return np.asarray(twice[y + 2 * _MARGIN, x - self.column + 2 * _MARGIN])


def _between(image: Image) -> Image:
    """An image with rows half way between its own, (2 H - 1, W)."""
    padded = np.pad(image, ((1, 1), (0, 0)), mode="edge")
    wide = np.empty((2 * len(image) - 1, image.shape[1]), np.float32)
    wide[::2] = image
    wide[1::2] = sum(np.float32(weight) * padded[at : at + len(image) - 1] for at, weight in enumerate(_MIDPOINT))
    return wide


class Measured:
    """The measured pixels of planes (P, Y, X) on their lattice, (P, U, V); indexed like an array of planes."""

    ndim = 3

    def __init__(self, planes: NDArray[Any], pattern: Pattern, row: int, column: int) -> None:
        self._planes = planes
        self._lattice = Lattice(pattern, row, column, (planes.shape[-2], planes.shape[-1]))
        self.shape = (len(planes), *self._lattice.shape)
        self.dtype = planes.dtype
        self.cached_planes = getattr(planes, "cached_planes", None)  # of a stack that is read when needed

    def __len__(self) -> int:
        return len(self._planes)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a plane, or a region of it: ``planes[3]``, ``planes[3, 10:20, 30:40]``."""
        index, *region = key if isinstance(key, tuple) else (key,)
        rows, columns = (*region, slice(None), slice(None))[:2]
        sides = self._lattice.shape
        y, x = self._lattice.pixels(np.arange(sides[0])[rows], np.arange(sides[1])[columns])
        top, left = y.min(), x.min()
        seen: NDArray[Any] = np.asarray(self._planes[index, top : y.max() + 1, left : x.max() + 1])
        return np.asarray(seen[y - top, x - left])


def fit_interpolated(
    given: NoiseModel | None,
    stacks: Sequence[Frames],
    fit_measured: Callable[[NoiseModel | None, Sequence[Frames], Measure | None], NoiseFit],
) -> NoiseFit:
    """Look for interpolated pixels, and fit the noise of the measured ones.

    Parameters
    ----------
    given
        The noise model if it is known: then images are interpolated if it says so.
    stacks
        The noisy images.
    fit_measured
        Fits the noise of pixels, or compares a given model with it; how to measure its correlation may be given.
    """
    known = given if isinstance(given, InterpolatedNoise) else None
    found = (known.pattern, known.row, known.column) if known else find_pattern(stacks) if given is None else None
    if found is None:
        return fit_measured(given, stacks, None)
    planes = [cast("NDArray[Any]", Measured(stack.planes, *found)) for stack in stacks]
    measured = [Frames(each, stack.step) for each, stack in zip(planes, stacks, strict=True)]

    def measure(static: bool) -> Autocorrelation:
        if static or found[0] == "quarter":
            return measure_correlation(measured, static=static)
        # windows of the image hold less structure than those of its lattice, which show more of the scene
        lags = correlation_in_windows(list(some_planes(stacks, static=False)), parity=found[1])
        return Autocorrelation(lags, "yx" if max(lags[0, LAGS + 1], lags[1, LAGS]) > LEAST else "")

    fit = fit_measured(known.base if known else None, measured, measure)
    return replace(fit, model=known or InterpolatedNoise(fit.model, *found))


def find_pattern(stacks: Sequence[Frames]) -> tuple[Pattern, int, int] | None:
    """Find which pixels are measured, if others are interpolated from them: `pattern`, `row` and `column`.

    Interpolated pixels follow from the measured ones around them, and differ from them in variance. Both are looked for
    in the parts of the images that have the least structure.
    """
    if not any(len(stack.planes) for stack in stacks):
        return None
    quiet = quiet_windows(sampled_planes(stacks))  # with hot pixels: peaks of interpolated noise would count as such
    windows = np.concatenate([np.empty((0, SIDE**2)), *(level.rest for level in quiet)])
    windows = windows.reshape(-1, SIDE, SIDE)
    if len(windows) < _FEWEST:
        return None
    variances = [windows[:, row::2, column::2].var() for row in (0, 1) for column in (0, 1)]
    if max(variances) < _UNEVEN * min(variances):
        return None
    explained = {pattern: _explained(windows, *pattern) for pattern in _PATTERNS}
    quarters = [each for each in _PATTERNS if each[0] == "quarter" and explained[each] > _EXPLAINED]
    best = max(quarters or _PATTERNS, key=lambda each: explained[each])
    return best if explained[best] > _EXPLAINED and all(_is_large(stack, *best) for stack in stacks) else None


def _is_large(stack: Frames, pattern: Pattern, row: int, column: int) -> bool:
    shape = (stack.planes.shape[-2], stack.planes.shape[-1])
    return min(Lattice(pattern, row, column, shape).shape) >= _SMALLEST


def _explained(windows: NDArray[np.float64], pattern: Pattern, row: int, column: int) -> float:
    """Part of the variance of interpolated pixels that measured pixels around them explain; the least of all kinds."""
    kinds = [(y, x) for y in (0, 1) for x in (0, 1)]
    away = range(-_AROUND, _AROUND + 1)

    def is_measured(y: int, x: int) -> bool:
        if pattern == "checkerboard":
            return (y + x - row) % 2 == 0
        return y % 2 == row and x % 2 == column

    found = []
    for kind in kinds:
        if is_measured(*kind):
            continue
        y, x = (np.arange(_AROUND + 1 + (_AROUND + 1 + at) % 2, windows.shape[1] - _AROUND, 2) for at in kind)
        own = windows[:, y[:, None], x].ravel()
        around = [(dy, dx) for dy in away for dx in away if is_measured(kind[0] + dy, kind[1] + dx)]
        pixels = np.stack([windows[:, (y + dy)[:, None], x + dx].ravel() for dy, dx in around], axis=1)
        weights = np.linalg.lstsq(pixels, own, rcond=None)[0]
        found.append(1 - float(np.mean((own - pixels @ weights) ** 2) / own.var()))
    return min(found)
