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

from ..errors import ModelFileError, SettingError

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class NoiseModel(nn.Module, ABC):
    """A density p(noisy | signal) that can be evaluated, sampled, and stored as JSON."""

    kind: ClassVar[str]

    @abstractmethod
    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log density of ``noisy`` given ``signal`` (same shape, counts), in nats per count, float32."""

    @abstractmethod
    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one noisy value for every signal (same shape, counts)."""

    @abstractmethod
    def linear_variance(self) -> tuple[float, float]:
        """Slope (counts) and intercept (counts^2) of the variance as a straight line of the signal."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """All parameters as JSON; `from_document` is the inverse."""

    @abstractmethod
    def describe(self) -> str:
        """One line for a person."""

    def stabilise(self, noisy: Tensor) -> Tensor:
        """Transform ``noisy`` so that its noise has a deviation of about 1 at every signal.

        The generalised Anscombe transform of `linear_variance` (Starck et al. 1998), or a mere
        division by sigma where the variance does not depend on the signal.
        """
        slope, intercept = self.linear_variance()
        if slope <= 1e-6 * math.sqrt(max(intercept, 0.0)):
            return noisy / math.sqrt(intercept)
        return 2 / slope * (slope * noisy + 0.375 * slope**2 + intercept).clamp_min(0).sqrt()


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"The {name} of the noise model must be a positive number, found {value:g}")
    return float(value)


class GaussianNoise(NoiseModel):
    """Additive Gaussian noise of one deviation ``sigma`` (counts) at every signal."""

    kind = "gaussian"

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = _positive("sigma", sigma)

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        z = (noisy.float() - signal.float()) / self.sigma
        return -0.5 * z * z - (math.log(self.sigma) + _LOG_SQRT_2PI)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return signal + self.sigma * _normal(signal, generator)

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
    :math:`\lambda + \rho^2` and third central moment :math:`\lambda` of Poisson-Gaussian noise.
    Both parts have closed forms, and the Gaussian keeps every observation possible.

    Parameters
    ----------
    gain
        Counts per photo-electron.
    offset
        Counts at no light.
    read_noise
        Deviation of the noise at no light, in counts; may be 0.
    """

    kind = "poisson"
    _KNEE = 0.02  # electrons; around here the signal in the variance bends softly to its floor
    _FLOOR = 0.01  # electrons; keeps the variance positive for signals at and below the offset
    _SKEWED_SHARE = 0.9  # the exponential never takes more of the variance than this

    def __init__(self, gain: float, offset: float, read_noise: float) -> None:
        super().__init__()
        self.gain = _positive("gain", gain)
        if not (math.isfinite(offset) and math.isfinite(read_noise) and read_noise >= 0):
            raise SettingError(
                "Expected a finite offset and a read noise of at least 0 counts, "
                f"found offset {offset:g} and read noise {read_noise:g}"
            )
        self.offset = float(offset)
        self.read_noise = float(read_noise)

    def _shape(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight w, centre m, width tau and scale b for each signal, in electrons."""
        electrons = (signal.float() - self.offset) / self.gain
        light = (0.5 * (electrons + (electrons**2 + 4 * self._KNEE**2).sqrt())).clamp_min(self._FLOOR)
        variance = light + (self.read_noise / self.gain) ** 2
        w = light / (light + 0.2)
        # central moments of B E in units of b: w, 2w - w^2, 6w - 6w^2 + 2w^3
        second = 2 * w - w**2
        third = w * (6 - 6 * w + 2 * w**2)
        b = torch.minimum((light / third) ** (1 / 3), (self._SKEWED_SHARE * variance / second).sqrt())
        tau = (variance - second * b**2).sqrt()
        return w, electrons - w * b, tau, b

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        w, m, tau, b = self._shape(signal)
        away = (noisy.float() - self.offset) / self.gain - m
        z = away / tau
        gaussian = torch.log1p(-w) - 0.5 * z * z - tau.log() - _LOG_SQRT_2PI
        ratio = tau / b
        exponential = w.log() - b.log() + 0.5 * ratio**2 - away / b + torch.special.log_ndtr(z - ratio)
        return torch.logaddexp(gaussian, exponential) - math.log(self.gain)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        w, m, tau, b = self._shape(signal)
        jumps = torch.rand(w.shape, generator=generator, device=w.device) < w
        tail = -torch.log1p(-torch.rand(w.shape, generator=generator, device=w.device))
        electrons = m + tau * _normal(m, generator) + jumps * b * tail
        return self.offset + self.gain * electrons

    def linear_variance(self) -> tuple[float, float]:
        return self.gain, self.read_noise**2 - self.gain * self.offset

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "gain": self.gain, "offset": self.offset, "read_noise": self.read_noise}

    def describe(self) -> str:
        return (
            f"Poisson-Gaussian, gain {self.gain:.4g} counts per electron, "
            f"offset {self.offset:.4g}, read noise {self.read_noise:.3g} counts"
        )


class MixtureNoise(NoiseModel):
    """Mixture of Gaussians whose means, variances and weights are polynomials of the signal.

    The layout is that of the published files (PPN2V, DivNoising, HDN). With n Gaussians, and the
    signal scaled to ``t = (signal - min_signal) / (max_signal - min_signal)``:

    Parameters
    ----------
    trained_weight
        (3 n, coefficients). Rows 0..n-1: means; n..2n-1: logarithms of the coefficients of the
        variances; 2n..3n-1: log-weights. Means are shifted so that the mixture has the mean
        ``signal``.
    min_signal, max_signal
        Range of signals of the calibration, in counts.
    min_sigma
        Lower bound of the *variances*, in counts^2 (the name is that of the published files).
    """

    kind = "mixture"
    weight: Tensor

    def __init__(self, trained_weight: Tensor, min_signal: float, max_signal: float, min_sigma: float) -> None:
        super().__init__()
        weight = torch.as_tensor(trained_weight, dtype=torch.float32)
        if weight.ndim != 2 or weight.shape[0] % 3 or 0 in weight.shape or not weight.isfinite().all():
            raise ModelFileError(
                "Expected a mixture of (3 x Gaussians, coefficients) finite numbers, "
                f"found an array of shape {tuple(weight.shape)}: fit the noise model again"
            )
        if not (math.isfinite(min_signal) and math.isfinite(max_signal) and min_signal < max_signal):
            raise ModelFileError(f"Expected min_signal < max_signal, found {min_signal:g} and {max_signal:g}")
        self.register_buffer("weight", weight, persistent=False)
        self.min_signal, self.max_signal = float(min_signal), float(max_signal)
        self.min_sigma = _positive("min_sigma", min_sigma)

    def _components(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and variances (n, *signal.shape) for each signal."""
        t = (signal.float() - self.min_signal) / (self.max_signal - self.min_signal)
        powers = torch.stack([t**i for i in range(self.weight.shape[1])])
        means, log_variances, log_weights = self.weight.chunk(3)
        mean = torch.tensordot(means, powers, 1)
        variance = torch.tensordot(log_variances.exp(), powers, 1).clamp_min(self.min_sigma)
        log_weight = torch.tensordot(log_weights, powers, 1).log_softmax(0)
        mean = mean - (log_weight.exp() * mean).sum(0) + signal.float()
        return log_weight, mean, variance

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        z2 = (noisy.float() - mean) ** 2 / variance
        return torch.logsumexp(log_weight - 0.5 * (z2 + variance.log()) - _LOG_SQRT_2PI, 0)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        log_weight, mean, variance = self._components(signal)
        u = torch.rand(signal.shape, generator=generator, device=signal.device)
        pick = (log_weight.exp().cumsum(0) < u).sum(0, keepdim=True).clamp_max(len(mean) - 1)
        chosen, spread = mean.gather(0, pick)[0], variance.gather(0, pick)[0].sqrt()
        return chosen + spread * _normal(chosen, generator)

    def linear_variance(self) -> tuple[float, float]:
        signal = torch.linspace(self.min_signal, self.max_signal, 64, device=self.weight.device)
        log_weight, mean, variance = self._components(signal)
        total = (log_weight.exp() * (variance + (mean - signal) ** 2)).sum(0)
        line = torch.stack([signal, torch.ones_like(signal)], 1)
        slope, intercept = (
            torch.linalg.lstsq(line.cpu().double(), total.cpu().double()[:, None]).solution[:, 0].tolist()
        )
        return (slope, intercept) if slope > 0 else (0.0, float(total.mean()))

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "trained_weight": self.weight.tolist(),
            "min_signal": self.min_signal,
            "max_signal": self.max_signal,
            "min_sigma": self.min_sigma,
        }

    def describe(self) -> str:
        count = self.weight.shape[0] // 3
        return f"mixture of {count} Gaussians fitted to signals {self.min_signal:.4g} to {self.max_signal:.4g}"


_KINDS: dict[str, type[NoiseModel]] = {k.kind: k for k in (GaussianNoise, PoissonGaussianNoise, MixtureNoise)}


def from_document(document: dict[str, Any]) -> NoiseModel:
    """Rebuild a noise model from `NoiseModel.document`; `ModelFileError` if it is none."""
    parameters = dict(document)
    kind = parameters.pop("kind", None)
    if kind not in _KINDS:
        raise ModelFileError(f"Expected a noise model of kind {', '.join(_KINDS)}, found {kind!r}")
    try:
        return _KINDS[kind](**parameters)
    except TypeError as error:
        raise ModelFileError(f"The {kind} noise model has other parameters than expected: {error}") from error


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
