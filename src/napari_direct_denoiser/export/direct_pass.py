"""The direct pass as a network of its own: counts in, counts out, planes of any size.

Both formats are made from a trace of it. TorchScript is the only format of torch that QuPath reads. The ONNX exporter
for traces writes opset 17, which ONNX Runtime 1.13 of deepImageJ runs; torch's newer exporter begins with opset 18.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..co_model import CoModel
from ..config import MIN_SIDE
from ..errors import SettingError
from ..system import Compute

OPSET = 17
"""Of the ONNX that is written."""


class DirectPass(nn.Module):
    """The direct pass of a model, in float32: maps (B, 1, H, W) counts to denoised counts.

    Planes are padded as `prediction.tiling` pads them, by reflection at the lower and right edge. No tensor is made on
    a device by name, so that the trace runs on any.
    """

    def __init__(self, model: CoModel) -> None:
        super().__init__()
        self.multiple = model.multiple
        self.model = copy.deepcopy(model).to(torch.device("cpu"), memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.model.compute = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
        del self.model.hdn  # the teacher is not needed
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (B, 1, H, W) counts of any height and width from `smallest_side`."""
        height, width = noisy.shape[-2:]
        padded = noisy.index_select(2, self._positions(noisy, height)).index_select(3, self._positions(noisy, width))
        denoised: Tensor = self.model.direct(padded)[..., :height, :width]
        return denoised

    def _positions(self, noisy: Tensor, side: int) -> Tensor:
        """Which pixels stand along an axis after padding."""
        length = (side + self.multiple - 1) // self.multiple * self.multiple
        position = noisy.new_ones(length, dtype=torch.int64).cumsum(0) - 1
        period = 2 * (side - 1)
        position = position % period
        return torch.minimum(position, period - position)


def check_exportable(model: CoModel) -> None:
    """Raise `SettingError` for a model whose direct pass is no function of a plane that a network can hold."""
    if model.noise.whole_planes:
        raise SettingError(
            "Expected a model without offsets of rows and columns, and without clipped or interpolated pixels, found "
            f"{model.noise.describe()}: this package needs whole planes for these, which other software "
            "cannot do; denoise with this package, or train with a noise model that has none (--noise)"
        )


def smallest_side(model: CoModel) -> int:
    """Smallest height and width of a plane, pixels."""
    return max(MIN_SIDE, model.noise.margin + 1)


def traced(network: DirectPass) -> torch.jit.ScriptModule:
    """Trace the direct pass, for planes of any size."""
    with _quiet(), torch.no_grad():
        return torch.jit.trace(network, example(network), check_trace=False)  # type: ignore[no-any-return, no-untyped-call]


def write_torchscript(path: Path, trace: torch.jit.ScriptModule) -> None:
    """Write a trace as TorchScript."""
    with _quiet():
        torch.jit.save(trace, str(path))


def write_onnx(path: Path, trace: torch.jit.ScriptModule, network: DirectPass) -> None:
    """Write a trace as ONNX with an input "noisy" and an output "denoised", both (batch, 1, height, width)."""
    axes = {0: "batch", 2: "height", 3: "width"}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            trace,
            (example(network),),
            str(path),
            input_names=["noisy"],
            output_names=["denoised"],
            dynamic_axes={"noisy": axes, "denoised": axes},
            opset_version=OPSET,
            dynamo=False,
        )


def example(network: DirectPass) -> Tensor:
    """A plane to trace with, whose sides are different and no multiples."""
    side = 4 * network.multiple
    return torch.full((1, 1, side - 1, side + 1), network.model.normalization.mean)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: that TorchScript is no longer developed, and that conditions hold for the example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
