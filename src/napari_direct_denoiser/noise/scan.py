"""Find rows that a resonant scanner recorded backwards, from the noisy images.

Noise of few photons is skewed. Filtered in the direction in which it passed the detector, it is as skewed as the light
was; filtered against it, it is a sum of more parts, which is less skewed (Donoho 1981: minimum entropy deconvolution).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from .correlated import BACKWARD, Rows, whitening_kernel
from .fit import Lags

Plane = NDArray[np.float32]  # (Y, X)

_BLOCK = 16  # pixels
_SURE = 5.0  # standard errors
_FEWEST = 16  # blocks
_MOST = 2.0  # largest ratio of skewness


def backward_rows(planes: Sequence[Plane], coefficients: Lags) -> tuple[Rows | None, float]:
    """Find whether every second row was scanned backwards.

    Parameters
    ----------
    planes
        Noisy planes (Y, X), with NaN where a pixel is not to be used.
    coefficients
        Of the noise, correlated along x alone; see `CorrelatedNoise`.

    Returns
    -------
    rows : {"even", "odd"} or None
        Which rows; None if that cannot be seen.
    ratio : float
        Skewness of noise that is filtered in its direction, over that with all rows filtered forwards.
    """
    skewness = np.concatenate([_of_blocks(plane, whitening_kernel(coefficients)[0]) for plane in planes])
    if len(skewness) < _FEWEST:
        return None, 1.0
    even, odd = skewness[:, 0], skewness[:, 1]
    differences = (even[:, 0] - even[:, 1]) - (odd[:, 0] - odd[:, 1])
    mean, error = float(differences.mean()), float(differences.std()) / len(differences) ** 0.5
    forwards = float(skewness[:, :, 0].mean())
    if abs(mean) < _SURE * error or forwards <= 0:
        return None, 1.0
    right = (even[:, 0] + odd[:, 1]) / 2 if mean > 0 else (even[:, 1] + odd[:, 0]) / 2
    return ("odd" if mean > 0 else "even"), float(np.clip(right.mean() / forwards, 1.0, _MOST))


def forwards(plane: Plane, backward: Rows | None) -> Plane:
    """The plane (Y, X) with the rows mirrored that were scanned backwards."""
    if backward is None:
        return plane
    found = plane.copy()
    rows = slice(BACKWARD.index(backward), None, 2)
    found[rows] = plane[rows, ::-1]
    return found


def _of_blocks(plane: Plane, kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Skewness in blocks without missing pixels, (blocks, 2, 2): of even and odd rows, filtered forwards and backwards.

    A second difference of rows that were scanned alike removes most of the structure.
    """
    found = []
    for along in (kernel, kernel[::-1]):
        white = correlate1d(plane.astype(np.float64), along, axis=1, mode="mirror")
        high = 2 * white[2:-2] - white[:-4] - white[4:]
        rows, columns = (side // _BLOCK * _BLOCK for side in high.shape)
        blocks = high[:rows, :columns].reshape(rows // _BLOCK, _BLOCK // 2, 2, columns // _BLOCK, _BLOCK)
        square, cube = ((blocks**power).mean((1, 4)) for power in (2, 3))  # (rows, 2, columns)
        # of a x + b y + c z with independent x, y, z alike: cubes of (2, -1, -1) add up to 6, squares to 6
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((6**0.5 * cube / square**1.5).transpose(0, 2, 1).reshape(-1, 2))
    skewness = np.stack(found, axis=2)
    return np.asarray(skewness[np.isfinite(skewness).all((1, 2))])
