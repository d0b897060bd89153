"""Noise as a camera records it: clipped at the bottom, saturated at the top, and in steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.images import Frames
from ..errors import SettingError
from .fit import NoiseFit
from .models import GaussianNoise, NoiseModel, PoissonGaussianNoise, bounded
from .recording import measure_recording, sampled_planes
from .wrapped import WrappedNoise

_COARSE = 0.5  # ratio of a step to the noise in the dark; in finer steps a density is as good as its mean over a step
_FINEST = 0.25  # least noise that `_NODES` can average over a step, in steps
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


class RecordedNoise(WrappedNoise):
    r"""Independent noise that the camera clips, and rounds to steps.

    A pixel at ``low`` is known to be at most that, and one at ``high`` at least that (a censored likelihood):
    :math:`\log P(x \le \mathrm{low} + \mathrm{step}/2 | s)`. A pixel between them stands for the interval of one step
    around it, over which its density is averaged if the step is coarse against the noise in the dark. So `log_prob`
    mixes probabilities, at the limits, with densities.

    Parameters
    ----------
    base
        Model of the noise before clipping and rounding, or its `document`. `variance` is that of this noise.
    low, high
        Values (counts) at and beyond which pixels are clipped; None if they are not.
    step
        Distance of the values, which are multiples of it (counts); 0 if they are not rounded.

    Raises
    ------
    SettingError
        If the base has no distribution function, as Student-t noise, or the limits are reversed.
    """

    kind = "recorded"

    def __init__(
        self,
        base: NoiseModel | dict[str, Any],
        low: float | None = None,
        high: float | None = None,
        step: float = 0.0,
    ) -> None:
        super().__init__(base)
        if not self.base.has_cdf:
            kinds = ", ".join(kind for kind, model in NoiseModel.kinds.items() if model.has_cdf)
            raise SettingError(
                f"Expected noise of kind {kinds} to clip and round, found {self.base.kind}: choose one of these"
            )
        self.low = None if low is None else float(low)
        self.high = None if high is None else float(high)
        self.step = float(step)
        bottom, top = -math.inf if low is None else float(low), math.inf if high is None else float(high)
        if not (bottom < top and math.isfinite(self.step) and self.step >= 0):
            raise SettingError(
                f"Expected recorded values with low < high and a step of at least 0 counts, found low {low}, "
                f"high {high} and step {step:g}: correct the noise model"
            )
        dark = torch.tensor([0.0 if low is None else low])
        self._coarse = self.step > _COARSE * float(self.base.variance(dark.to(self.base.device))) ** 0.5

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        noisy, signal = bounded(noisy) + torch.zeros_like(bounded(signal)), bounded(signal)
        signal = signal.expand(noisy.shape)
        found = self._log_mean(noisy, signal) if self._coarse else self.base.log_prob(noisy, signal)
        for limit, upper in ((self.low, False), (self.high, True)):
            if limit is not None:
                at = (noisy >= limit if upper else noisy <= limit).nonzero(as_tuple=True)
                edge = limit - self.step / 2 if upper else limit + self.step / 2
                censored = signal[at]
                found = found.index_put(at, self.base.log_cdf(torch.full_like(censored, edge), censored, upper=upper))
        return found

    def _log_mean(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log mean density over one step, by quadrature: a difference of probabilities would cancel."""
        shape = (-1, *[1] * noisy.ndim)
        within = torch.as_tensor(0.5 * self.step * _NODES, dtype=noisy.dtype, device=noisy.device).view(shape)
        weight = torch.as_tensor(np.log(_WEIGHTS / 2), dtype=noisy.dtype, device=noisy.device).view(shape)
        return torch.logsumexp(self.base.log_prob(noisy + within, signal.expand(5, *signal.shape)) + weight, 0)

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        drawn = self.base.sample(signal, generator)
        if self.step:
            drawn = (drawn / self.step).round() * self.step
        return drawn if self.low is None and self.high is None else drawn.clamp(self.low, self.high)

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base": self.base.document(),
            "low": self.low,
            "high": self.high,
            "step": self.step,
        }

    def describe(self) -> str:
        limits = [] if self.low is None else [f"clipped at {self.low:g}"]
        limits += [] if self.high is None else [f"saturated at {self.high:g}"]
        limits += [f"in steps of {self.step:g} counts"] if self.step else []
        return ", ".join([self.base.describe(), *limits])


def fit_recorded(stacks: Sequence[Frames], fit: NoiseFit) -> NoiseFit:
    """Model the steps of the values, where they are coarse: more than half the noise in the dark.

    Parameters
    ----------
    stacks
        The noisy images.
    fit
        The noise of them. It is returned as it is if its model has no distribution function.
    """
    if not fit.model.has_cdf or not len(fit.variances):
        return fit
    found = measure_recording(sampled_planes([stack for stack in stacks if len(stack.planes)]))
    if found.step <= _COARSE * float(fit.variances.min()) ** 0.5:
        return fit
    return replace(fit, model=RecordedNoise(_unrounded(fit.model, found.step), step=found.step))


def _unrounded(model: NoiseModel, step: float) -> NoiseModel:
    """Take the variance of rounding, which the interval of a pixel holds, from that of the noise."""
    rounding, least = step**2 / 12, _FINEST * step
    if isinstance(model, PoissonGaussianNoise):
        read_noise = max(model.read_noise**2 - rounding, least**2) ** 0.5
        return PoissonGaussianNoise(model.gain, model.offset, read_noise, model.skew)
    if isinstance(model, GaussianNoise):
        return GaussianNoise(max(model.sigma**2 - rounding, least**2, 1e-12) ** 0.5)
    return model
