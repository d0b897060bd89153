"""Image quality against a ground truth: PSNR as in the paper, and SSIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError

_SSIM_WINDOW = 7


@dataclass(frozen=True)
class Evaluation:
    """PSNR and SSIM of a stack of planes.

    Attributes
    ----------
    psnr_per_plane, ssim_per_plane
        One value for each plane, with the range of that plane's own truth; PSNR in dB.
    psnr, ssim
        Their means over the planes.
    """

    psnr_per_plane: tuple[float, ...]
    ssim_per_plane: tuple[float, ...]
    psnr: float
    ssim: float


def psnr(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB, ``20 log10(max - min of truth) - 10 log10(MSE)``, as in the paper's Table 1.

    Parameters
    ----------
    image, truth
        Of the same shape, usually one plane ``(H, W)``. No gain or offset is fitted.

    Raises
    ------
    ImageError
        If the shapes differ or the truth is constant.
    """
    from skimage.metrics import peak_signal_noise_ratio  # slow to import

    value_range = _range(image, truth)
    planes = truth.astype(np.float64), image.astype(np.float64)  # in float32 the error would be rounded
    with np.errstate(divide="ignore"):  # equal images: infinity
        return float(peak_signal_noise_ratio(*planes, data_range=value_range))  # type: ignore[no-untyped-call]


def ssim(image: NDArray[Any], truth: NDArray[Any]) -> float:
    """Structural similarity of two planes ``(H, W)``, with a 7x7 window and the range of the truth (Wang et al. 2004).

    Raises
    ------
    ImageError
        If the shapes differ, or the truth is constant or smaller than the window.
    """
    from skimage.metrics import structural_similarity  # slow to import

    value_range = _range(image, truth)
    if min(truth.shape) < _SSIM_WINDOW:
        raise ImageError(f"Expected planes of at least 7 x 7 pixels for SSIM, found {truth.shape}: use a larger image")
    # float64: variances in the window are differences of large numbers
    planes = image.astype(np.float64), truth.astype(np.float64)
    similarity = structural_similarity(*planes, data_range=value_range, win_size=_SSIM_WINDOW)  # type: ignore[no-untyped-call]
    return float(similarity)


def evaluate(image_planes: NDArray[Any], truth_planes: NDArray[Any]) -> Evaluation:
    """Compare every plane with its truth.

    Parameters
    ----------
    image_planes
        ``(P, H, W)``.
    truth_planes
        ``(P, H, W)``, or ``(1, H, W)`` to compare every plane with the same truth.

    Raises
    ------
    ImageError
        If the shapes do not match, or a plane of the truth is constant.
    """
    planes, truth_shape = len(image_planes), truth_planes.shape
    if image_planes.shape != truth_shape and (1, *image_planes.shape[1:]) != truth_shape:
        raise ImageError(
            f"Expected a truth of the image's shape {image_planes.shape} or one plane of it, "
            f"found {truth_shape}: use the truth of this image"
        )
    pairs = list(zip(image_planes, np.broadcast_to(truth_planes, image_planes.shape), strict=True))
    if not planes:
        raise ImageError("Expected at least one plane to evaluate, found none: the image is empty")
    psnrs = tuple(psnr(image, truth) for image, truth in pairs)
    ssims = tuple(ssim(image, truth) for image, truth in pairs)
    return Evaluation(psnrs, ssims, float(np.mean(psnrs)), float(np.mean(ssims)))


def _range(image: NDArray[Any], truth: NDArray[Any]) -> float:
    if image.shape != truth.shape:
        raise ImageError(f"Expected the truth in the image's shape {image.shape}, found {truth.shape}: crop one")
    value_range = float(truth.max()) - float(truth.min())
    if value_range == 0:
        raise ImageError(f"Expected a truth with contrast, found {truth.flat[0]} in every pixel: use another truth")
    return value_range
