"""Images of a colour camera: which pixels it measured, and how it interpolated the others, from the images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..data.images import Frames
from .correlation import LEAST, Measure, measure_correlation, some_planes
from .fit import LAGS, Autocorrelation, NoiseFit
from .interpolated import CUBIC_OF_TWO, PATTERNS, InterpolatedNoise, Lattice, Measured, Pattern, Weights, is_measured
from .models import NoiseModel
from .quiet_windows import SIDE, correlation_in_windows, quiet_windows
from .recording import sampled_planes

_EXPLAINED = 0.9  # least part of the variance of interpolated pixels that the measured ones around them explain
_UNEVEN = 1.25  # least ratio of the variances of two of the four kinds of pixels; smoothed noise is alike in all
_AROUND = 3  # pixels
_FEWEST = 32  # windows
_SMALLEST = 128  # pixels; least side of a lattice to train on

Windows = NDArray[np.float64]  # (windows, SIDE, SIDE)
Places = list[tuple[float, float]]  # on the lattice, from an interpolated pixel

_FOUR: tuple[Places, ...] = (
    [(u, v) for u in (-0.5, 0.5) for v in (-0.5, 0.5)],
    [(u * a, v * b) for u in (-0.5, 0.5) for v in (-0.5, 0.5) for a, b in ((1, 3), (3, 1))],
    [(u, v) for u in (-1.5, 1.5) for v in (-1.5, 1.5)],
)
_TWO: tuple[Places, ...] = (
    [(0.0, v) for v in (-0.5, 0.5)],
    [(0.0, v) for v in (-1.5, 1.5)],
    [(u, v) for u in (-1.0, 1.0) for v in (-0.5, 0.5)],
)
_TURNED: tuple[Places, ...] = tuple([(v, u) for u, v in places] for places in _TWO)


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
    windows = quietest(stacks) if given is None else np.empty((0, SIDE, SIDE))
    found = (known.pattern, known.row, known.column) if known else find_pattern(windows, stacks)
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
    return replace(fit, model=known or InterpolatedNoise(fit.model, *found, *_weights(windows, *found)))


def find_pattern(windows: Windows, stacks: Sequence[Frames]) -> tuple[Pattern, int, int] | None:
    """Find which pixels are measured, if others are interpolated from them: `pattern`, `row` and `column`.

    Interpolated pixels follow from the measured ones around them, and differ from them in variance. Both are looked for
    in the parts of the images that have the least structure, `quietest`.
    """
    if len(windows) < _FEWEST:
        return None
    variances = [windows[:, row::2, column::2].var() for row in (0, 1) for column in (0, 1)]
    if max(variances) < _UNEVEN * min(variances):
        return None
    explained = {pattern: _explained(windows, *pattern) for pattern in PATTERNS}
    quarters = [each for each in PATTERNS if each[0] == "quarter" and explained[each] > _EXPLAINED]
    best = max(quarters or PATTERNS, key=lambda each: explained[each])
    return best if explained[best] > _EXPLAINED and all(_is_large(stack, *best) for stack in stacks) else None


def quietest(stacks: Sequence[Frames]) -> Windows:
    """The windows that have the least structure, of variance 1."""
    if not any(len(stack.planes) for stack in stacks):
        return np.empty((0, SIDE, SIDE))
    quiet = quiet_windows(sampled_planes(stacks))  # with hot pixels: peaks of interpolated noise would count as such
    return np.concatenate([np.empty((0, SIDE**2)), *(level.rest for level in quiet)]).reshape(-1, SIDE, SIDE)


def _is_large(stack: Frames, pattern: Pattern, row: int, column: int) -> bool:
    shape = (stack.planes.shape[-2], stack.planes.shape[-1])
    return min(Lattice(pattern, row, column, shape).shape) >= _SMALLEST


def _explained(windows: Windows, pattern: Pattern, row: int, column: int) -> float:
    """Part of the variance of interpolated pixels that measured pixels around them explain; the least of all kinds."""
    away, found = range(-_AROUND, _AROUND + 1), []
    for y, x in ((y, x) for y in (0, 1) for x in (0, 1) if not is_measured(y, x, pattern, row, column)):
        kind = y, x
        own = _pixels(windows, kind)
        around = [(dy, dx) for dy in away for dx in away if is_measured(y + dy, x + dx, pattern, row, column)]
        pixels = np.stack([_pixels(windows, kind, *place) for place in around], axis=1)
        weights = np.linalg.lstsq(pixels, own, rcond=None)[0]
        found.append(1 - float(np.mean((own - pixels @ weights) ** 2) / own.var()))
    return min(found)


def _pixels(windows: Windows, kind: tuple[int, int], down: int = 0, right: int = 0) -> NDArray[np.float64]:
    """Pixels so far from all those of a kind (row and column, even or odd) that are not near the edge."""
    y, x = (np.arange(_AROUND + 1 + (_AROUND + 1 + at) % 2, windows.shape[1] - _AROUND, 2) for at in kind)
    return windows[:, (y + down)[:, None], x + right].ravel()


def _weights(windows: Windows, pattern: Pattern, row: int, column: int) -> tuple[Weights, Weights]:
    """How pixels between four and between two measured ones were interpolated."""
    if pattern == "checkerboard":
        kinds = [(y, (y + 1 + row) % 2) for y in (0, 1)]
        return _fitted(windows, pattern, [(kind, _FOUR) for kind in kinds]), CUBIC_OF_TWO
    beside = [((row, 1 - column), _TWO), ((1 - row, column), _TURNED)]
    return _fitted(windows, pattern, [((1 - row, 1 - column), _FOUR)]), _fitted(windows, pattern, beside)


def _fitted(windows: Windows, pattern: Pattern, kinds: Sequence[tuple[tuple[int, int], tuple[Places, ...]]]) -> Weights:
    """Weights that give the interpolated pixels of some kinds from the measured ones at some places; they add up to 1.

    Those of a signal are the same as those of its noise, which is what quiet windows hold.
    """
    own = np.concatenate([_pixels(windows, kind) for kind, _ in kinds])
    sums = [
        [np.sum([_pixels(windows, kind, *_in_plane(pattern, *place)) for place in group], 0) for group in groups]
        for kind, groups in kinds
    ]
    near, far, other = np.concatenate(sums, axis=1)
    first, *more = (len(group) for group in kinds[0][1])
    design = np.stack([far - more[0] / first * near, other - more[1] / first * near], axis=1)
    weights = np.linalg.lstsq(design, own - near / first, rcond=None)[0]
    return Weights((1 - float(weights @ more)) / first, *weights.tolist())


def _in_plane(pattern: Pattern, u: float, v: float) -> tuple[int, int]:
    """Rows down and columns right in the plane of a place on the lattice."""
    return (round(u - v), round(u + v)) if pattern == "checkerboard" else (round(2 * u), round(2 * v))
