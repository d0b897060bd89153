"""Noise model from the noisy images alone: the variance of a high-pass against the local mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, maximum_filter, uniform_filter

from ..images import sampled_planes
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise

_BINS = 40
_AROUND = 7  # side of the window of the local mean, pixels
_MAX_PLANES = 40  # more planes of a stack add time, not accuracy
_TRIM = 40.0  # squared high-pass values beyond this multiple of their bin's mean are structure or hot pixels


Stack = NDArray[np.generic]  # (planes, Y, X)
Pixels = NDArray[np.float32]  # (windows,)
Bins = NDArray[np.float64]  # (bins,)


def estimate_noise(stacks: Sequence[Stack]) -> NoiseModel:
    """Estimate gain, offset and read noise of a camera from its noisy images.

    The second difference along both axes has the variance of the noise where the image is smooth
    (Immerkaer 1996). Its mean square in bins of like brightness gives a straight line; the bins that
    lie above it, where structure leaked in, lose their weight.

    Parameters
    ----------
    stacks
        Arrays (planes, Y, X) of one camera, in counts.

    Returns
    -------
    NoiseModel
        Poisson-Gaussian, or Gaussian where the variance does not rise with the signal.
        A line alone cannot part offset from read noise: the offset is where the line meets zero.
    """
    ring, mean, square = (np.concatenate(parts) for parts in zip(*_windows(stacks), strict=True))
    signals, variances, counts = _binned(ring, mean, square)
    slope, intercept = _robust_line(signals, variances, counts)
    floor = float(np.average(variances, weights=counts)) * 1e-6 + 1 / 12  # whole counts: 1/12
    span = float(signals[-1] - signals[0])
    if slope * span < 0.1 * (slope * signals[-1] + intercept):
        return GaussianNoise(float(np.sqrt(max(np.average(variances, weights=counts), floor))))
    offset = min(-intercept / slope, float(signals[0]))
    lowest = min(float(ring.min()), 0.0)
    offset = max(offset, lowest)  # no camera has an offset below its darkest pixel
    read_variance = max(intercept + slope * offset, (0.1 * slope) ** 2, floor)
    return PoissonGaussianNoise(slope, offset, float(np.sqrt(read_variance)))


def _windows(stacks: Sequence[Stack]) -> Iterator[tuple[Pixels, Pixels, Pixels]]:
    """For each sampled plane, at every second pixel: ring, local mean and squared high-pass.

    The high-pass weighs the variances of its 3x3 pixels by its squared coefficients, and so does
    the local mean. The ring is the mean of the pixels around these: it sorts the windows by
    brightness without looking at their noise.
    """
    for plane in sampled_planes(stacks, _MAX_PLANES):
        ring = (_AROUND**2 * uniform_filter(plane, _AROUND) - 9 * uniform_filter(plane, 3)) / (_AROUND**2 - 9)
        mean = convolve1d(convolve1d(plane, [1 / 6, 4 / 6, 1 / 6], axis=0), [1 / 6, 4 / 6, 1 / 6], axis=1)
        highpass = convolve1d(convolve1d(plane, [1, -2, 1], axis=0), [1, -2, 1], axis=1) / 6
        extreme = plane >= _extreme(plane)
        use = ~maximum_filter(extreme, _AROUND)[1:-1:2, 1:-1:2]
        inner = slice(1, -1, 2), slice(1, -1, 2)
        yield ring[inner][use], mean[inner][use], highpass[inner][use] ** 2


def _extreme(plane: Pixels) -> float:
    """The level from which pixels are saturated (many at exactly the highest value) or far too hot."""
    top, middle, high = (float(level) for level in np.quantile(plane, (1.0, 0.5, 0.995)))
    saturated = np.count_nonzero(plane == top) > max(20, plane.size * 1e-4)
    return min(top if saturated else np.inf, middle + 5 * (high - middle) + 1e-6)


def _binned(ring: Pixels, mean: Pixels, square: Pixels) -> tuple[Bins, Bins, Bins]:
    """Mean signal, trimmed mean square and number of windows, in bins of equally many of like rings."""
    order = np.argsort(ring, kind="stable")
    signals, variances, counts = [], [], []
    for part in np.array_split(order, min(_BINS, max(len(order) // 50, 2))):
        values = square[part].astype(np.float64)
        for _ in range(2):
            values = values[values <= _TRIM * values.mean()]
        signals.append(float(mean[part].mean(dtype=np.float64)))
        variances.append(float(values.mean()))
        counts.append(len(values))
    return np.array(signals), np.array(variances), np.array(counts, dtype=np.float64)


def _robust_line(signals: Bins, variances: Bins, counts: Bins) -> tuple[float, float]:
    """Slope and intercept by iterated weighted least squares; bins above the line are doubted."""
    design = np.stack([signals, np.ones_like(signals)], 1)
    weight = counts / np.maximum(variances, variances.max() * 1e-6) ** 2  # a mean square varies with its square
    slope = intercept = 0.0
    doubt = np.ones_like(weight)
    for _ in range(10):
        root = np.sqrt(weight * doubt)
        slope, intercept = np.linalg.lstsq(design * root[:, None], variances * root, rcond=None)[0]
        fitted = np.maximum(slope * signals + intercept, variances.max() * 1e-6)
        excess = variances / fitted - 1
        scale = 1.4826 * np.median(np.abs(excess)) + 1e-3
        doubt = 1 / (1 + (np.maximum(excess, 0) / (2 * scale)) ** 2)
    return float(slope), float(intercept)
