"""Findings about the noise of images: what is unusual, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data.images import Frames, spread_over
from ..errors import SettingError
from .clipped import ClippedNoise
from .correlated import CorrelatedNoise
from .correlation import autoregression, measure_correlation
from .fit import Autocorrelation, NoiseFit
from .interpolated import InterpolatedNoise
from .line_noise import LineNoise
from .models import GaussianNoise, NoiseModel
from .recorded import RecordedNoise
from .recording import CLIPPED, measure_recording, sampled_planes
from .windows import as_float, crop
from .wrapped import WrappedNoise, pixel_noise, without_whole_planes

_PLANES = 9
_CORRELATED = 0.1  # least correlation of neighbours that a noise model is asked for
_AGREES = 0.2  # largest difference of the correlation of neighbours between images and a noise model that fits them
_SATURATED = 1e-4  # fraction of the pixels at exactly the highest value
_GAPS = 0.2  # fraction of the levels that never occur
_WEAK = 0.01  # ratio of the noise to the range of brightness
_HOT = 5  # fewer may be chance
_STRIPES = 4.0  # ratio of the difference between rows or columns to that expected from noise

Kind = Literal[
    "correlated",
    "too small",
    "saturated",
    "clipped",
    "quantised",
    "weak",
    "hot pixels",
    "lines",
    "interpolated",
    "fixed pattern",
    "range",
]
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """One unusual property of the noise, to know before training."""

    kind: Kind
    words: str
    """A sentence with the number and what to do."""
    value: float
    """The number: by kind a correlation, a fraction, a number of pixels, or camera counts."""
    suggests_structured: bool = False
    """Whether the setting `structured` is the mend: noise is correlated in a way that cannot be modelled."""
    suggests_auto: bool = False
    """Whether the noise model ``auto`` is the mend: it knows the correlation that the given one does not."""


def diagnose(stacks: Sequence[Frames], fit: NoiseFit) -> tuple[Finding, ...]:
    """Check a few planes and the fit for unusual noise.

    Parameters
    ----------
    stacks
        The noisy images. Pixels that are not finite are left out.
    fit
        Their noise model, of `fit_noise`.

    Returns
    -------
    tuple[Finding, ...]
        Empty if nothing is unusual.
    """
    stacks = [stack for stack in stacks if len(stack.planes)]
    planes = sampled_planes(stacks)
    measured = [Frames(fit.model.measured(stack.planes), stack.step) for stack in stacks]
    pixels = replace(fit, model=without_whole_planes(fit.model))
    found = [_lines(fit), _interpolated(fit), _correlation(measured, pixels), *_limits(planes, fit)]
    found += [_quantised(planes, fit), _weak(fit), _hot_pixels(fit), *_fixed_pattern(measured), _range(pixels)]
    return tuple(finding for finding in found if finding is not None)


def _lines(fit: NoiseFit) -> Finding | None:
    """Offsets of rows or columns that are new in each plane."""
    if not isinstance(fit.model, LineNoise):
        return None
    stds = {"rows": fit.model.row_std, "columns": fit.model.column_std}
    parts = [f"{name} by {std:.3g} counts (std)" for name, std in stds.items() if std]
    words = f"Every plane has offsets of whole lines: {' and '.join(parts)}; they are estimated and removed"
    return Finding("lines", words, max(stds.values()))


def _interpolated(fit: NoiseFit) -> Finding | None:
    """Pixels that a colour camera interpolates."""
    model = fit.model.base if isinstance(fit.model, LineNoise) else fit.model
    if not isinstance(model, InterpolatedNoise):
        return None
    share, others = (
        (0.5, "Every second pixel is") if model.pattern == "checkerboard" else (0.75, "Three of four pixels are")
    )
    words = f"{others} interpolated from the others, as by a colour camera: the others are denoised, and these are "
    return Finding("interpolated", words + "interpolated again from the result", share)


def _correlation(stacks: Sequence[Frames], fit: NoiseFit) -> Finding | None:
    """Compare the correlation of the noise with that of the noise model."""
    if not len(fit.signals):
        return None
    found = fit.autocorrelation or measure_correlation(stacks, static=fit.static)
    expected = {"x": 0.0, "y": 0.0}
    model = pixel_noise(fit.model)
    if isinstance(model, CorrelatedNoise):
        lags = model.autocorrelation(1)
        expected = {"x": float(lags[0, 2]), "y": float(lags[1, 1])}
    elif not found.measured:
        words = "The images are too small to measure the correlation of the noise, which is taken for white"
        return Finding("too small", words, 0.0)
    measured = {"x": float(found.along_x[1]), "y": float(found.along_y[1])}
    asked = [axis for axis in "xy" if axis in found.axes or abs(expected[axis]) > _CORRELATED]
    if not asked or not found.measured:
        return None
    words = f"Neighbouring pixels share noise along {_along(measured, asked)}"
    value = max((measured[axis] for axis in asked), key=abs)
    if all(abs(measured[axis] - expected[axis]) < _AGREES for axis in asked):
        scanned = "; every second row was scanned backwards" if model.row_period == 2 else ""
        return Finding("correlated", f"{words}: it is modelled, and removed with the rest{scanned}", value)
    if not _can_be_modelled(found):
        words += ", in a way that cannot be modelled: turn on Structured noise, or it will be taken for structure"
        return Finding("correlated", words, value, suggests_structured=True)
    if not found.axes:
        words = f"The noise model is for noise that neighbouring pixels share along {_along(expected, asked)}, but "
        words += "this noise is independent from pixel to pixel: set the noise to auto"
    elif isinstance(model, CorrelatedNoise):
        words += f", but the noise model is for noise shared along {_along(expected, asked)}: set the noise to auto"
    else:
        words += ", which the noise model does not know: set the noise to auto, or it will be taken for structure"
    return Finding("correlated", words, value, suggests_auto=True)


def _along(correlation: dict[str, float], axes: Sequence[str]) -> str:
    """Name axes with the correlation of neighbours: "x (correlation 0.39) and y (0.20)"."""
    return " and ".join(f"{axis} ({'' if k else 'correlation '}{correlation[axis]:.2f})" for k, axis in enumerate(axes))


def _can_be_modelled(found: Autocorrelation) -> bool:
    if not found.axes:
        return True
    try:
        CorrelatedNoise(GaussianNoise(1.0), autoregression(found))
    except SettingError:
        return False
    return True


def _limits(planes: Sequence[Plane], fit: NoiseFit) -> list[Finding | None]:
    """Saturation and clipping: many pixels at exactly the highest or lowest value."""
    recording = measure_recording(planes)
    found: list[Finding | None] = []
    if recording.high and recording.high.share > _SATURATED:
        value, share = recording.high
        words = f"{share:.2%} of the pixels are saturated at {value:g}: their true brightness is lost"
        found.append(Finding("saturated", words, share))
    if recording.low and recording.low.share > CLIPPED:
        value, share = recording.low
        words = f"{share:.1%} of the pixels have the lowest value, {value:g}: they are clipped, and "
        words += (
            "replaced by what they are expected to have been"
            if _knows_clipping(fit.model)
            else "the dark parts of the result will be a little too bright; record with a higher offset if you can"
        )
        found.append(Finding("clipped", words, share))
    return found


def _knows_clipping(model: NoiseModel) -> bool:
    while isinstance(model, WrappedNoise):
        if isinstance(model, ClippedNoise) or (isinstance(model, RecordedNoise) and model.low is not None):
            return True
        model = model.base
    return False


def _quantised(planes: Sequence[Plane], fit: NoiseFit) -> Finding | None:
    """Gaps in the histogram of values, as in rescaled or 8-bit data."""
    steps, gaps = [], []
    for plane in planes:
        plane = plane[np.isfinite(plane)]
        if not plane.size:
            continue
        values, counts = np.unique(plane, return_counts=True)
        low, high = np.searchsorted(np.cumsum(counts), [0.05 * plane.size, 0.95 * plane.size])
        apart = np.diff(values[low : high + 1])
        crowded = plane.size > 20 * (values[min(high, len(values) - 1)] - values[low] + 1)
        whole = bool(np.all(values == np.round(values)))
        if len(apart) and whole and crowded:
            steps.append(float(np.median(apart)))
            gaps.append(1 - len(apart) / float(apart.sum()))
        elif len(apart) and not whole and len(values) < plane.size / 100:
            steps.append(float(np.median(apart)))
            gaps.append(1.0)
    if not steps or np.median(gaps) < _GAPS:
        return None
    step, noise = float(np.median(steps)), _noise(fit)
    words = (
        f"The values come in steps of about {step:.3g} counts (the noise is {noise:.3g}): the image was rescaled or "
        "saved with fewer bits; use the raw data if you have them"
    )
    return Finding("quantised", words, step)


def _noise(fit: NoiseFit) -> float:
    """Std of the noise at a middle signal, counts."""
    return float(np.sqrt(np.median(fit.variances))) if len(fit.variances) else 0.0


def _weak(fit: NoiseFit) -> Finding | None:
    span, noise = fit.signal_range[1] - fit.signal_range[0], _noise(fit)
    if not len(fit.variances) or span <= 0 or noise / span > _WEAK:
        return None
    words = f"The noise is only {noise / span:.2%} of the range of brightness: there is little to gain by denoising"
    return Finding("weak", words, noise / span)


def _hot_pixels(fit: NoiseFit) -> Finding | None:
    if fit.hot_pixels < _HOT:
        return None
    words = f"{fit.hot_pixels} hot or dead pixels: they are the same in all planes and stay in the result"
    return Finding("hot pixels", words, fit.hot_pixels)


def _fixed_pattern(stacks: Sequence[Frames]) -> list[Finding | None]:
    """Rows or columns that differ from both neighbours in the mean of all planes by more than noise."""
    found: list[Finding | None] = []
    stack = max(stacks, key=lambda one: len(one.planes))
    chosen = spread_over(len(stack.planes), _PLANES)
    parts = [as_float(stack.planes[(index, *crop(stack.planes.shape, 0))]) for index in chosen]
    plane = np.mean(parts, axis=0, dtype=np.float64)
    for axis, name in ((0, "rows"), (1, "columns")):
        bend = np.moveaxis(np.diff(plane, 2, axis=axis), axis, 0) / 6**0.5  # (lines, pixels)
        bend = bend[np.isfinite(bend).any(axis=1)]
        if not len(bend):
            continue
        lines = np.nanmedian(bend, axis=1)  # structure hardly changes the median of a line
        expected = 1.2533 * 1.4826 * np.nanmedian(np.abs(bend)) / np.sqrt(bend.shape[1])
        size = float(1.4826 * np.median(np.abs(lines)))
        if size > _STRIPES * max(float(expected), 1e-6):
            words = f"The {name} differ by about {size:.3g} counts in all planes: a fixed pattern of the camera, "
            words += "which stays in the result; subtract a dark image if you have one"
            found.append(Finding("fixed pattern", words, size))
    return found


def _range(fit: NoiseFit) -> Finding | None:
    outside = sum(fit.outside())
    if outside <= 0.01 or fit.model.signal_range is None:
        return None
    low, high = fit.model.signal_range
    words = (
        f"The noise model was fitted to signals of {low:.4g} to {high:.4g} counts; the noise at {fit.missing()} "
        "is extrapolated: calibrate with such brightness to be sure"
    )
    return Finding("range", words, outside)
