"""Noise model from the noisy images alone: the variance of a high-pass against the local mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise

_BINS = 40
_MAX_PLANES = 40  # more planes of a stack add time, not accuracy
_TRIM = 40.0  # squared high-pass values beyond this multiple of their bin's mean are structure or hot pixels


def estimate_noise(stacks: Sequence[NDArray[np.generic]]) -> NoiseModel:
    """Estimate gain, offset and read noise of a camera from its noisy images.

    The 2x2 checkerboard ``(a - b - c + d) / 2`` has the variance of the noise where the image is
    smooth. Its mean square in bins of the local mean gives a straight line; the bins that lie above
    it, where structure leaked in, lose their weight.

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
    mean, square = (np.concatenate(parts) for parts in zip(*_blocks(stacks), strict=True))
    signals, variances, counts = _binned(mean, square)
    slope, intercept = _robust_line(signals, variances, counts)
    floor = float(np.average(variances, weights=counts)) * 1e-6 + 1 / 12  # whole counts: 1/12
    span = float(signals[-1] - signals[0])
    if slope * span < 0.1 * (slope * signals[-1] + intercept):
        return GaussianNoise(float(np.sqrt(max(np.average(variances, weights=counts), floor))))
    offset = min(-intercept / slope, float(signals[0]))
    lowest = min(float(mean.min()), 0.0)
    offset = max(offset, lowest)  # no camera has an offset below its darkest pixel
    read_variance = max(intercept + slope * offset, (0.1 * slope) ** 2, floor)
    return PoissonGaussianNoise(slope, offset, float(np.sqrt(read_variance)))


def _blocks(stacks: Sequence[NDArray[np.generic]]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each sampled plane: mean over 6x6 pixels around each 2x2 block, and its squared high-pass."""
    planes = [(stack, i) for stack in stacks for i in range(len(stack))]
    chosen = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), _MAX_PLANES)).astype(int))
    for stack, index in (planes[i] for i in chosen):
        plane = np.asarray(stack[index], dtype=np.float32)
        height, width = (side // 2 * 2 for side in plane.shape)
        a, b = plane[0:height:2, 0:width:2], plane[0:height:2, 1:width:2]
        c, d = plane[1:height:2, 0:width:2], plane[1:height:2, 1:width:2]
        quad = (a + b + c + d) / 4
        rows = quad[:-2] + quad[1:-1] + quad[2:]
        around = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
        highpass = ((a - b - c + d) / 2)[1:-1, 1:-1]
        clipped = np.maximum.reduce([a, b, c, d])[1:-1, 1:-1] >= _saturation(plane)
        yield around[~clipped], (highpass**2)[~clipped]


def _saturation(plane: NDArray[np.float32]) -> float:
    """The level at which the plane is clipped, or infinity: many pixels at exactly the highest value."""
    top = float(plane.max())
    return top if np.count_nonzero(plane == top) > max(20, plane.size * 1e-4) else np.inf


def _binned(
    mean: NDArray[np.float32], square: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Local mean, trimmed mean square and number of blocks, in bins of equal numbers of blocks."""
    order = np.argsort(mean, kind="stable")
    signals, variances, counts = [], [], []
    for part in np.array_split(order, min(_BINS, max(len(order) // 50, 2))):
        values = square[part].astype(np.float64)
        for _ in range(2):
            values = values[values <= _TRIM * values.mean()]
        signals.append(float(mean[part].mean(dtype=np.float64)))
        variances.append(float(values.mean()))
        counts.append(len(values))
    return np.array(signals), np.array(variances), np.array(counts, dtype=np.float64)


def _robust_line(
    signals: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[float, float]:
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
