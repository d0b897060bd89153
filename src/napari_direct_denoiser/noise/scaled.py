"""Correlated noise that the signal of each pixel scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .correlated import CorrelatedNoise


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

    def describe(self) -> str:
        return f"{super().describe()}, scaled by the signal"

    @property
    def _whitened_is_innovation(self) -> bool:
        return False

    def _log_prob(self, residual: Tensor, signal: Tensor) -> Tensor:
        level, std = self._innovation_at(signal)
        rows, columns = self._own
        innovation = self._as_scanned(residual / std, self._whitening, (columns, columns, rows, 0), "constant")
        return self.innovation.log_prob(level + std * innovation, level)

    def _noise(self, wide: Tensor, generator: torch.Generator | None) -> Tensor:
        level, std = self._innovation_at(wide)
        drawn = (self.innovation.sample(level, generator) - level) / std
        rows, columns = self._far
        inside = std[..., rows:, columns : std.shape[-1] - columns]
        return inside * self._as_scanned(drawn, self._coloring, (0, 0, 0, 0), "constant")

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
    scaled, usual = (kind(model.innovation, model.coefficients, model.backward).to(model.device) for kind in kinds)
    inside = ..., slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
    more = [(usual.log_prob(*pair) - scaled.log_prob(*pair))[inside].double().flatten() for pair in pairs]
    return usual if float(torch.cat(more).mean()) > _SURE else scaled
