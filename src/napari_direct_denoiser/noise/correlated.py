"""Noise that neighbouring pixels share: an autoregressive process on top of any noise model of independent pixels."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..data.patches import Augmentation
from ..errors import SettingError
from .filters import filtered, padded
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise, bounded, from_document
from .student import StudentNoise

_GRID = 256  # pixels; side of the grid on which filters are inverted
_FARTHEST = 64  # pixels; a process that reaches farther is taken for unstable
_CUT = 1e-6  # part of the energy of the impulse response that is cut off
_ANTICAUSAL = 1e-3  # larger part of that energy before the impulse: the process is not stable
_NEAR, _ALIKE = 3, 0.05  # lags, pixels, and the difference of correlations there that counts as none
_LARGEST = 16  # pixels; farthest neighbour in the filter

Grid = NDArray[np.float64]  # (rows + 1, 2 columns + 1)
Rows = Literal["even", "odd"]

BACKWARD: tuple[Rows, Rows] = ("even", "odd")
"""Rows that may have been scanned backwards, the first row being even."""


class CorrelatedNoise(NoiseModel):
    r"""Noise that is an autoregressive process over a non-symmetric half plane.

    The noise of a pixel is a linear prediction from the pixels before it (rows above, and left in its own row) plus an
    innovation. :math:`A` subtracts that prediction. The image :math:`A x` has noise that is independent from pixel to
    pixel, about :math:`A s`: shot noise that passed a detector's response, or noise that was smoothed with the image.
    :math:`A` is triangular with ones on the diagonal, so its Jacobian is 1 and the density is exact:
    :math:`\log p(x | s) = \log p_\mathrm{innovation}(A x | A s)`.

    A resonant scanner records every second row backwards: there, the pixels before one are those on its right. `whiten`
    filters all rows forwards nevertheless, so that structure is alike in all of them. Their noise has no correlation
    then, but in the rows that were scanned backwards it is not that of the innovation. `log_prob` and `sample`, also
    of whitened images, filter each row in its own direction.

    All methods take images (..., H, W), but for `variance`, which takes any shape.

    Parameters
    ----------
    innovation
        Model of the independent noise of :math:`A x`, or its `document`.
    coefficients
        (rows + 1, 2 columns + 1): weights of the neighbours in the prediction. The last row is the pixel's own row, and
        its middle the pixel itself; from there on all are 0.
    backward
        Rows that were scanned from right to left, the first row being even; None if none were.

    Raises
    ------
    SettingError
        If the coefficients have another shape, the process is not stable, or rows that were scanned backwards share
        noise with others.
    """

    kind = "correlated"
    form = ""
    _whitening: Tensor
    _coloring: Tensor
    _own: tuple[int, int]
    _far: tuple[int, int]

    def __init__(
        self, innovation: NoiseModel | dict[str, Any], coefficients: ArrayLike, backward: Rows | None = None
    ) -> None:
        super().__init__()
        base = from_document(innovation) if isinstance(innovation, dict) else innovation
        if isinstance(base, CorrelatedNoise):
            raise SettingError("Expected independent noise as innovation, found correlated noise: give its innovation")
        self._innovation = base
        self.coefficients = _checked(coefficients)
        if backward not in (None, *BACKWARD) or (backward and len(self.coefficients) > 1):
            raise SettingError(
                "Expected even or odd rows that were scanned backwards, with noise that is correlated along x alone, "
                f"found {str(backward)[:20]!r} and {len(self.coefficients)} rows of coefficients: correct the file"
            )
        self.backward: Rows | None = backward
        response = impulse_response(self.coefficients)
        self.dc_gain = 1 - float(self.coefficients.sum())
        """What remains of a constant signal in a whitened image."""
        self.energy = float(np.square(response).sum())
        """Variance of the noise as a multiple of that of its innovation."""
        whitening = whitening_kernel(self.coefficients)
        self._own = whitening.shape[0] - 1, whitening.shape[1] // 2
        self._far = response.shape[0] - 1, response.shape[1] // 2
        for name, kernel in (("_whitening", whitening), ("_coloring", response[::-1, ::-1].copy())):
            self.register_buffer(name, torch.from_numpy(kernel).float()[None, None], persistent=False)

    @classmethod
    def of(cls, noise: NoiseModel, coefficients: ArrayLike, backward: Rows | None = None) -> CorrelatedNoise:
        """Correlate the noise of a model, which keeps its variance at every signal.

        Raises `SettingError` for a model of another kind than Gaussian, Poisson-Gaussian or Student-t.
        """
        white = cls(noise, coefficients, backward)
        dc_gain, std = white.dc_gain, white.energy**0.5
        if isinstance(noise, GaussianNoise):
            return cls(GaussianNoise(noise.sigma / std), coefficients, backward)
        if isinstance(noise, StudentNoise):
            return cls(StudentNoise(noise.sigma / std, noise.nu), coefficients, backward)
        if isinstance(noise, PoissonGaussianNoise):
            scaled = noise.gain / (dc_gain * std**2), noise.offset * dc_gain, noise.read_noise / std
            return cls(PoissonGaussianNoise(*scaled, noise.skew), coefficients, backward)
        raise SettingError(
            f"Expected Gaussian, Poisson-Gaussian or Student-t noise to correlate, found {noise.describe()}: "
            "fit the noise model to the images or to a calibration with correlated noise"
        )

    @property
    def innovation(self) -> NoiseModel:
        return self._innovation

    def with_innovation(self, innovation: NoiseModel) -> CorrelatedNoise:
        return type(self)(innovation, self.coefficients, self.backward)

    @property
    def row_period(self) -> int:
        return 2 if self.backward else 1

    @property
    def reach(self) -> int:
        return self._whole_periods(max(*self._own, *self._far))

    @property
    def margin(self) -> int:
        return self._whole_periods(max(*self._own))

    def _whole_periods(self, pixels: int) -> int:
        return -(-pixels // self.row_period) * self.row_period

    @property
    def augmentation(self) -> Augmentation:
        """No mirror along a single correlated axis, where a detector's pulses have a direction.

        Where that alternates, half turns keep it. Quarter turns only where noise is correlated alike along both axes.
        """
        if self.backward:
            return Augmentation(transpose=False, half_turns=True)
        rows, columns = self._own
        near = self.autocorrelation(_NEAR)[:, _NEAR:]
        return Augmentation(
            flip_y=rows == 0 or columns > 0,
            flip_x=columns == 0 or rows > 0,
            transpose=bool(np.abs(near - near.T).max() < _ALIKE),
        )

    @property
    def signal_range(self) -> tuple[float, float] | None:
        fitted = self.innovation.signal_range
        return None if fitted is None else (fitted[0] / self.dc_gain, fitted[1] / self.dc_gain)

    def whiten(self, image: Tensor) -> Tensor:
        """Subtract from every pixel its prediction; pixels beyond the edge are those reflected at it."""
        rows, columns = self._own
        return filtered(image, self._whitening, (columns, columns, rows, 0), "reflect")

    def color(self, white: Tensor) -> Tensor:
        rows, columns = self._far
        return filtered(white, self._coloring, (columns, columns, rows, 0), "replicate")

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log density of every pixel given the pixels before it; no noise is assumed beyond the edge."""
        signal, noisy = torch.broadcast_tensors(bounded(signal), bounded(noisy))  # type: ignore[no-untyped-call]
        return self._log_prob(noisy - signal, signal)

    def white_log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        if self._whitened_is_innovation:
            return super().white_log_prob(noisy, signal)
        rows, columns = self._far
        residual = filtered(bounded(noisy) - bounded(signal), self._coloring, (columns, columns, rows, 0), "constant")
        return self._log_prob(residual, self.color(bounded(signal)))

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rows, columns = self._far
        return signal + self._noise(padded(signal, (columns, columns, rows, 0), "replicate"), generator)

    def white_sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self._whitened_is_innovation:
            return super().white_sample(signal, generator)
        rows, columns = (far + own for far, own in zip(self._far, self._own, strict=True))
        noise = self._noise(padded(self.color(signal), (columns, columns, rows, 0), "replicate"), generator)
        return signal + filtered(noise, self._whitening, (0, 0, 0, 0), "constant")

    @property
    def _whitened_is_innovation(self) -> bool:
        """Whether the noise of whitened images is that of the innovation."""
        return self.backward is None

    def _log_prob(self, residual: Tensor, signal: Tensor) -> Tensor:
        rows, columns = self._own
        pad = columns, columns, rows, 0
        clean = self._as_scanned(signal, self._whitening, pad, "replicate")
        innovation = self._as_scanned(residual, self._whitening, pad, "constant")
        return self.innovation.log_prob(clean + innovation, clean)

    def _noise(self, wide: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw noise for all pixels that have enough pixels before them."""
        rows, columns = self._own
        clean = self._as_scanned(wide, self._whitening, (columns, columns, rows, 0), "replicate")
        innovation = self.innovation.sample(clean, generator) - clean
        return self._as_scanned(innovation, self._coloring, (0, 0, 0, 0), "constant")

    def _as_scanned(self, image: Tensor, kernel: Tensor, pad: tuple[int, int, int, int], mode: str) -> Tensor:
        """Filter images (..., H, W), each row in the direction in which it was scanned."""
        return self._forwards(filtered(self._forwards(image), kernel, pad, mode))

    def _forwards(self, image: Tensor) -> Tensor:
        """Mirror the rows that were scanned backwards."""
        if self.backward is None:
            return image
        rows = torch.arange(image.shape[-2], device=image.device) % 2 == BACKWARD.index(self.backward)
        return torch.where(rows[:, None], image.flip(-1), image)

    def variance(self, signal: Tensor) -> Tensor:
        """Variance of the noise (counts^2) where the signal hardly changes from pixel to pixel."""
        return self.energy * self.innovation.variance(self.dc_gain * signal)

    def linear_variance(self) -> tuple[float, float]:
        slope, intercept = self.innovation.linear_variance()
        return slope * self.dc_gain * self.energy, intercept * self.energy

    def autocorrelation(self, lags: int) -> Grid:
        """Correlation of the noise with pixels up to so many rows below and columns aside, (lags + 1, 2 lags + 1)."""
        spectrum = np.abs(np.fft.rfft2(impulse_response(self.coefficients), (_GRID, _GRID))) ** 2
        covariance = np.fft.irfft2(spectrum, (_GRID, _GRID))
        found: Grid = np.roll(covariance, lags, 1)[: lags + 1, : 2 * lags + 1] / covariance[0, 0]
        return found

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "innovation": self.innovation.document(),
            "coefficients": self.coefficients.tolist(),
            **({"backward": self.backward} if self.backward else {}),
        }

    def describe(self) -> str:
        correlation = self.autocorrelation(1)
        along = [("x", correlation[0, 2]), ("y", correlation[1, 1])]
        shared = " and ".join(f"{value:.2f} along {axis}" for axis, value in along if abs(value) >= 0.005)
        scanned = f", {self.backward} rows scanned backwards" if self.backward else ""
        return f"{self._marginal().describe()}, correlation of neighbours {shared or '0'}{scanned}"

    def _marginal(self) -> NoiseModel:
        """The noise of a single pixel, where the innovation has a text form; else the innovation."""
        innovation, std = self.innovation, self.energy**0.5
        if isinstance(innovation, GaussianNoise):
            return GaussianNoise(innovation.sigma * std)
        if isinstance(innovation, StudentNoise):
            return StudentNoise(innovation.sigma * std, innovation.nu)
        if isinstance(innovation, PoissonGaussianNoise):
            scaled = (
                innovation.gain * self.dc_gain * std**2,
                innovation.offset / self.dc_gain,
                innovation.read_noise * std,
            )
            return PoissonGaussianNoise(*scaled, innovation.skew)
        return innovation


def whitening_kernel(coefficients: Grid) -> Grid:
    """The filter A, to be correlated with an image: 1 for the pixel itself, less what predicts it; same shape."""
    kernel = -coefficients
    kernel[-1, kernel.shape[1] // 2] += 1
    return kernel


def impulse_response(coefficients: Grid) -> Grid:
    """The noise that an innovation of 1 causes at its own pixel and those after it, (rows + 1, 2 columns + 1).

    Raises `SettingError` if it does not die away, which means that the process is not stable.
    """
    rows, columns = coefficients.shape[0] - 1, coefficients.shape[1] // 2
    kernel = np.zeros((_GRID, _GRID))
    kernel[0, 0] = 1
    for dy, dx in np.argwhere(coefficients):
        kernel[rows - dy, columns - dx] = -coefficients[dy, dx]  # negative indices wrap around
    transfer = np.fft.fft2(kernel)
    if np.abs(transfer).min() < 1e-3:
        raise _unstable(coefficients)
    response = np.fft.fftshift(np.fft.ifft2(1 / transfer).real, axes=1)
    response = np.roll(response, _GRID // 2, 0)
    middle = _GRID // 2
    energy = np.square(response)
    whole = float(energy.sum())
    before = float(energy[:middle].sum() + energy[middle, :middle].sum())
    if before > _ANTICAUSAL * whole or not math.isfinite(whole):
        raise _unstable(coefficients)
    for reach in range(_FARTHEST + 1):
        part = energy[middle : middle + reach + 1, middle - reach : middle + reach + 1]
        if part.sum() + before >= (1 - _CUT) * whole:
            break
    else:
        raise _unstable(coefficients)
    low, aside = (
        _needed(energy[middle : middle + reach + 1, middle - reach : middle + reach + 1], axis, whole)
        for axis in (0, 1)
    )
    found: Grid = response[middle : middle + low + 1, middle - aside : middle + aside + 1].copy()
    found[0, :aside] = 0
    found /= (1 - coefficients.sum()) * found.sum()  # what was cut off must not change the level of an image
    return found


def _needed(energy: Grid, axis: int, whole: float) -> int:
    """How far rows or columns still matter."""
    lines = energy.sum(axis=1 - axis)
    if axis == 1:
        middle = len(lines) // 2
        lines = lines[middle:] + lines[middle::-1]
    beyond = np.cumsum(lines[::-1])[::-1]  # of this line and all after it
    return int(np.count_nonzero(beyond > _CUT * whole)) - 1


def _checked(coefficients: ArrayLike) -> Grid:
    try:
        grid = np.array(coefficients, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 2 or grid.shape[1] % 2 == 0 or max(grid.shape[0] - 1, grid.shape[1] // 2) > _LARGEST:
        raise SettingError(
            "Expected coefficients of correlated noise as (rows + 1, 2 columns + 1) numbers, "
            f"up to {_LARGEST} rows and columns, found shape {grid.shape}: fit the noise model again"
        )
    if not np.isfinite(grid).all() or grid[-1, grid.shape[1] // 2 :].any():
        raise SettingError(
            "Expected finite coefficients of correlated noise, and 0 for the pixel itself and those after it: "
            "fit the noise model again"
        )
    return grid


def _unstable(coefficients: Grid) -> SettingError:
    return SettingError(
        f"The correlated noise with coefficients that add up to {coefficients.sum():.3g} is not stable, or reaches "
        f"farther than {_FARTHEST} pixels: give smaller coefficients, or fit the noise model again"
    )
