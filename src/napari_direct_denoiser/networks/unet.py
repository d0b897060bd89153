"""The Direct Denoiser: a UNet that predicts the mean or median of the denoising distribution from the noisy image.

A second head can predict how large the error of that prediction is.
"""

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

    With ``config.std`` a second head predicts the logarithm of a standard deviation. It reads the features of the last
    level, and its gradient ends there: what the first head predicts is the same with it and without it.
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
        self.std_head = _std_head(filters[0], factor) if config.std else None

    @property
    def multiple(self) -> int:
        """The sides of an image must be divisible by this."""
        return int(self.config.space_to_depth * 2 ** (len(self.config.filters) - 1))

    @property
    def reach(self) -> int:
        """How far beyond a square of `multiple` pixels, at most, the output in it depends on the input, in pixels.

        At a level whose pixels are k pixels of the image wide, the convolutions before and after the coarser levels
        reach so many times k. Twice as wide pixels at each level make it this multiple of the widest ones.
        """
        return self.multiple * (10 if self.config.published else 6 * self.config.blocks + 1)

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters, apart for each head that has a loss of its own."""
        second = [] if self.std_head is None else list(self.std_head.parameters())
        first = [parameter for parameter in self.parameters() if all(parameter is not other for other in second)]
        return [first, second] if second else [first]

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
        y: Tensor = self.head(self._features(x))
        return y

    def with_std(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map as `forward`, and give the output of the second head too: the logarithm of a standard deviation."""
        assert self.std_head is not None, "a UNet without the second head was asked for a standard deviation"
        features = self._features(x)
        return self.head(features), self.std_head(features.detach())

    def _features(self, x: Tensor) -> Tensor:
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
        return x


def _std_head(channels: int, factor: int) -> nn.Sequential:
    """Predict a logarithm at full resolution; it is 0 before training."""
    last = conv3(channels, factor**2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.ReLU(), conv3(channels, channels), nn.ReLU(), last, nn.PixelShuffle(factor))


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
