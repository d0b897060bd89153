"""Photons counted as pulses: the noise of a photomultiplier or hybrid detector, few photons a pixel.

Where there is less than a photon in most pixels, their distribution has two parts: pixels without a photon, as narrow
as the read noise, and pixels with one or more. `PoissonGaussianNoise` has the same mean, variance and skewness, and
another shape. With it, HDN takes a part of the noise for signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SettingError
from .fit import NoiseFit
from .models import LOG_SQRT_2PI, NoiseModel, PoissonGaussianNoise, bounded, draw_normal

_MOST = 60.0  # photo-electrons; brighter pixels have the density of `PoissonGaussianNoise`
_ROWS, _FIRST = 220, 0.01  # of the table: steps of the square root of the light from that many electrons on
_COLUMNS = 900
_LEAST_READ, _MOST_READ = 0.03, 1e3  # electrons: the narrowest peak of the table, and the most read noise
_DEEPEST = -40.0  # log density of the table at least
_BROAD = 1e-3  # weight of a Gaussian of twice the standard deviation, which makes every observation possible
_SKEWS = 1.05, 1.9
_PAIRS = 50_000  # pixels that decide whether noise is of pulses
_DARK = 0.2  # least part of them with less than a photo-electron
_READS = 0.35, 0.5, 0.7, 1.0, 1.4, 2.0  # read noise that is tried, times the one that the variance showed
_HEIGHTS = 1.0, 3.0, 8.0  # shapes of the distribution of heights that are tried
_LIKELIER = 0.1  # nats a pixel


class PulseNoise(PoissonGaussianNoise):
    r"""Poisson-Gaussian noise of a detector that gives each photo-electron a pulse of random height.

    The noisy value is :math:`o + r N + \sum_{i \le K} H_i`: an offset, read noise, and a Poisson number K of pulses,
    whose heights have a gamma distribution of shape a (a compound Poisson distribution). Mean and variance are those of
    `PoissonGaussianNoise`, and the skewness is :math:`(a + 2) / (a + 1)` times that of Poisson noise. The density has
    no closed form: it is read off a table of its logarithm over light and noisy value, which is made by a Fourier
    transform of the characteristic function.

    Parameters
    ----------
    gain, offset, read_noise
        As those of `PoissonGaussianNoise`; ``gain`` is the variance of the noise over the signal.
    skew
        From 1.05 (pulses nearly of one height) over 1.5 (exponential, an electron multiplier) to 1.9. Values beyond
        are taken as these.

    Raises
    ------
    SettingError
        If a parameter is not possible, or the read noise is more than 1000 electrons.
    """

    kind = "pulses"
    form = ""
    has_cdf = False
    _table: Tensor

    def __init__(self, gain: float, offset: float, read_noise: float, skew: float = 1.25) -> None:
        super().__init__(gain, offset, read_noise, skew)
        self.skew = float(np.clip(self.skew, *_SKEWS))
        if self.read_noise > _MOST_READ * self.gain:
            raise SettingError(
                f"Expected pulses with read noise of at most {_MOST_READ:g} times the gain, found {self.read_noise:g} "
                f"counts and a gain of {self.gain:g}: choose Poisson-Gaussian noise"
            )
        self._heights = (2 - self.skew) / (self.skew - 1)  # shape of the gamma distribution
        read = max(self.read_noise / self.gain, _LEAST_READ)
        self._unit = 4 * read  # noisy values below it are spaced evenly, those beyond by their logarithm
        self._lowest, highest = _columns(read)
        self._step = (highest - self._lowest) / (_COLUMNS - 1)
        self.register_buffer("_table", _log_density(self._heights, read), persistent=False)

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        noisy, signal = torch.broadcast_tensors(bounded(noisy), bounded(signal))  # type: ignore[no-untyped-call]
        light = self._light(signal)
        residual = (noisy - signal) / self.gain  # exact where noisy and signal are close
        spread = 2 * self._variance(light).sqrt()
        broad = -0.5 * (residual / spread).square() - spread.log() - LOG_SQRT_2PI
        pulses = self._read_off(light, residual + light)
        dim = torch.logaddexp(pulses, broad + float(np.log(_BROAD))) - float(np.log(self.gain))
        return torch.where(light < _MOST, dim, super().log_prob(noisy, signal))

    def _read_off(self, light: Tensor, electrons: Tensor) -> Tensor:
        """Log density of so many electrons more than in the dark, interpolated linearly in both directions."""
        row = _place(light.sqrt() - _FIRST**0.5, (_MOST**0.5 - _FIRST**0.5) / (_ROWS - 1), _ROWS)
        column = _place(torch.asinh(electrons / self._unit) - self._lowest, self._step, _COLUMNS)
        i, j = row.detach().long().clamp_max(_ROWS - 2), column.detach().long().clamp_max(_COLUMNS - 2)
        f, g = row - i, column - j
        at = (i * _COLUMNS + j).flatten()
        table = self._table.flatten()
        a, b, c, d = (table[at + by].view(f.shape).to(f) for by in (0, 1, _COLUMNS, _COLUMNS + 1))
        return (1 - f) * ((1 - g) * a + g * b) + f * ((1 - g) * c + g * d)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if signal.device.type == "mps":  # draws no gamma distribution; this one has the same first three moments
            return super().sample(signal, generator)
        light = self._light(signal)
        height = 1 / (self._heights + 1)  # scale of the gamma distribution, electrons
        pulses = torch.poisson(light / (self._heights * height), generator=generator)
        drawn = torch._standard_gamma((self._heights * pulses).clamp_min(1e-3), generator=generator)
        electrons = height * torch.where(pulses > 0, drawn, 0.0)
        return signal + self.gain * (electrons - light) + self.read_noise * draw_normal(light, generator)

    def document(self) -> dict[str, Any]:
        return {**super().document(), "kind": self.kind}

    def describe(self) -> str:
        return f"{super().describe()}, counted as pulses"


def _place(distance: Tensor, step: float, count: int) -> Tensor:
    """Where in a row of so many entries; beyond its ends, the entries at the ends."""
    return (distance / step).clamp(0, count - 1)


def _columns(read: float) -> tuple[float, float]:
    """Ends of the columns: inverse hyperbolic sines of noisy values, in units of four times the read noise."""
    return -float(np.arcsinh(2)), float(np.arcsinh((_MOST + 10 * (_MOST + read**2) ** 0.5) / (4 * read)))


@lru_cache(maxsize=8)
def _log_density(heights: float, read: float) -> Tensor:
    """Table (_ROWS, _COLUMNS) of the log density, electrons."""
    light = np.linspace(_FIRST**0.5, _MOST**0.5, _ROWS) ** 2
    at = 4 * read * np.sinh(np.linspace(*_columns(read), _COLUMNS))
    step = read / 4
    count = 2 ** int(np.ceil(np.log2((at[-1] - 2 * at[0]) / step)))
    frequency = 2 * np.pi * np.fft.rfftfreq(count, step)
    pulse = (1 - 1j * frequency / (heights + 1)) ** -heights
    start = 2 * at[0]
    fine = start + step * np.arange(count)
    rows = []
    for each in light:
        exponent = each * (heights + 1) / heights * (pulse - 1) - 0.5 * (read * frequency) ** 2
        density = np.fft.irfft(np.conj(np.exp(exponent - 1j * frequency * start)), count) / step
        rows.append(_log_at(at, fine, density))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _log_at(at: NDArray[np.float64], fine: NDArray[np.float64], density: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(at, fine, np.log(np.maximum(density, np.exp(_DEEPEST))))


def fit_pulses(fit: NoiseFit) -> NoiseFit:
    """Take `PulseNoise` where it makes the pixels of dark, smooth places much likelier than Poisson-Gaussian noise.

    The variance stays as it was measured. Read noise, and how much the heights of pulses differ, are the likeliest of
    some values; the offset follows from the read noise.

    Parameters
    ----------
    fit
        Noise that was measured in images. Fits of other kinds than Poisson-Gaussian are returned as they are.
    """
    model = fit.model
    if type(model) is not PoissonGaussianNoise or not len(fit.pairs[0]):
        return fit
    pick = np.random.default_rng(0).permutation(len(fit.pairs[0]))[:_PAIRS]
    signal, noisy = (torch.from_numpy(np.asarray(values[pick], np.float32)) for values in fit.pairs)
    if float((signal < model.offset + model.gain).float().mean()) < _DARK:
        return fit
    values = torch.unique(noisy)
    step = float(values.diff().min()) if len(values) > 1 else 0.0
    # rounded values lie in heaps, which would make the narrowest peak the likeliest
    noisy = noisy + step * (torch.rand(noisy.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    likeliest = max(_candidates(model), key=lambda candidate: _mean(candidate, noisy, signal))
    if _mean(likeliest, noisy, signal) < _mean(model, noisy, signal) + _LIKELIER:
        return fit
    return replace(fit, model=likeliest)


def _candidates(model: PoissonGaussianNoise) -> Iterator[PulseNoise]:
    """Models with the variance of another."""
    for factor in _READS:
        read_noise = factor * max(model.read_noise, 2 * _LEAST_READ * model.gain)
        offset = model.offset + (read_noise**2 - model.read_noise**2) / model.gain
        for heights in _HEIGHTS:
            yield PulseNoise(model.gain, offset, read_noise, (heights + 2) / (heights + 1))


def _mean(model: NoiseModel, noisy: Tensor, signal: Tensor) -> float:
    return float(model.log_prob(noisy, signal).mean())
