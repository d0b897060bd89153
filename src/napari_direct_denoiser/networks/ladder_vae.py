"""HDN: a ladder variational autoencoder of clean images (Prakash et al. 2022; Sonderby et al. 2016).

A deterministic bottom-up pass computes features at every level. The top-down pass draws a latent from the posterior at
each level, coarsest first, and decodes the latents to a clean image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HDNConfig
from .blocks import GatedBlock, Merge, PlainBlock, Upsample, conv3

_MAX_LOG_VARIANCE = 12.0  # reached only by a network that is about to overflow
_MIN_STD = 0.02


Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a batch, one for each of its samples, or torch's global one."""


@dataclass(frozen=True)
class Decoded:
    """Result of one top-down pass."""

    signal: Tensor
    """(B, 1, H, W), normalised."""
    kl: Tensor
    """(levels, B), nats per plane; zeros if it was not computed."""


class LadderVAE(nn.Module):
    """Ladder VAE of planes of normalised pixels.

    Level 0 is the finest and has half the sides of the image; every further level halves them.
    """

    def __init__(self, config: HDNConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        filters = config.filters
        first, factor = filters[0], config.space_to_depth
        if factor == 1:
            self.stem = nn.Sequential(
                nn.Conv2d(in_channels, first, 5, padding=2),
                nn.ELU(),
                GatedBlock(first, dropout=config.dropout, gated=False),
            )
            self.head = nn.Sequential(*self._blocks(first), conv3(first, 1))
        else:
            self.stem = nn.Sequential(nn.PixelUnshuffle(factor), conv3(in_channels * factor**2, first))
            self.head = nn.Sequential(conv3(first, factor**2), nn.PixelShuffle(factor))
        self.bottom_up = nn.ModuleList()
        self.top_down = nn.ModuleList()
        for level, channels in enumerate(filters):
            below = filters[max(level - 1, 0)]
            halve = factor == 1 or level > 0
            down = [conv3(below, channels, stride=2)] if halve else []
            self.bottom_up.append(nn.Sequential(*down, *self._blocks(channels)))
            self.top_down.append(_TopDown(config, level, channels, below, halve, self._blocks(below)))
        self.top_prior = nn.Parameter(torch.zeros(1, 2 * config.latent_channels, 1, 1))

    @property
    def multiple(self) -> int:
        """The sides of an image must be divisible by this."""
        return 1 << len(self.config.filters)

    def _blocks(self, channels: int) -> list[nn.Module]:
        return [_block(self.config, channels) for _ in range(self.config.blocks)]

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Decoded:
        """Encode (B, C, H, W) and decode one posterior sample of every image, drawn with one generator."""
        return self.decode(self.encode(x), generator)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Bottom-up pass: features (B, filters, h, w) of every level, finest first."""
        features = []
        x = self.stem(x)
        for layer in self.bottom_up:
            x = layer(x)
            features.append(x)
        return features

    def decode(
        self,
        features: Sequence[Tensor],
        generators: Generators = None,
        *,
        with_kl: bool = True,
    ) -> Decoded:
        """Top-down pass: draw latents and decode them. With several generators, each draws a sample of a batch of one.

        In structured mode (HDN 3-6) the two finest levels do not see the image, and in evaluation mode they take the
        mean of their posterior.
        """
        x: Tensor | None = None
        kl = []
        copies = len(generators) if isinstance(generators, Sequence) else 1
        for level in reversed(range(len(features))):
            layer = self.top_down[level]
            bottom_up = features[level].expand(copies * len(features[level]), -1, -1, -1)
            prior_only = self.config.structured and level < 2
            use_mean = prior_only and not self.training
            x, level_kl = layer(bottom_up, x, self.top_prior if with_kl else None, generators, prior_only, use_mean)
            kl.append(level_kl)
        return Decoded(self.head(x), torch.stack(kl[::-1]))


class _TopDown(nn.Module):
    """One level: prior and posterior, a sample, its decoding, and upsampling to the next finer level.

    Without ``top_prior`` neither priors nor KL are computed, because drawing samples needs neither.
    """

    def __init__(
        self, config: HDNConfig, level: int, channels: int, below: int, upsample: bool, blocks: list[nn.Module]
    ) -> None:
        super().__init__()
        latents = config.latent_channels
        is_top = level == len(config.filters) - 1
        self.published = published = config.gated
        merge_block = (lambda: _block(config, channels)) if published else (lambda: None)
        self.prior = None if is_top else conv3(channels, 2 * latents)
        self.merge = None if is_top else Merge(channels, merge_block())
        self.skip = Merge(channels, merge_block()) if published and not is_top else None
        self.posterior = conv3(channels, 2 * latents)
        self.from_latent = conv3(latents, channels)
        up: list[nn.Module] = []
        if upsample and published:
            up = [nn.ConvTranspose2d(channels, below, 3, stride=2, padding=1, output_padding=1)]
        elif upsample:
            up = [Upsample(channels, below)]
        self.blocks = nn.Sequential(*up, *blocks)

    def forward(
        self,
        bottom_up: Tensor,
        above: Tensor | None,
        top_prior: Tensor | None,
        generators: Generators,
        prior_only: bool,
        use_mean: bool,
    ) -> tuple[Tensor, Tensor]:
        merged = bottom_up
        if above is not None and self.merge is not None:
            merged = above if prior_only else self.merge(bottom_up, above)
        q_mean, q_log_variance = moments(self.posterior(merged), published=self.published)
        z = q_mean if use_mean else q_mean + (0.5 * q_log_variance).exp() * standard_normal(q_mean, generators)
        if top_prior is None:
            kl = q_mean.new_zeros(len(q_mean))
        else:
            prior = top_prior if above is None or self.prior is None else self.prior(above)
            kl = normal_kl(q_mean, q_log_variance, *moments(prior, published=self.published)).sum((1, 2, 3))
        x = self.from_latent(z)
        if above is not None:
            x = self.skip(x, above) if self.skip is not None else x + above
        return self.blocks(x), kl


def moments(parameters: Tensor, *, published: bool) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, (B, latents, h, w) each, in float32; zeros give a standard deviation of about 1."""
    mean, spread = parameters.float().chunk(2, dim=1)
    if published:
        return mean, spread.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)
    # The standard deviation grows linearly and has a minimum: with exp() training diverges at high learning rates.
    return mean, 2 * (F.softplus(0.5 * spread + 0.54) + _MIN_STD).log()


def standard_normal(like: Tensor, generators: Generators) -> Tensor:
    """Standard normal numbers; those of one generator do not depend on the others of its batch."""
    if not isinstance(generators, Sequence):
        return torch.randn(like.shape, generator=generators, device=like.device)
    return torch.stack([torch.randn(like.shape[1:], generator=each, device=like.device) for each in generators])


def _block(config: HDNConfig, channels: int) -> nn.Module:
    return GatedBlock(channels, dropout=config.dropout) if config.gated else PlainBlock(channels)


def normal_kl(q_mean: Tensor, q_log_variance: Tensor, p_mean: Tensor, p_log_variance: Tensor) -> Tensor:
    """KL(q || p) of normal distributions, element by element, in nats."""
    # torch.distributions.kl_divergence takes 1.8 times as long, forward and backward on one thread: it squares standard
    # deviations and takes the logarithm of their ratio, where the networks give log-variances.
    ratio = q_log_variance - p_log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + (q_mean - p_mean) ** 2 * (-p_log_variance).exp())


def free_bits(kl: Tensor, least: float) -> Tensor:
    """Sum over levels of the batch mean of ``kl`` (levels, B), each counted as at least ``least`` nats."""
    return F.relu(kl.mean(1) - least).sum() + least * len(kl)
