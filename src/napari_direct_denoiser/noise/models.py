"""Noise models: the density of a noisy pixel given its clean signal, p(noisy | signal).

All work on tensors of any shape in image units (camera counts) and give nats per count.
They are what makes HDN unsupervised (Salmon & Krull 2023, eq. 3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import SettingError

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_LARGEST = 1e12  # counts; squares of what is larger, over small variances, leave float32


class NoiseModel(nn.Module, ABC):
    """A density p(noisy | signal) that can be evaluated, sampled, and stored as JSON."""

    kind: ClassVar[str]

    @property
    def signal_range(self) -> tuple[float, float] | None:
        """Signals (counts) that the model was fitted to; None if it holds for all."""
        return None

    @abstractmethod
    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log density of ``noisy`` given ``signal`` (same shape, counts), in nats per count, float32."""

    @abstractmethod
    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one noisy value for every signal (same shape, counts)."""

    @abstractmethod
    def variance(self, signal: Tensor) -> Tensor:
        """Variance of the noise (counts^2) at every signal (any shape, counts)."""

    def linear_variance(self) -> tuple[float, float]:
        """Slope (counts) and intercept (counts^2) of the variance as a straight line of the signal.

        Slope 0 where the variance does not rise.
        """
        assert self.signal_range is not None, "a model for all signals knows its line"
        signal = torch.linspace(*self.signal_range, 64, dtype=torch.float64)
        variance = self.variance(signal.float().to(self.device)).cpu().double()
        line = torch.stack([signal, torch.ones_like(signal)], 1) / variance[:, None]  # relative errors count
        slope, intercept = torch.linalg.lstsq(line, torch.ones_like(line[:, :1])).solution[:, 0].tolist()
        return (slope, intercept) if slope > 0 else (0.0, float(variance.mean()))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """All parameters as JSON; `from_document` is the inverse."""

    @abstractmethod
    def describe(self) -> str:
        """One line for a person."""


def bounded(counts: Tensor) -> Tensor:
    """Signals or noisy values as float32, and none so large that a density of it could not be computed."""
    return counts.float().clamp(-_LARGEST, _LARGEST)


def positive(name: str, value: float) -> float:
    """Give back a parameter of a noise model, or raise `SettingError`."""
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"The {name} of the noise model must be a positive number, found {value:g}")
    return float(value)


class GaussianNoise(NoiseModel):
    """Additive Gaussian noise of one deviation ``sigma`` (counts) at every signal."""

    kind = "gaussian"

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = positive("sigma", sigma)

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        z = (bounded(noisy) - bounded(signal)) / self.sigma
        return -0.5 * z * z - (math.log(self.sigma) + LOG_SQRT_2PI)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return signal + self.sigma * draw_normal(signal, generator)

    def variance(self, signal: Tensor) -> Tensor:
        return torch.full_like(signal, self.sigma**2, dtype=torch.float32)

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
    read noise, the noisy value is :math:`m + \tau N + B E`: a Gaussian, plus with probability
    :math:`w = \lambda / (\lambda + 0.2)` an exponential of scale b. The three free numbers m,
    :math:`\tau`, b are those that give the mean :math:`\lambda`, variance
    :math:`\lambda + \rho^2` and third central moment :math:`\lambda` of Poisson-Gaussian noise (or
    ``skew`` times that).
    Both parts have closed forms, and the Gaussian keeps every observation possible.

    Parameters
    ----------
    gain
        Counts per photo-electron.
    offset
        Counts at no light.
    read_noise
        Deviation of the noise at no light, in counts; may be 0.
    skew
        Third central moment, as a multiple of that of Poisson noise of this variance: 1 for shot
        noise alone, 1.5 where an electron multiplier adds its own.
    """

    kind = "poisson"
    _KNEE = 0.02  # electrons; around here the signal in the variance bends softly to its floor
    _FLOOR = 0.01  # electrons; keeps the variance positive for signals at and below the offset
    _SKEWED_SHARE = 0.9  # the exponential never takes more of the variance than this

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

    def _shape(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight w, centre m, width tau and scale b for each signal, in electrons."""
        electrons = (bounded(signal) - self.offset) / self.gain
        light = self._light(signal)
        variance = self._variance(light)
        w = light / (light + 0.2)
        # central moments of B E in units of b: w, 2w - w^2, 6w - 6w^2 + 2w^3
        second = 2 * w - w**2
        third = w * (6 - 6 * w + 2 * w**2)
        b = torch.minimum((self.skew * light / third) ** (1 / 3), (self._SKEWED_SHARE * variance / second).sqrt())
        tau = (variance - second * b**2).sqrt()
        return w, electrons - w * b, tau, b

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        w, m, tau, b = self._shape(signal)
        away = (bounded(noisy) - self.offset) / self.gain - m
        z = away / tau
        gaussian = torch.log1p(-w) - 0.5 * z * z - tau.log() - LOG_SQRT_2PI
        ratio = tau / b
        exponential = w.log() - b.log() + 0.5 * ratio**2 - away / b + torch.special.log_ndtr(z - ratio)
        return torch.logaddexp(gaussian, exponential) - math.log(self.gain)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        w, m, tau, b = self._shape(signal)
        jumps = torch.rand(w.shape, generator=generator, device=w.device) < w
        tail = -torch.log1p(-torch.rand(w.shape, generator=generator, device=w.device))
        electrons = m + tau * draw_normal(m, generator) + jumps * b * tail
        return self.offset + self.gain * electrons

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


def draw_normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers in the shape and on the device of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device)
