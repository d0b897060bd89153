"""Noise models: the density of a noisy pixel given its clean signal, p(noisy | signal).

All work on tensors of any shape in image units (camera counts). Densities are in nats per count.
The noise model is what makes HDN unsupervised (Salmon & Krull 2023, eq. 3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.patches import Augmentation
from ..errors import ModelFileError, SettingError, reason
from ..system import double
from .skewed import SkewedLogDensity, skewed_log_cdf

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
LARGEST_COUNT = 1e12  # squares of larger values, divided by small variances, overflow in float32
Image = NDArray[np.float32]


class NoiseModel(nn.Module, ABC):
    """A density p(noisy | signal) that can be evaluated, sampled, and stored as JSON.

    A subclass registers itself under its `kind`. Model files and `fit_noise` find it there.
    """

    energy: float = 1.0
    """Variance of the noise as a multiple of that of its `innovation`."""
    kind: ClassVar[str]
    """Name in model files and in text forms."""
    form: ClassVar[str] = ""
    """Arguments of the constructor in the text form ``kind:form``, such as ``"SIGMA"``; "" if it has no text form."""
    whole_planes: ClassVar[bool] = False
    """Whether `measured` needs whole planes."""
    has_cdf: ClassVar[bool] = False
    """Whether `log_cdf` can be computed."""
    kinds: ClassVar[dict[str, type[NoiseModel]]] = {}
    """All noise models by their kind."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in vars(cls):
            NoiseModel.kinds[cls.kind] = cls

    @property
    def signal_range(self) -> tuple[float, float] | None:
        """Signals (counts) that the model was fitted to; None if it holds for all signals."""
        return None

    @abstractmethod
    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log density of ``noisy`` given ``signal`` (same shape, counts), in nats per count.

        The result is float64 if an input is float64, otherwise float32.
        """

    @abstractmethod
    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one noisy value for every signal (same shape, counts)."""

    def white_log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """`log_prob` of whitened images (..., H, W): the log density of their pixels given the whitened signal."""
        return self.innovation.log_prob(noisy, signal)

    def white_sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw whitened noisy images (..., H, W), given the whitened signal."""
        return self.innovation.sample(signal, generator)

    def log_cdf(self, noisy: Tensor, signal: Tensor, *, upper: bool = False) -> Tensor:
        """Log probability of a value of at most ``noisy`` (if ``upper``: above it) given ``signal`` (counts).

        Only for models whose `has_cdf` is true.
        """
        raise NotImplementedError(f"{self.kind} noise has no closed distribution function")

    @abstractmethod
    def variance(self, signal: Tensor) -> Tensor:
        """Variance of the noise (counts^2) at every signal (any shape, counts)."""

    def linear_variance(self) -> tuple[float, float]:
        """Slope (counts) and intercept (counts^2) of a straight line fitted to the variance over the signal.

        The slope is 0 if the variance does not rise. Models without a `signal_range` override this.
        """
        assert self.signal_range is not None, "a model without a signal range overrides linear_variance"
        signal = torch.linspace(*self.signal_range, 64, dtype=torch.float64, device="cpu")
        variance = self.variance(signal.float().to(self.device)).cpu().double()
        line = torch.stack([signal, torch.ones_like(signal)], 1) / variance[:, None]  # minimises relative errors
        slope, intercept = np.linalg.lstsq(line.numpy(), np.ones(len(line)), rcond=None)[0].tolist()
        return (slope, intercept) if slope > 0 else (0.0, float(variance.mean()))

    @property
    def innovation(self) -> NoiseModel:
        """The noise of whitened images, which is independent from pixel to pixel: this model, if its noise is so."""
        return self

    def with_innovation(self, innovation: NoiseModel) -> NoiseModel:
        """Replace the noise of whitened images; what is known of correlation and of lines stays."""
        return innovation

    @property
    def reach(self) -> int:
        """How many pixels away, at most, `whiten` and `color` look for what they need."""
        return 0

    @property
    def margin(self) -> int:
        """How many pixels away, at most, `whiten` looks."""
        return 0

    @property
    def row_period(self) -> int:
        """After how many rows the noise is alike: parts of images begin at multiples of it."""
        return 1

    @property
    def augmentation(self) -> Augmentation:
        """How images may be turned without changing what their noise looks like."""
        return Augmentation()

    def whiten(self, image: Tensor) -> Tensor:
        """Filter images (..., H, W) so that their noise is independent from pixel to pixel."""
        return image

    def color(self, white: Tensor) -> Tensor:
        """Undo `whiten`: return whitened images (..., H, W), or clean images estimated from them, to counts."""
        return white

    def measured(self, planes: NDArray[Any]) -> NDArray[Any]:
        """What is denoised of whole planes (P, H, W): without offsets of lines, and without interpolated pixels.

        Each plane is computed when it is read. All other methods are about such planes.
        """
        return planes

    def at_measured(self, images: NDArray[Any]) -> NDArray[Any]:
        """Results (P, H, W), such as denoised planes, at the pixels that `measured` keeps."""
        return images

    def restored(self, image: Image, shape: tuple[int, int], std_factor: float | None = None) -> Image:
        """Bring results (..., U, V) for planes of `measured` to (H, W); standard deviations need a `std_factor`."""
        return image

    def std_factor(self, errors: Sequence[Image]) -> float:
        """How large errors are in pixels that are not measured, given some of measured ones, (U, V) each."""
        return 1.0

    @property
    def device(self) -> torch.device:
        """Device of the buffers; the CPU if there are none."""
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Return `kind` and all arguments of the constructor as JSON; `from_document` is the inverse."""

    @abstractmethod
    def describe(self) -> str:
        """Describe the model in one line of text."""


def from_document(document: dict[str, Any]) -> NoiseModel:
    """Rebuild a noise model from `NoiseModel.document`; `ModelFileError` if the document holds none."""
    parameters = dict(document)
    kind = parameters.pop("kind", None)
    if kind not in NoiseModel.kinds:
        raise ModelFileError(
            f"Expected a noise model of kind {', '.join(NoiseModel.kinds)}, found {str(kind)[:40]!r}: "
            "the file is damaged or of a newer version"
        )
    try:
        return NoiseModel.kinds[kind](**parameters)
    except TypeError as error:
        raise ModelFileError(
            f"The {kind} noise model of the file has other parameters than expected ({reason(error)}): "
            "the file is damaged or of a newer version"
        ) from error


def bounded(counts: Tensor) -> Tensor:
    """Clamp signals or noisy values to the range in which densities can be computed, as float32 or float64."""
    counts = counts if counts.dtype == torch.float64 else counts.float()
    return counts.clamp(-LARGEST_COUNT, LARGEST_COUNT)


def positive(name: str, value: float) -> float:
    """Return a parameter of a noise model, or raise `SettingError` if it is not a positive number."""
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"The {name} of the noise model must be a positive number, found {value:g}")
    return float(value)


def draw_normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers with the shape and device of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device)


class GaussianNoise(NoiseModel):
    """Additive Gaussian noise with the same standard deviation ``sigma`` (counts) at every signal."""

    kind = "gaussian"
    form = "SIGMA"
    has_cdf = True

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = positive("sigma", sigma)

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        z = (bounded(noisy) - bounded(signal)) / self.sigma
        return -0.5 * z * z - (math.log(self.sigma) + LOG_SQRT_2PI)

    def log_cdf(self, noisy: Tensor, signal: Tensor, *, upper: bool = False) -> Tensor:
        z = (bounded(noisy) - bounded(signal)) / self.sigma
        found: Tensor = torch.special.log_ndtr(-z if upper else z)
        return found

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return signal + self.sigma * draw_normal(signal, generator)

    def variance(self, signal: Tensor) -> Tensor:
        return torch.full_like(bounded(signal), self.sigma**2)

    def linear_variance(self) -> tuple[float, float]:
        return 0.0, self.sigma**2

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "sigma": self.sigma}

    def describe(self) -> str:
        return f"Gaussian, sigma {self.sigma:.4g} counts"


class PoissonGaussianNoise(NoiseModel):
    r"""Shot noise and read noise: variance ``gain * (signal - offset) + read_noise**2``.

    The density is smooth, because in real detectors excess noise and resampling blur the comb of
    whole electrons. In electrons, with :math:`\lambda` the expected number and :math:`\rho` the
    read noise, the noisy value is :math:`m + \tau N + B E`: a Gaussian plus, with probability
    :math:`w = \lambda / (\lambda + 0.2)`, an exponential of scale b. The three free numbers m,
    :math:`\tau` and b give it the mean :math:`\lambda`, variance :math:`\lambda + \rho^2` and
    third central moment :math:`\lambda` of Poisson-Gaussian noise (times ``skew``).
    Both parts have closed forms, and the Gaussian makes every observation possible.

    Parameters
    ----------
    gain
        Counts per photo-electron.
    offset
        Counts without light.
    read_noise
        Standard deviation of the noise without light, in counts; may be 0.
    skew
        Third central moment as a multiple of that of Poisson noise with the same variance: 1 for
        shot noise alone, 1.5 with the excess noise of an electron multiplier.
    """

    kind = "poisson"
    form = "GAIN,OFFSET,READ"
    has_cdf = True
    _KNEE = 0.02  # electrons; the expected number bends softly to its floor around here
    _FLOOR = 0.01  # electrons; keeps the variance positive for signals at and below the offset
    _SYMMETRIC = 0.2  # electrons; the exponential is absent with probability 0.2 / (electrons + 0.2)
    _SKEWED_SHARE = 0.9  # largest share of the variance that the exponential takes

    def __init__(self, gain: float, offset: float, read_noise: float, skew: float = 1.0) -> None:
        super().__init__()
        self.gain = positive("gain", gain)
        if not (math.isfinite(offset) and math.isfinite(read_noise) and read_noise >= 0):
            raise SettingError(
                "Expected a finite offset and a read noise of at least 0 counts, "
                f"found offset {offset:g} and read noise {read_noise:g}"
            )
        self.offset = float(offset)
        self.read_noise = float(read_noise)
        self.skew = positive("skew", skew)

    def _light(self, signal: Tensor) -> Tensor:
        """Expected electrons, bent softly to a small positive number around and below the offset."""
        electrons = (bounded(signal) - self.offset) / self.gain
        return (0.5 * (electrons + (electrons**2 + 4 * self._KNEE**2).sqrt())).clamp_min(self._FLOOR)

    def _variance(self, light: Tensor) -> Tensor:
        return light + (self.read_noise / self.gain) ** 2

    def _shape(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probability v of no exponential, width tau of the Gaussian and scale b of the exponential, in electrons.

        The second and third central moments of the exponential part B E are 1 - v^2 and 2 (1 - v^3), in powers of b.
        """
        light = self._light(signal)
        variance = self._variance(light)
        v = self._SYMMETRIC / (light + self._SYMMETRIC)
        wanted = 0.5 * self.skew * self._SYMMETRIC / (v + v**2 + v**3)  # skew * light / (2 (1 - v^3))
        second = 1 - v**2
        b = torch.minimum(wanted ** (1 / 3), (self._SKEWED_SHARE * variance / second).sqrt())
        return v, (variance - second * b**2).sqrt(), b

    def _standardized(self, noisy: Tensor, signal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of N + B E / r: v and r, the value z of the noisy pixel, and the unit tau (electrons)."""
        v, tau, b = self._shape(signal)
        residual = (bounded(noisy) - bounded(signal)) / self.gain  # exact where noisy and signal are close
        return v, tau / b, (residual + (1 - v) * b) / tau, tau

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        v, r, z, tau = self._standardized(noisy, signal)
        skewed: Tensor = SkewedLogDensity.apply(v, r, z)  # type: ignore[no-untyped-call]
        return skewed - tau.log() - (math.log(self.gain) + LOG_SQRT_2PI)

    def log_cdf(self, noisy: Tensor, signal: Tensor, *, upper: bool = False) -> Tensor:
        v, r, z, _ = self._standardized(noisy, signal)
        found = skewed_log_cdf(double(v), double(r), double(z), upper=upper)  # the gradient cancels in float32
        return found.to(v)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        v, tau, b = self._shape(signal)
        jumps = torch.rand(v.shape, generator=generator, device=v.device) < 1 - v
        tail = -torch.log1p(-torch.rand(v.shape, generator=generator, device=v.device))
        electrons = tau * draw_normal(v, generator) + jumps * b * tail - (1 - v) * b
        return signal + self.gain * electrons

    def variance(self, signal: Tensor) -> Tensor:
        return self.gain**2 * self._variance(self._light(signal))

    def linear_variance(self) -> tuple[float, float]:
        return self.gain, self.read_noise**2 - self.gain * self.offset

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "gain": self.gain,
            "offset": self.offset,
            "read_noise": self.read_noise,
            "skew": self.skew,
        }

    def describe(self) -> str:
        return (
            f"Poisson-Gaussian, gain {self.gain:.4g} counts per electron, "
            f"offset {self.offset:.4g}, read noise {self.read_noise:.3g} counts"
            + ("" if self.skew == 1 else f", skew {self.skew:.2f} times Poisson's")
        )
