"""Building blocks of both networks. They keep the sides of their input, unless stated otherwise."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PaddingMode = Literal["zeros", "reflect"]


def conv3(c_in: int, c_out: int, *, stride: int = 1, padding_mode: PaddingMode = "zeros") -> nn.Conv2d:
    """A 3x3 convolution; with ``stride`` 2 it halves the sides."""
    if padding_mode == "reflect":
        return _ReflectConv2d(c_in, c_out, 3, stride=stride)
    return nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)


class _ReflectConv2d(nn.Conv2d):
    """3x3 convolution with reflect padding."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        # The same, faster with channels last; only its gradient would be slower.
        x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
        x = torch.cat([x[..., 1:2], x, x[..., -2:-1]], dim=3)
        return super().forward(x)


class ChannelDropout(nn.Module):
    """Sets whole channels to 0 in training, as `torch.nn.Dropout2d`, which takes no generator.

    Attributes
    ----------
    generator
        Of the random numbers; torch's global one if None.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.empty(*x.shape[:2], 1, 1, device=x.device, dtype=x.dtype)
        return x * kept.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)


class GatedBlock(nn.Module):
    """Residual block of HDN: twice (batch norm, ELU, 3x3 conv, dropout), then a 1x1 gate."""

    def __init__(self, channels: int, *, dropout: float, gated: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.BatchNorm2d(channels),
                nn.ELU(inplace=True),
                conv3(channels, channels),
                ChannelDropout(dropout),
            ]
        self.body = nn.Sequential(*layers)
        self.gate = nn.Conv2d(channels, 2 * channels, 1) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        if self.gate is not None:
            value, gate = self.gate(y).chunk(2, dim=1)
            if torch.is_grad_enabled():
                y = F.elu(value) * gate.sigmoid()
            else:  # in place, because the doubled channels determine the peak memory of a sample
                y = F.elu(value, inplace=True).mul_(gate.sigmoid_())
        return x + y


class PlainBlock(nn.Module):
    """Residual block without normalisation: twice (ReLU, 3x3 conv). Untrained it is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3(channels, channels)
        self.second = conv3(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(F.relu(x)), inplace=True))
        return y.add_(x)


class SharedConvBlock(nn.Module):
    """Residual block of the published UNet: one 3x3 conv and ReLU, applied ``times`` times with the same weights."""

    def __init__(self, channels: int, times: int = 2) -> None:
        super().__init__()
        self.conv = conv3(channels, channels, padding_mode="reflect")
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(self.times):
            y = F.relu(self.conv(y))
        return x + y


class Upsample(nn.Module):
    """Double the sides by nearest-neighbour interpolation, after a 1x1 convolution to ``c_out`` channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=2, mode="nearest")


class Merge(nn.Module):
    """Merge two tensors of ``channels`` channels each: concatenation, 1x1 conv, then an optional block."""

    def __init__(self, channels: int, block: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)
        self.block = block if block is not None else nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.block(self.conv(torch.cat([x, y], dim=1)))  # type: ignore[no-any-return]
