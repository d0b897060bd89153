"""Domain shift: in which ways an image differs from those that a model was trained on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from ..co_model import CoModel
from ..config import MIN_SIDE
from ..data.images import (
    LazyPlanes,
    Planes,
    PlaneStack,
    as_planes,
    check_finite,
    check_planes,
    middle,
    sampled_planes,
)
from ..data.views import sliceable
from ..errors import ImageError
from ..noise import NoiseModel
from ..progress import Progress, WorkClock

# Limits above which a difference is reported.
_BRIGHTER = 3.0  # difference of the means, in standard deviations of the training images
_CONTRAST = 5.0  # ratio of standard deviations; planes of one stack differ up to 4 times
_NOISE = 2.5  # ratio of noise deviations; correlated noise that is not modelled measures up to 1.6 times too weak
_OUTSIDE = 0.01  # fraction of the area outside the signal range of the noise model

_PLANES = 8  # number of planes that are measured, evenly spread
_SIDE = 2048  # largest side in pixels of the part of a plane that is measured
_BLOCK = 16  # side in pixels of the squares in which noise is measured


def check_domain_shift(model: CoModel, image: Any, axes: str) -> Generator[Progress, None, list[str]]:
    """Check that an image can be denoised, and compare some of its planes with the training images.

    A generator of progress. All planes of a floating-point array in memory are searched for NaN. Of other images, the
    middle of some planes is read.

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
        Each strong difference as the rest of a sentence: "is 12 times brighter ...".

    Raises
    ------
    ImageError
        If the image cannot be denoised.
    """
    stack = LazyPlanes(image, axes)
    measured = np.linspace(0, len(stack) - 1, min(len(stack), _PLANES)).astype(int).tolist()
    whole = isinstance(image, np.ndarray) and image.dtype.kind == "f"
    numbers = range(len(stack)) if whole else measured
    clock, planes = WorkClock(len(numbers)), []
    for number in numbers:
        if whole:
            stack.read(number)
        if number in measured:
            planes.append(_middle(stack, number))
        if clock.tick(1):
            yield clock.progress()
    data = np.stack(planes)
    check_planes(Planes(data, (len(data),), "PYX"), min_side=MIN_SIDE)
    return differences(model, data.astype(np.float32))


def _middle(stack: LazyPlanes, number: int) -> NDArray[Any]:
    """Read the middle of a plane."""
    places = zip(stack.axes, stack.data.shape, stack.regions[number], strict=True)
    region = [middle(side, _SIDE, 1, 2) if axis in "YX" else part for axis, side, part in places]
    planes = as_planes(np.asarray(sliceable(stack.data)[tuple(region)]), stack.axes)
    check_finite(planes, origin=[part.start for part in region])
    plane: NDArray[Any] = planes.data[0]
    return plane


def check_same_kind(model: CoModel, stacks: Sequence[PlaneStack]) -> None:
    """Raise `ImageError` if images (planes, Y, X) differ strongly from those that a model was trained on."""
    for plane in sampled_planes(stacks, _PLANES):
        rows, columns = (middle(side, _SIDE, 1, 2) for side in plane.shape)
        found = differences(model, plane[None, rows, columns])
        if found:
            raise ImageError(
                f"Expected images of the kind that the teacher was trained on, found one that {' and '.join(found)}: "
                "train HDN on these images too, without a model as teacher"
            )


def differences(model: CoModel, planes: NDArray[np.float32]) -> list[str]:
    """Describe how planes (P, H, W) differ strongly from the training images of a model.

    Both are compared whitened (`NoiseModel.whiten`), and described in counts of the image. The planes may have offsets
    of lines. Their first pixel is in an even row and column of the image.
    """
    normalization, noise = model.normalization, model.noise
    planes = noise.at_measured(planes)
    with torch.inference_mode():
        white: NDArray[np.float32] = noise.whiten(torch.from_numpy(planes).to(noise.device)).cpu().numpy()
        unit = float(noise.color(torch.ones(1, 1, device=noise.device)))  # counts of a whitened count
    mean, std = float(white.mean(dtype=np.float64)), float(white.std(dtype=np.float64))
    found = [
        _brightness(unit * mean, unit * normalization.mean, unit * normalization.std),
        _contrast(unit * std, unit * normalization.std),
        _noise(white, noise.innovation),
        _range(planes, noise),
    ]
    return [words for words in found if words]


def _brightness(mean: float, trained: float, std: float) -> str:
    away = (mean - trained) / std
    if abs(away) < _BRIGHTER:
        return ""
    low, high = sorted((mean, trained))
    much = _times(high / low) if low > 0 and high > 1.5 * low else f"by {abs(away):.0f} standard deviations"
    word = "brighter" if away > 0 else "darker"
    return f"is {much} {word} than what the model was trained on (mean {mean:.4g}, there {trained:.4g})"


def _contrast(std: float, trained: float) -> str:
    ratio = std / trained
    if 1 / _CONTRAST < ratio < _CONTRAST:
        return ""
    much = f"{_times(ratio)} the" if ratio > 1 else f"{_times(1 / ratio)} less"
    return f"has {much} contrast (standard deviation {std:.3g}, in training {trained:.3g})"


def _noise(planes: NDArray[np.float32], noise: NoiseModel) -> str:
    """Compare the noise in each square, measured by second differences, with the noise model at its brightness."""
    weights = [1, -2, 1]
    high = convolve1d(convolve1d(planes, weights, axis=1), weights, axis=2) / 6
    with torch.inference_mode():
        expected = noise.variance(torch.from_numpy(_squares(planes)).to(noise.device)).cpu().numpy()
    ratios = np.sqrt(_squares(high**2) / np.maximum(expected, np.finfo(np.float32).tiny))
    if not ratios.size:
        return ""
    low, upper = np.quantile(ratios, (0.25, 0.75))  # structure raises few squares, clipping lowers few
    if low > _NOISE:
        return f"has {_times(low)} stronger noise than the model expects at its brightness"
    if upper < 1 / _NOISE:
        return f"has {_times(1 / max(upper, 1e-3))} weaker noise than the model expects at its brightness"
    return ""


def _range(planes: NDArray[np.float32], noise: NoiseModel) -> str:
    if noise.signal_range is None:
        return ""
    low, high = noise.signal_range
    signal = _squares(planes)  # means contain little noise
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
