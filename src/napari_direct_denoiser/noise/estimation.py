"""Estimate a noise model from the noisy images alone: variance of a high-pass over the local mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from ..data.images import Frames, as_planes
from ..errors import ImageError
from .fit import Correlation, NoiseFit, robust_line
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise
from .recording import CLIPPED, measure_recording, sampled_planes
from .windows import Values, Windows, hot_pixels, measure

HIDDEN = 0.7
"""Fraction of clipped pixels above which nothing can be inferred from the others."""
NORMAL = 4.0
"""Least variance of dark noise, squared electrons, that is taken for Gaussian to undo clipping."""
_BINS = 40
_EQUAL = 2**0.5 / 20  # of the noise; values that differ less are equal; irrational: no mean of counts is a limit
_TRIM = 100.0  # squared high-pass values beyond this multiple of their bin's mean are structure or hot pixels
_FLAT = 1.15  # windows whose ring has a variance below this multiple of the noise have no structure
_ROUNDS = 4
_FEWEST = 25  # windows per bin
_FEWEST_IN_ALL = 200
_CLIPPED = 0.01  # larger fraction of pixels at the lowest value: the bin is clipped, and its variance too small
_UNCLIPPED = 0.9  # unless the variance is at least this fraction of what the other bins predict
_SPOILED = 0.05  # excess of the fraction of spoiled windows that makes the rest of a bin a biased sample
_SKEWS = 0.05, 1.7  # times Poisson's
_CORRELATED = 0.02  # smaller correlations are taken for none
_PAIRS = 200_000  # (signal, noisy) kept for a histogram

Bins = NDArray[np.float64]  # (bins,)


def estimate_noise(images: ArrayLike | Sequence[ArrayLike], axes: str | None = None) -> NoiseModel:
    """Estimate gain, offset and read noise of a camera from its noisy images.

    Frames of a static scene along T are subtracted from each other. Other images are high-pass
    filtered by a second difference along both axes, which has the variance of the noise where the
    image is smooth (Immerkaer 1996). A straight line is fitted to the mean square in bins of
    similar brightness. Bins above the line contain structure and are given a low weight.
    Pixels that are hot, saturated or not finite are left out.

    Parameters
    ----------
    images
        One array or a list of arrays of one camera, in counts: 2-D, or with any leading axes.
    axes
        One letter per axis, such as ``"TYX"``; guessed from the number of axes if not given.

    Returns
    -------
    NoiseModel
        Poisson-Gaussian, or Gaussian if the variance does not rise with the signal.
        A line cannot separate the offset from the read noise: the offset is where the line meets zero.

    Raises
    ------
    ImageError
        If the axes do not match an image, it is in colour, or too few pixels can be used.
    """
    many: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    return fit_images([as_planes(image, axes).frames for image in many]).model


def fit_images(stacks: Sequence[Frames], *, line: tuple[float, float] | None = None) -> NoiseFit:
    """Estimate the noise of planes, and keep what it was estimated from: see `estimate_noise`.

    ``line`` gives slope and intercept of the variance where a second difference does not show them, because noise is
    correlated at the highest frequencies.
    """
    stacks = [stack for stack in stacks if len(stack.planes)]
    hot = [hot_pixels(stack.planes) for stack in stacks]
    windows = measure(stacks, hot) if stacks else None
    usable = 0 if windows is None else int(np.count_nonzero(~windows.spoiled & (windows.square > 0)))
    if windows is None or usable < _FEWEST_IN_ALL:
        raise ImageError(
            f"Expected at least {_FEWEST_IN_ALL} windows of 7 x 7 pixels to estimate the noise from, found {usable} "
            "that are finite, not saturated and not constant: give a noise model by numbers or from a calibration"
        )
    variance = _noise_variance(windows)
    order = _rising(windows.ring - np.median(windows.ring), variance**0.5)
    bins = _binned(windows, order, variance, flat=~windows.spoiled)
    slope, intercept = _line(bins)
    if not windows.temporal:
        for _ in range(_ROUNDS):  # a better line selects the windows without structure better
            flat = ~windows.spoiled & (windows.roughness < _FLAT * (slope * windows.ring + intercept))
            bins = _binned(windows, order, variance, flat)
            slope, intercept = _line(bins)
    recording = measure_recording(sampled_planes(stacks))
    low = None if windows.temporal else recording.low
    if low and low.share > CLIPPED:
        whole = _unclipped(windows, bins, low.value)
        line = _line(whole)
        if whole.variances[0] > NORMAL * line[0] ** 2:  # few electrons without read noise are not normal
            bins, (slope, intercept) = whole, line
    correlation = _correlation(windows, bins)
    if line is not None and not windows.temporal:
        before, after = slope * bins.signals + intercept, line[0] * bins.signals + line[1]
        meet = (before > 0) & (after > 0)  # elsewhere a line says nothing of the variance
        bins.variances = bins.variances * np.where(meet, after, 1.0) / np.where(meet, before, 1.0)
        slope, intercept = line
    elif not windows.temporal:  # a second difference removes a part of correlated noise
        share = float(np.prod([_second_difference(rho) for rho in correlation]))
        bins.variances, slope, intercept = bins.variances / share, slope / share, intercept / share
    pick = np.random.default_rng(0).permutation(np.concatenate(bins.members))[:_PAIRS]
    return NoiseFit(
        model=_model(windows, bins, slope, intercept, recording.step),
        signals=bins.signals,
        variances=bins.variances,
        signal_range=(float(np.quantile(windows.ring, 0.001)), float(np.quantile(windows.ring, 0.999))),
        pairs=(windows.ring[pick], windows.noisy[pick]),
        correlation=correlation,
        static=windows.temporal,
        hot_pixels=int(sum(map(np.count_nonzero, hot))),
        source="differences of frames of a static scene" if windows.temporal else "smooth parts of the images",
    )


@dataclass
class _Bins:
    """Windows in bins of similar brightness; each array (bins,)."""

    signals: Bins
    variances: Bins
    counts: Bins
    members: list[NDArray[np.int64]]
    """Indices of the windows used in each bin."""
    saturated: NDArray[np.bool_]
    """Whether many pixels of this brightness are saturated, which makes the others a biased sample."""
    biased: NDArray[np.bool_]
    """Whether they are clipped or saturated."""
    clipped: Bins
    """Fraction of clipped pixels, where that was taken into account."""


def _noise_variance(windows: Windows) -> float:
    """Roughly, in counts^2."""
    squares = windows.square[~windows.spoiled]
    return float(np.median(squares) or squares.mean(dtype=np.float64))


def _rising(values: Values, unit: float) -> NDArray[np.int64]:
    """Indices that sort values, of which some are equal.

    Of images in whole counts many are. In other units rounding would order these by chance, and change the estimate.
    """
    return np.argsort(np.round(values / (_EQUAL * unit)), kind="stable")


def _binned(windows: Windows, order: NDArray[np.int64], variance: float, flat: NDArray[np.bool_]) -> _Bins:
    """Mean signal and trimmed mean square in bins; ``order`` sorts the windows by the mean of their rings.

    The noise has roughly this ``variance``. A bin with few ``flat`` windows takes the least rough ones.
    """
    lowest = windows.centre.min()
    usual = np.mean(windows.spoiled)
    signals, variances, saturated, biased, members = [], [], [], [], []
    for part in np.array_split(order, min(_BINS, max(len(order) // 100, 2))):
        chosen = part[flat[part]]
        if len(chosen) < _FEWEST:
            chosen = part[~windows.spoiled[part]]
            chosen = chosen[_rising(windows.roughness[chosen], variance)[:_FEWEST]]
        if not len(chosen):
            continue
        for _ in range(2):
            chosen = chosen[windows.square[chosen] <= _TRIM * windows.square[chosen].mean(dtype=np.float64)]
        signals.append(windows.mean[chosen].mean(dtype=np.float64))
        variances.append(windows.square[chosen].mean(dtype=np.float64))
        clipped = np.mean(windows.centre[chosen] <= lowest) > _CLIPPED
        saturated.append(bool(np.mean(windows.spoiled[part]) > usual + _SPOILED))
        biased.append(bool(clipped) or saturated[-1])
        members.append(chosen)
    counts = np.array([len(part) for part in members], dtype=np.float64)
    flags = np.array(saturated), np.array(biased)
    return _Bins(np.array(signals), np.array(variances), counts, members, *flags, np.zeros(len(members)))


def _unclipped(windows: Windows, bins: _Bins, low: float) -> _Bins:
    """Mean and variance of the noise before it was clipped at ``low``, for Gaussian noise (a censored normal).

    The fraction of clipped pixels gives the distance of the mean from the limit, in standard deviations.
    """
    clipped = np.array([np.mean(windows.centre[part] <= low) for part in bins.members])
    limit = ndtri(clipped.clip(1e-6, HIDDEN))
    density = np.exp(-0.5 * limit**2) / (2 * np.pi) ** 0.5
    mean = limit * ndtr(limit) + density
    variance = limit**2 * ndtr(limit) + ndtr(-limit) + limit * density - mean**2
    variances = bins.variances / variance
    signals = bins.signals - mean * np.sqrt(variances)
    return replace(
        bins, signals=signals, variances=variances, clipped=clipped, biased=bins.saturated | (clipped > HIDDEN)
    )


def _line(bins: _Bins) -> tuple[float, float]:
    """Slope and intercept of the variance, without the biased bins if at least a third is unbiased."""
    use = ~bins.biased
    if np.count_nonzero(use) < len(use) / 3:
        use = np.ones_like(use)
    slope, intercept = robust_line(bins.signals[use], bins.variances[use], bins.counts[use])
    # dark pixels of a camera without read noise have one value too, but the variance is right
    use = use | (bins.variances > _UNCLIPPED * (slope * bins.signals + intercept))
    return robust_line(bins.signals[use], bins.variances[use], bins.counts[use])


def _model(windows: Windows, bins: _Bins, slope: float, intercept: float, step: float) -> NoiseModel:
    mean_variance = float(np.average(bins.variances, weights=bins.counts))
    floor = mean_variance * 1e-6 + step**2 / 12  # the variance of rounding
    top = float(bins.signals[-1])
    if slope <= 0 or slope * (top - float(bins.signals[0])) < 0.1 * (slope * top + intercept):
        return GaussianNoise(float(np.sqrt(max(mean_variance, floor))))
    # the offset is at most the mean of the darkest bin, and at least the darkest ring or 0
    offset = max(min(-intercept / slope, float(bins.signals[0])), min(float(windows.ring.min()), 0.0))
    read_variance = max(intercept + slope * offset, (0.1 * slope) ** 2, floor)
    return PoissonGaussianNoise(slope, offset, float(np.sqrt(read_variance)), _skew(windows, bins, slope))


def _skew(windows: Windows, bins: _Bins, gain: float) -> float:
    """Slope of the third central moment over the signal, relative to Poisson noise; near 1 if the data are few.

    The slope does not depend on the offset, which is unknown as far as read noise hides it.
    """
    cubes = [windows.cube[part] for part in bins.members]
    cubes = [known[np.isfinite(known)].astype(np.float64) for known in cubes]
    use = (bins.clipped <= _CLIPPED) & ~bins.saturated & np.array([len(known) >= _FEWEST for known in cubes])
    if np.count_nonzero(use) < 3:
        return 1.0
    signals, cubes = bins.signals[use], [known for known, used in zip(cubes, use, strict=True) if used]
    third = np.array([known.mean() for known in cubes])
    error = np.array([known.std() / len(known) ** 0.5 for known in cubes])
    weight = 1 / np.maximum(error, 1e-9 * np.abs(third).max() + 1e-30) ** 2
    away = signals - np.average(signals, weights=weight)
    precision = float(np.sum(weight * away**2)) * gain**4
    measured = float(np.sum(weight * away * third)) * gain**2 / precision
    trust = 1 / (1 + 1 / (0.2**2 * precision))  # prior: 1 with std 0.2
    return float(np.clip(1 + trust * (measured - 1), *_SKEWS))


def more_skewed(model: NoiseModel, ratio: float) -> NoiseModel:
    """The model with so many times the skewness, if it has any."""
    if ratio == 1 or not isinstance(model, PoissonGaussianNoise):
        return model
    skew = float(np.clip(ratio * model.skew, *_SKEWS))
    return PoissonGaussianNoise(model.gain, model.offset, model.read_noise, skew)


def _correlation(windows: Windows, bins: _Bins) -> Correlation:
    """Correlation of the noise over 1 and 2 pixels along x, and along y."""
    members = np.concatenate(bins.members)
    least = max(_CORRELATED, 4 / len(members) ** 0.5)  # with few windows, chance exceeds it
    found = []
    for products in (windows.along_x, windows.along_y):
        own, one, two = products[members].sum(0, dtype=np.float64)
        sure = own > 0 and abs(one / own) > least
        found.append((float(one / own), float(two / own)) if sure else (0.0, 0.0))
    return found[0], found[1]


def _second_difference(correlation: tuple[float, float]) -> float:
    """Fraction of the variance of correlated noise that a second difference along that axis keeps."""
    one, two = correlation
    return max((6 - 8 * one + 2 * two) / 6, 0.1)
