"""The Direct Denoiser: a UNet that predicts the mean or median of the denoising distribution from the noisy image."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import UNetConfig
from .blocks import PaddingMode, PlainBlock, SharedConvBlock, Upsample, conv3


class UNet(nn.Module):
    """UNet of planes of normalised pixels; every level after the first halves the sides.

    ``config.published`` gives the network of Salmon & Krull: shared convolutions with reflect padding, and skips merged
    by concatenation. Otherwise it has plain residual blocks and adds its skips. Its input pixels are folded into
    channels (space to depth), and its output before training is 0.
    """

    def __init__(self, config: UNetConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        filters, factor = config.filters, config.space_to_depth
        published = config.published
        padding: PaddingMode = "reflect" if published else "zeros"
        first = conv3(in_channels * factor**2, filters[0], padding_mode=padding)
        self.stem = nn.Sequential(nn.PixelUnshuffle(factor), first, nn.ReLU() if published else nn.Identity())
        self.encode = nn.ModuleList(self._blocks(c) for c in filters[:-1])
        self.down = nn.ModuleList(self._down(a, b) for a, b in pairwise(filters))
        self.bottom = self._blocks(filters[-1])
        self.up = nn.ModuleList(self._up(b, a) for a, b in pairwise(filters))
        self.merge = nn.ModuleList(_PublishedMerge(c) if published else _Add() for c in filters[:-1])
        self.decode = nn.ModuleList(self._blocks(c) for c in filters[:-1])
        last = conv3(filters[0], factor**2, padding_mode=padding)
        if not published:  # the output starts at 0: the network learns what to add to a blurred image
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.head = nn.Sequential(nn.Identity() if published else nn.ReLU(), last, nn.PixelShuffle(factor))

    @property
    def multiple(self) -> int:
        """The sides of an image must be divisible by this."""
        return int(self.config.space_to_depth * 2 ** (len(self.config.filters) - 1))

    def _blocks(self, channels: int) -> nn.Sequential:
        if self.config.published:
            return nn.Sequential(SharedConvBlock(channels))
        return nn.Sequential(*(PlainBlock(channels) for _ in range(self.config.blocks)))

    def _down(self, fine: int, coarse: int) -> nn.Module:
        if self.config.published:
            return nn.Sequential(conv3(fine, coarse, stride=2, padding_mode="reflect"), nn.ReLU())
        return conv3(fine, coarse, stride=2)

    def _up(self, coarse: int, fine: int) -> nn.Module:
        if self.config.published:
            conv = conv3(coarse, fine, padding_mode="reflect")
            return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv, nn.ReLU())
        return Upsample(coarse, fine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 1, H, W), both normalised; H and W must be divisible by `multiple`."""
        x = self.stem(x)
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for level in reversed(range(len(skips))):
            x = self.merge[level](skips[level], self.up[level](x))
            x = self.decode[level](x)
        y: Tensor = self.head(x)
        return y


class _Add(nn.Module):
    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        return skip + x


class _PublishedMerge(nn.Module):
    """Concatenate, apply a residual convolution, and reduce to the former channels by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = SharedConvBlock(2 * channels, times=1)
        self.out = conv3(2 * channels, channels, padding_mode="reflect")

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        return F.relu(self.out(self.join(torch.cat([skip, x], dim=1))))
