"""A device that is not there, for tests of code that has to run on any: its tensors mix with no others.

They say that they are on "meta", and hold their numbers on the CPU. An operation on tensors of both devices fails, as
it does on a GPU, and so does a generator of the wrong device. `Pretended.waits` counts where Python asked for a number,
which on a GPU waits until all that was told before is done.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from napari_direct_denoiser import co_model, system
from napari_direct_denoiser.system import Compute

DEVICE = torch.device("meta")
_PACKAGE = "napari_direct_denoiser"


class There(torch.Tensor):
    """A tensor on the device."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Pretended.current.compute(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Computes what is on the device."""

    current: Pretended

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """By the last line of the package that asked."""
        Pretended.current = self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_there(kwargs.get("device")) or any(issubclass(kind, There) for kind in types):
            return self.compute(func, args, kwargs)
        return func(*args, **kwargs)

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        name, tensors = func._schema.name, [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there, target = [t for t in tensors if isinstance(t, There)], kwargs.get("device")
        to_cpu = target is not None and not _is_there(target)
        if there and not to_cpu and kwargs.get("dtype") == torch.float64:
            raise TypeError(f"{func}: a device without float64")
        if there and name not in ("aten::_to_copy", "aten::copy_"):
            others = [t for t in tensors if not isinstance(t, There) and t.ndim]
            if others and "index" not in name:
                raise RuntimeError(f"{func}: tensors of two devices")
        if to_cpu or name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.wait()
        moved = {**kwargs, "device": torch.device("cpu")} if target is not None else kwargs
        out = func(*tree_map_only(There, lambda t: t.held, args), **tree_map_only(There, lambda t: t.held, moved))
        if to_cpu or (name == "aten::copy_" and not isinstance(args[0], There)) or not (there or _is_there(target)):
            return out
        same = {id(t.held): t for t in there}  # of operations in place
        return tree_map_only(torch.Tensor, lambda t: same[id(t)] if id(t) in same else There(t), out)

    def wait(self) -> None:
        frames = [frame for frame in traceback.extract_stack() if f"/{_PACKAGE}/" in frame.filename]
        self.waits[f"{frames[-1].filename.rpartition('/')[2]}: {frames[-1].line}" if frames else "elsewhere"] += 1


class _Calls(TorchFunctionMode):
    """What is decided before an operation begins: of which device a generator is, and where new tensors go."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.tolist and isinstance(args[0], There):
            Pretended.current.wait()
            return args[0].held.tolist()
        if func is torch.Tensor.conj:  # otherwise a flag, which tensors of Python's own do not have
            return torch.conj_physical(args[0])
        if func is torch.tensor and _is_there(kwargs.get("device")):
            return There(func(*args, **{**kwargs, "device": "cpu"}))
        generator = kwargs.get("generator")
        if generator is not None:
            at = kwargs.get("device") or next((t.device for t in args if isinstance(t, torch.Tensor)), "cpu")
            if _is_there(at) != _is_there(generator.at):
                raise RuntimeError(f"{func}: a generator of {generator.at} for {at}")
        return func(*args, **kwargs)


class _Generator(torch.Generator):
    at: Any

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made: _Generator = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        made.at = device
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


@contextmanager
def pretended_device() -> Iterator[Pretended]:
    """Within, models are on the device that is not there. It has no float64, as the GPU of a Mac."""
    compute = Compute(DEVICE, torch.float32, torch.contiguous_format)
    with (
        patch.object(co_model, "resolve", lambda name: compute),
        patch.object(Compute, "autocast", lambda self: nullcontext()),
        patch.object(system, "_WITHOUT_FLOAT64", {DEVICE.type}),
        patch.object(torch, "Generator", _Generator),
        patch.object(torch, "inference_mode", torch.no_grad),  # in which no tensors of Python's own can be made
        Pretended() as pretended,
        _Calls(),
    ):
        yield pretended
