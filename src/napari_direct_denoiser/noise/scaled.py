"""Correlated noise that the signal of each pixel scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .correlated import CorrelatedNoise, filtered, padded
from .models import bounded


class ScaledCorrelatedNoise(CorrelatedNoise):
    r"""Noise of a process with the same strength everywhere, times the standard deviation at the signal of each pixel.

    :math:`x = s + \sigma(s) u`, where :math:`u` is the autoregressive process. The innovation is the noise of
    :math:`A x` where the signal hardly changes. With its mean :math:`m = \bar{A} s`, where :math:`\bar{A}` is
    `dc_gain`, and its standard deviation :math:`\sigma(m)`, the density is exact:
    :math:`\log p(x | s) = \log p_\mathrm{innovation}(m + \sigma(m) A [(x - s) / \sigma(m)] | m)`.

    In `CorrelatedNoise`, the noise of a pixel depends on the signal of the pixels before it as well. Both are the same
    where the signal is. At edges they differ, the more the sharper these are.
    """

    kind = "scaled"

    def log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        """Log density of every pixel given the pixels before it; no noise is assumed beyond the edge."""
        signal, noisy = torch.broadcast_tensors(bounded(signal), bounded(noisy))  # type: ignore[no-untyped-call]
        return self._log_prob(noisy - signal, signal)

    def white_log_prob(self, noisy: Tensor, signal: Tensor) -> Tensor:
        rows, columns = self._far
        residual = filtered(bounded(noisy) - bounded(signal), self._coloring, (columns, columns, rows, 0), "constant")
        return self._log_prob(residual, self.color(bounded(signal)))

    def sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rows, columns = self._far
        return signal + self._noise(padded(signal, (columns, columns, rows, 0), "replicate"), generator)

    def white_sample(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rows, columns = (far + own for far, own in zip(self._far, self._own, strict=True))
        noise = self._noise(padded(self.color(signal), (columns, columns, rows, 0), "replicate"), generator)
        return signal + filtered(noise, self._whitening, (0, 0, 0, 0), "constant")

    def describe(self) -> str:
        return f"{super().describe()}, scaled by the signal"

    def _log_prob(self, residual: Tensor, signal: Tensor) -> Tensor:
        level, std = self._innovation_at(signal)
        rows, columns = self._own
        innovation = filtered(residual / std, self._whitening, (columns, columns, rows, 0), "constant")
        return self.innovation.log_prob(level + std * innovation, level)

    def _noise(self, wide: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw noise for all pixels that have enough pixels before them."""
        level, std = self._innovation_at(wide)
        drawn = (self.innovation.sample(level, generator) - level) / std
        rows, columns = self._far
        inside = std[..., rows:, columns : std.shape[-1] - columns]
        return inside * filtered(drawn, self._coloring, (0, 0, 0, 0), "constant")

    def _innovation_at(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of whitened pixels where the signal does not change."""
        level = self.dc_gain * signal
        return level, self.innovation.variance(level).sqrt()


_SURE = 0.001  # nats per pixel; errors of the signal speak for the other kind
_EDGE = 8  # pixels at the edge of an image that do not count: what is beyond is not known


def likelier_kind(model: CorrelatedNoise, pairs: Sequence[tuple[Tensor, Tensor]]) -> CorrelatedNoise:
    """Choose the kind of correlated noise under which noisy images are more likely: `ScaledCorrelatedNoise` in doubt.

    Where both are nearly as likely, they are nearly the same. Where they differ much, at sharp edges, the other kind
    does more harm if it is wrong.

    Parameters
    ----------
    model
        Of one kind or the other: both have its innovation and coefficients.
    pairs
        Noisy images and their signals, as far as they are known; (..., H, W) counts each.
    """
    kinds: tuple[type[CorrelatedNoise], ...] = (ScaledCorrelatedNoise, CorrelatedNoise)
    scaled, usual = (kind(model.innovation, model.coefficients).to(model.device) for kind in kinds)
    inside = ..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
    more = [(usual.log_prob(*pair) - scaled.log_prob(*pair))[inside].double().flatten() for pair in pairs]
    return usual if float(torch.cat(more).mean()) > _SURE else scaled
