"""DivNoising: a variational autoencoder of clean images with one latent level (Prakash et al. 2021).

Unlike those of HDN, its latents have a standard normal prior, and the decoder sees nothing but them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config import DivNoisingConfig
from .blocks import PlainBlock, Upsample, conv3
from .ladder_vae import Decoded, Generators, moments, normal_kl, standard_normal


class FlatVAE(nn.Module):
    """VAE of planes of normalised pixels, with the interface of `LadderVAE`.

    The published network has two 3x3 convolutions with ReLU a level, maximum pooling and transposed convolutions.
    The other one has residual blocks, and folds 2x2 pixels into channels before the first convolution.
    """

    def __init__(self, config: DivNoisingConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        filters, latents = config.filters, config.latent_channels
        if config.published:
            self.encoder = nn.Sequential(*_published_encoder(in_channels, filters))
            self.decoder = nn.Sequential(*_published_decoder(latents, filters))
        else:
            self.encoder = nn.Sequential(*_encoder(config, in_channels))
            self.decoder = nn.Sequential(*_decoder(config))
        self.posterior = conv3(filters[-1], 2 * latents)

    @property
    def multiple(self) -> int:
        """The sides of an image must be divisible by this."""
        return 1 << len(self.config.filters)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Decoded:
        """Encode (B, C, H, W) and decode one posterior sample of every image, drawn with one generator."""
        return self.decode(self.encode(x), generator)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features (B, filters, h, w) that the latents are drawn from."""
        return [self.encoder(x)]

    def decode(self, features: Sequence[Tensor], generators: Generators = None, *, with_kl: bool = True) -> Decoded:
        """Draw latents and decode them. With several generators, each draws a sample of a batch of one."""
        copies = len(generators) if isinstance(generators, Sequence) else 1
        parameters = self.posterior(features[0]).expand(copies * len(features[0]), -1, -1, -1)
        mean, log_variance = moments(parameters, published=self.config.published)
        z = mean + (0.5 * log_variance).exp() * standard_normal(mean, generators)
        kl = mean.new_zeros(len(mean))
        if with_kl:
            prior = torch.zeros_like(mean)
            kl = normal_kl(mean, log_variance, prior, prior).sum((1, 2, 3))
        return Decoded(self.decoder(z), kl[None])


def _published_encoder(channels: int, filters: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for filters_here in filters:
        layers += [conv3(channels, filters_here), nn.ReLU(inplace=True), conv3(filters_here, filters_here)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        channels = filters_here
    return layers


def _published_decoder(channels: int, filters: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for filters_here in reversed(filters):
        layers += [conv3(channels, filters_here), nn.ReLU(inplace=True), conv3(filters_here, filters_here)]
        layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(filters_here, filters_here, 2, stride=2)]
        channels = filters_here
    return [*layers, conv3(channels, 1)]


def _encoder(config: DivNoisingConfig, channels: int) -> list[nn.Module]:
    first, *others = config.filters
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), conv3(4 * channels, first), *_blocks(config, first)]
    for above, below in zip(others, config.filters, strict=False):
        layers += [conv3(below, above, stride=2), *_blocks(config, above)]
    return layers


def _decoder(config: DivNoisingConfig) -> list[nn.Module]:
    first, *others = config.filters
    layers: list[nn.Module] = [conv3(config.latent_channels, config.filters[-1]), *_blocks(config, config.filters[-1])]
    for above, below in reversed(list(zip(others, config.filters, strict=False))):
        layers += [Upsample(above, below), *_blocks(config, below)]
    return [*layers, conv3(first, 4), nn.PixelShuffle(2)]


def _blocks(config: DivNoisingConfig, channels: int) -> list[nn.Module]:
    return [PlainBlock(channels) for _ in range(config.blocks)]
