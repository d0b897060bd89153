"""Device, precision and memory of this machine."""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch
from torch import Tensor

from .config import Device
from .errors import SettingError

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
if not hasattr(_LIBC, "malloc_trim"):  # glibc has it
    _LIBC = None
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
if _LIBC is not None:  # each run has a new thread: with the usual eight arenas a core, gaps in all of them would add up
    _LIBC.mallopt(_M_ARENA_MAX, 2)
_LARGEST_KEPT = 2**27  # bytes of one block; gaps between larger ones would add up
_MOST_KEPT = 2**28  # bytes after a run
_CGROUPS = {  # by version: folder, limit, usage, and the part of the usage that the kernel gives back when needed
    1: ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
}
_WITHOUT_FLOAT64 = {"mps"}
_LOCK = threading.Lock()
_reusing = _resident = 0
_repeating = 0  # runs of networks on a GPU, and what cuDNN was set to before the first
_deterministic = False


@dataclass(frozen=True)
class Compute:
    """A device, and the precision and memory format that are fastest on it."""

    device: torch.device
    dtype: torch.dtype
    """Precision of convolutions, by autocast; float32 means no autocast."""
    memory_format: torch.memory_format

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Context in which networks run at this precision, and give the same whenever they are given the same."""
        # not by an ExitStack: it would keep an error, and with it the tensors of the call that ran out of memory
        repeatable = _repeatable() if self.device.type == "cuda" else nullcontext()
        with repeatable, torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield


def resolve(name: Device = "auto") -> Compute:
    """Find the device of this name; `SettingError` if this machine has none.

    bfloat16 and channels-last are faster on GPUs and CPUs with bfloat16 units, and slower on others.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = next(device for device, there in available.items() if there)
    if name != "auto" and not available[name]:
        raise SettingError(f"Device {name} is not available on this machine: choose auto or {found}")
    device = torch.device(found if name == "auto" else name)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and _cpu_has_bfloat16()
    if fast:
        return Compute(device, torch.bfloat16, torch.channels_last)
    return Compute(device, torch.float32, torch.contiguous_format)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let cuDNN sum in one order only; what was set before is set again when the last of several threads ends."""
    global _repeating, _deterministic
    cudnn = torch.backends.cudnn  # whose context `flags` would also allow TF32
    with _LOCK:
        _repeating += 1
        if _repeating == 1:
            _deterministic, cudnn.deterministic = cudnn.deterministic, True
    try:
        yield
    finally:
        with _LOCK:
            _repeating -= 1
            if not _repeating:
                cudnn.deterministic = _deterministic


def in_float32(device: torch.device) -> AbstractContextManager[None]:
    """Context in which float32 is convolved as float32: by default a GPU rounds it to TF32, which has 10 bits."""
    return (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        if device.type == "cuda"
        else nullcontext()
    )


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device; on a GPU without waiting until that has done what it was told."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def double(tensor: Tensor) -> Tensor:
    """Give a tensor in float64; on the CPU if its device has no float64, as the GPU of a Mac."""
    return (tensor.cpu() if tensor.device.type in _WITHOUT_FLOAT64 else tensor).double()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or numpy ran out of memory; on a CPU torch raises a plain RuntimeError for that."""
    text = str(error).lower()
    said = any(words in text for words in ("out of memory", "allocate memory", "enough memory", "alloc_failed"))
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def available_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Estimate the bytes that can still be allocated on a device.

    On a CPU this respects the memory limits of control groups (containers, batch systems), read below ``root``.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return int(min(psutil.virtual_memory().available, _cgroup_memory(root)))  # the GPU of a Mac shares this memory


def _cgroup_memory(root: Path) -> float:
    """Bytes left until the first memory limit of this process's control groups; infinity if there is no limit."""
    left = math.inf
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit_file, used_file, cached = _CGROUPS[1 if controllers else 2]
        group = PurePosixPath(path)
        for each in (group, *group.parents):  # limits of parents hold as well; a container may see the root alone
            place = root / folder / each.relative_to("/")
            limit, used = _read(place / limit_file).strip(), _read(place / used_file).strip()
            if limit.isdigit() and used.isdigit():  # "max" means no limit
                entries = (entry.split() for entry in _read(place / "memory.stat").splitlines())
                reclaimable = sum(int(entry[1]) for entry in entries if entry[0] == cached)
                left = min(left, max(int(limit) - int(used) + reclaimable, 0))
    return left


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


@contextmanager
def reusing_memory(device: torch.device) -> Iterator[None]:
    """Reuse the memory of freed tensors during a run, and release it when the last of several runs ends.

    On a GPU torch does this by itself. On a CPU glibc returns large blocks to the system as soon as they are free, and
    fetches them again for the next layer, which takes as long as computing it. On a CPU up to 256 MiB stay for the next
    run.
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
                _set_thresholds(2**25, _MOST_KEPT)  # 2**25: what glibc itself adjusts to after a large block
                if device.type != "cpu" or psutil.Process().memory_info().rss - _resident > _MOST_KEPT:
                    free_memory(device)


def _set_thresholds(mmap: int, trim: int) -> None:
    """Tell glibc from which size it maps a block by itself, and how many free bytes it keeps."""
    if _LIBC is not None:
        _LIBC.mallopt(_M_MMAP_THRESHOLD, mmap)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, trim)


def free_memory(device: torch.device) -> None:
    """Release cached memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif _LIBC is not None:
        _LIBC.malloc_trim(0)


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
