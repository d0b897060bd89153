"""Noise that neighbouring pixels share: an autoregressive process on top of any noise model of independent pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from ..data.patches import Augmentation
from ..errors import SettingError
from ..system import in_float32
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise, bounded, from_document
from .student import StudentNoise

_GRID = 256  # pixels; side of the grid on which filters are inverted
_FARTHEST = 64  # pixels; a process that reaches farther is taken for unstable
_CUT = 1e-6  # part of the energy of the impulse response that is cut off
_ANTICAUSAL = 1e-3  # larger part of that energy before the impulse: the process is not stable
_DIRECT = 64  # pixels of a kernel; with more, a Fourier transform is faster
_NEAR, _ALIKE = 3, 0.05  # lags, pixels, and the difference of correlations there that counts as none
_LARGEST = 16  # pixels; farthest neighbour in the filter

Grid = NDArray[np.float64]  # (rows + 1, 2 columns + 1)


class CorrelatedNoise(NoiseModel):
    r"""Noise that is an autoregressive process over a non-symmetric half plane.

    The noise of a pixel is a linear prediction from the pixels before it (rows above, and left in its own row) plus an
    innovation. :math:`A` subtracts that prediction. The image :math:`A x` has noise that is independent from pixel to
    pixel, about :math:`A s`: shot noise that passed a detector's response, or noise that was smoothed with the image.
    :math:`A` is triangular with ones on the diagonal, so its Jacobian is 1 and the density is exact:
    :math:`\log p(x | s) = \log p_\mathrm{innovation}(A x | A s)`.

    All methods take images (..., H, W), but for `variance`, which takes any shape.

    Parameters
    ----------
    innovation
        Model of the independent noise of :math:`A x`, or its `document`.
    coefficients
        (rows + 1, 2 columns + 1): weights of the neighbours in the prediction. The last row is the pixel's own row, and
        its middle the pixel itself; from there on all are 0.

    Raises
    ------
    SettingError
        If the coefficients have another shape, or the process is not stable.
    """

    kind = "correlated"
    form = ""
    _whitening: Tensor
    _coloring: Tensor
    _own: tuple[int, int]
    _far: tuple[int, int]

    def __init__(self, innovation: NoiseModel | dict[str, Any], coefficients: ArrayLike) -> None:
        super().__init__()
        base = from_document(innovation) if isinstance(innovation, dict) else innovation
        if isinstance(base, CorrelatedNoise):
            raise SettingError("Expected independent noise as innovation, found correlated noise: give its innovation")
        self._innovation = base
        self.coefficients = _checked(coefficients)
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
    def of(cls, noise: NoiseModel, coefficients: ArrayLike) -> CorrelatedNoise:
        """Correlate the noise of a model, which keeps its variance at every signal.

        Raises `SettingError` for a model of another kind than Gaussian, Poisson-Gaussian or Student-t.
        """
        white = cls(noise, coefficients)
        dc_gain, std = white.dc_gain, white.energy**0.5
        if isinstance(noise, GaussianNoise):
            return cls(GaussianNoise(noise.sigma / std), coefficients)
        if isinstance(noise, StudentNoise):
            return cls(StudentNoise(noise.sigma / std, noise.nu), coefficients)
        if isinstance(noise, PoissonGaussianNoise):
            scaled = noise.gain / (dc_gain * std**2), noise.offset * dc_gain, noise.read_noise / std
            return cls(PoissonGaussianNoise(*scaled, noise.skew), coefficients)
        raise SettingError(
            f"Expected Gaussian, Poisson-Gaussian or Student-t noise to correlate, found {noise.describe()}: "
            "fit the noise model to the images or to a calibration with correlated noise"
        )

    @property
    def innovation(self) -> NoiseModel:
        return self._innovation

    def with_innovation(self, innovation: NoiseModel) -> CorrelatedNoise:
        return type(self)(innovation, self.coefficients)

    @property
    def reach(self) -> int:
        return max(*self._own, *self._far)

    @property
    def margin(self) -> int:
        return max(*self._own)

    @property
    def augmentation(self) -> Augmentation:
        """No mirror along a single correlated axis, where a detector's pulses have a direction.

        Quarter turns only where noise is correlated alike along both axes.
        """
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
        rows, columns = self._own
        pad = columns, columns, rows, 0
        signal, noisy = torch.broadcast_tensors(bounded(signal), bounded(noisy))  # type: ignore[no-untyped-call]
        clean = filtered(signal, self._whitening, pad, "replicate")
        innovation = filtered(noisy - signal, self._whitening, pad, "constant")
        return self.innovation.log_prob(clean + innovation, clean)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rows, columns = self._far
        wide = padded(signal, (columns, columns, rows, 0), "replicate")
        own = self._own
        clean = filtered(wide, self._whitening, (own[1], own[1], own[0], 0), "replicate")
        innovation = self.innovation.sample(clean, generator) - clean
        return signal + filtered(innovation, self._coloring, (0, 0, 0, 0), "constant")

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
        }

    def describe(self) -> str:
        correlation = self.autocorrelation(1)
        along = [("x", correlation[0, 2]), ("y", correlation[1, 1])]
        shared = " and ".join(f"{value:.2f} along {axis}" for axis, value in along if abs(value) >= 0.005)
        return f"{self._marginal().describe()}, correlation of neighbours {shared or '0'}"

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


def filtered(image: Tensor, kernel: Tensor, pad: tuple[int, int, int, int], mode: str) -> Tensor:
    """Correlate (..., H, W) with a kernel, after padding."""
    planes = image.reshape(-1, 1, *image.shape[-2:]).to(torch.promote_types(image.dtype, torch.float32))
    wide, kernel = padded(planes, pad, mode), kernel.to(planes.dtype)
    with in_float32(image.device):
        # a trace (see `export`) is for planes of any size, but would keep the size of a Fourier transform
        direct = kernel.numel() <= _DIRECT or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        filtered = F.conv2d(wide, kernel) if direct else _by_fourier_transform(wide, kernel)
    return filtered.reshape(*image.shape[:-2], *filtered.shape[-2:])


def _by_fourier_transform(wide: Tensor, kernel: Tensor) -> Tensor:
    """The same as `conv2d` without padding: on a CPU a seventh of the time for a kernel of 22 x 33 pixels."""
    rows, columns = kernel.shape[-2:]
    shape = [next_fast_len(side, real=True) for side in wide.shape[-2:]]
    level = wide.mean((-2, -1), keepdim=True)  # keeps the numbers small
    spectrum = torch.fft.rfft2(wide - level, s=shape) * torch.fft.rfft2(kernel, s=shape).conj()
    filtered = torch.fft.irfft2(spectrum, s=shape)[..., : wide.shape[-2] - rows + 1, : wide.shape[-1] - columns + 1]
    found: Tensor = filtered + level * kernel.sum()
    return found


def padded(image: Tensor, pad: tuple[int, int, int, int], mode: str) -> Tensor:
    """Add pixels on the left and right, above and below of images (..., H, W)."""
    planes = image.reshape(-1, 1, *image.shape[-2:])
    if mode == "reflect" and max(pad) >= min(image.shape[-2:]):
        mode = "replicate"  # reflection needs more pixels than it adds
    wide = F.pad(planes, pad, mode=mode)
    return wide.reshape(*image.shape[:-2], *wide.shape[-2:])
