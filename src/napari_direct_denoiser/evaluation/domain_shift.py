"""Whether an image is like those that a model was trained on; if not, in which way, in words."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from ..co_model import CoModel
from ..config import MIN_SIDE
from ..data.images import Planes, check_planes, plane_regions
from ..noise import NoiseModel
from ..prediction.predict import read_plane

_PLANES = 8  # looked at, evenly spread
_SIDE = 2048  # largest side in pixels of the part of a plane that is looked at
_BRIGHTER = 3.0  # standard deviations of the training images between the two means
_CONTRAST = 5.0  # times as large a standard deviation, or as small a one; planes of one stack differ up to 4 times
_NOISE = 2.5  # times as strong noise, or as weak; correlated noise measures up to 1.6 times too weak
_OUTSIDE = 0.01  # part of the pixels that are brighter or darker than all that a noise model was calibrated with
_BLOCK = 16  # side in pixels of the squares in which noise is measured


def check_domain_shift(model: CoModel, image: Any, axes: str) -> Generator[float, None, list[str]]:
    """Check that an image can be denoised and compare it with the training images, by a few planes of it.

    A generator of the part of the work that is done. An array in memory is searched for NaN as a whole.

    Parameters
    ----------
    model
        Trained networks.
    image
        The noisy image: a numpy, dask or zarr array.
    axes
        One capital letter for each axis.

    Returns
    -------
    list of str
        In which ways the image differs strongly, each as the rest of a sentence: "is 12 times brighter ...".

    Raises
    ------
    ImageError
        If the image cannot be denoised.
    """
    regions = plane_regions(tuple(image.shape), axes)
    looked_at = set(np.linspace(0, len(regions) - 1, min(len(regions), _PLANES)).astype(int).tolist())
    whole = isinstance(image, np.ndarray) and image.dtype.kind == "f"
    sides = [size for axis, size in zip(axes, image.shape, strict=True) if axis in "YX"]
    seen = []
    for number, region in enumerate(regions):
        if number in looked_at:
            seen.append(read_plane(image, region, axes).reshape(sides))
            yield (number + 1) / len(regions)
        elif whole:
            read_plane(image, region, axes)
    planes = Planes(np.stack(seen), (len(seen),), "PYX")
    check_planes(planes, min_side=MIN_SIDE)
    top, left = (max(side - _SIDE, 0) // 2 for side in sides)
    return differences(model, planes.data[:, top : top + _SIDE, left : left + _SIDE].astype(np.float32))


def differences(model: CoModel, planes: NDArray[np.float32]) -> list[str]:
    """Say in which ways planes (P, H, W) differ strongly from what a model was trained on."""
    normalization, noise = model.normalization, model.noise
    mean, deviation = float(planes.mean(dtype=np.float64)), float(planes.std(dtype=np.float64))
    found = [
        _brightness(mean, normalization.mean, normalization.std),
        _contrast(deviation, normalization.std),
        _noise(planes, noise),
        _range(planes, noise),
    ]
    return [words for words in found if words]


def _brightness(mean: float, trained: float, deviation: float) -> str:
    away = (mean - trained) / deviation
    if abs(away) < _BRIGHTER:
        return ""
    low, high = sorted((mean, trained))
    much = _times(high / low) if low > 0 and high > 1.5 * low else f"by {abs(away):.0f} standard deviations"
    word = "brighter" if away > 0 else "darker"
    return f"is {much} {word} than what the model was trained on (mean {mean:.4g}, there {trained:.4g})"


def _contrast(deviation: float, trained: float) -> str:
    ratio = deviation / trained
    if 1 / _CONTRAST < ratio < _CONTRAST:
        return ""
    much = f"{_times(ratio)} the" if ratio > 1 else f"{_times(1 / ratio)} less"
    return f"has {much} contrast (standard deviation {deviation:.3g}, in training {trained:.3g})"


def _noise(planes: NDArray[np.float32], noise: NoiseModel) -> str:
    """Compare what a second difference leaves of flat squares with the variance that the noise model gives there."""
    weights = [1, -2, 1]
    high = convolve1d(convolve1d(planes, weights, axis=1), weights, axis=2) / 6
    with torch.inference_mode():
        expected = noise.variance(torch.from_numpy(_squares(planes)).to(noise.device)).cpu().numpy()
    ratios = np.sqrt(_squares(high**2) / np.maximum(expected, np.finfo(np.float32).tiny))
    if not ratios.size:
        return ""
    low, upper = np.quantile(ratios, (0.25, 0.75))  # structure makes few squares rougher, clipping few smoother
    if low > _NOISE:
        return f"has {_times(low)} stronger noise than the model expects at its brightness"
    if upper < 1 / _NOISE:
        return f"has {_times(1 / max(upper, 1e-3))} weaker noise than the model expects at its brightness"
    return ""


def _range(planes: NDArray[np.float32], noise: NoiseModel) -> str:
    if noise.signal_range is None:
        return ""
    low, high = noise.signal_range
    signal = _squares(planes)  # without most of the noise
    outside = float(np.mean((signal < low) | (signal > high))) if signal.size else 0.0
    if outside < _OUTSIDE:
        return ""
    return f"is in {outside:.0%} of its area outside the brightness of the noise model ({low:.4g} to {high:.4g})"


def _squares(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each square of `_BLOCK` x `_BLOCK` pixels."""
    count, rows, columns = planes.shape[0], planes.shape[1] // _BLOCK, planes.shape[2] // _BLOCK
    cut = planes[:, : rows * _BLOCK, : columns * _BLOCK]
    means: NDArray[np.float32] = cut.reshape(count, rows, _BLOCK, columns, _BLOCK).mean((2, 4))
    return means


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:,.0f} times"
