"""Where to compute and at which precision: the machine is asked, nothing is assumed."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psutil
import torch

from .config import Device
from .errors import SettingError

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
if not hasattr(_LIBC, "malloc_trim"):  # glibc has it
    _LIBC = None
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 2**27  # of one block: among larger ones gaps would add up
_MOST_KEPT = 2**28
_LOCK = threading.Lock()
_reusing = _resident = 0


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
    return int(psutil.virtual_memory().available)  # which the GPU of a Mac shares


@contextmanager
def reusing_memory(device: torch.device) -> Iterator[None]:
    """Keep the memory of tensors for the next ones, and give it back at the end of the last run to end.

    On a GPU torch does so anyway. On a CPU glibc returns large blocks to the system as soon as they are free, and
    fetches as many for the next layer: that takes as long as computing it. There, 256 MiB may stay for the next run.
    """
    global _reusing, _resident
    with _LOCK:
        _reusing += 1
        if _reusing == 1:
            _set_thresholds(_LARGEST_KEPT, 2**31 - 1)
            _resident = psutil.Process().memory_info().rss
    try:
        yield
    finally:
        with _LOCK:
            _reusing -= 1
            if not _reusing:
                _set_thresholds(2**25, _MOST_KEPT)  # the former is what glibc itself comes to after a large block
                if device.type != "cpu" or psutil.Process().memory_info().rss - _resident > _MOST_KEPT:
                    free_memory(device)


def _set_thresholds(of_system: int, of_trimming: int) -> None:
    """From which size on glibc takes a block from the system alone, and how much it keeps of what is free."""
    if _LIBC is not None:
        _LIBC.mallopt(_M_MMAP_THRESHOLD, of_system)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, of_trimming)


def free_memory(device: torch.device) -> None:
    """Give back memory that is kept for later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif _LIBC is not None:
        _LIBC.malloc_trim(0)


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
