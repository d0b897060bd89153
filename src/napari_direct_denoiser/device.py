"""Where to compute and at which precision: the machine is asked, nothing is assumed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil
import torch

from .config import Device
from .errors import SettingError


@dataclass(frozen=True)
class Compute:
    """A device and the precision that it gains by."""

    device: torch.device
    dtype: torch.dtype
    """Of convolutions, by autocast; float32 means no autocast."""
    memory_format: torch.memory_format

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which networks run at this precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def resolve(name: Device = "auto") -> Compute:
    """Find the device of that name; `SettingError` if it is not there.

    bfloat16 and channels-last pay on GPUs and CPUs with bfloat16 units; on others they are slower.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = next(device for device, there in available.items() if there)
    if name != "auto" and not available[name]:
        raise SettingError(f"Expected a device that is there, found {name}: choose auto or {found}")
    device = torch.device(found if name == "auto" else name)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and _cpu_has_bfloat16()
    if fast:
        return Compute(device, torch.bfloat16, torch.channels_last)
    return Compute(device, torch.float32, torch.contiguous_format)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or numpy ended for want of memory; on a CPU torch has no error of its own for that."""
    text = str(error).lower()
    said = any(words in text for words in ("out of memory", "allocate memory", "enough memory"))
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def available_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a device, as far as can be told."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return int(psutil.virtual_memory().available)


def free_memory(device: torch.device) -> None:
    """Give memory that torch keeps for later use back to the GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
