"""The processes that train one model together (torch.distributed).

All processes take the same steps, each with its share of every batch, and their gradients are averaged. Each validates
by itself and comes to the same result. What depends on the time, a signal or rounding is decided by one for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import SettingError, TrainingError

_TIMEOUT = timedelta(minutes=30)  # the first process may write a large file to a slow disk meanwhile


class World:
    """The processes of a training. Every method but the properties must be called by all of them.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    size
        How many processes there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """Patches of a batch that each process takes; `SettingError` if they cannot be divided."""
        if batch % self.size:
            fit = ", ".join(str(size) for size in range(1, batch + 1) if batch % size == 0)
            raise SettingError(
                f"Expected a number of processes that divides a batch of {batch} patches, found {self.size}: "
                f"start {fit}, or choose a preset with larger batches"
            )
        return batch // self.size

    def greatest(self, *values: float) -> list[float]:
        """The greatest of each value in any process."""
        return self._agreed(values, lambda numbers: dist.all_reduce(numbers, dist.ReduceOp.MAX))

    def of_first(self, *values: float) -> list[float]:
        """The values in the first process."""
        return self._agreed(values, lambda numbers: dist.broadcast(numbers, 0))

    def _agreed(self, values: Sequence[float], agree: Callable[[Tensor], object]) -> list[float]:
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with explaining_loss():
            agree(numbers)
        found: list[float] = numbers.tolist()
        return found

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one kind and device by their means over the processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with explaining_loss():
            dist.all_reduce(flat)
        parts = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def copy_first(self, module: nn.Module) -> None:
        """Take the weights and buffers of the first process."""
        if self.size > 1:
            with explaining_loss():
                for tensor in module.state_dict().values():
                    dense = tensor.contiguous()
                    dist.broadcast(dense, 0)
                    tensor.copy_(dense)

    def gathered(self, tensor: Tensor) -> Tensor:
        """Tensors of all processes, one after the other along the first axis; all must have one shape."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with explaining_loss():
            dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)


ALONE = World()
"""Training in one process."""


class SharedLoss:
    """A loss of one network, whose gradients are averaged over the processes (`DistributedDataParallel`).

    Each has a process group of its own: two networks may be trained in two threads at the same time.

    Parameters
    ----------
    world
        The processes.
    network
        What is trained.
    loss
        A function of the network and others, which gives the loss.
    skips
        Whether it leaves out some of the weights.
    """

    def __init__(self, world: World, network: nn.Module, loss: Callable[..., Any], *, skips: bool = False) -> None:
        self._loss: Callable[..., Any] = loss
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            with explaining_loss():
                self._loss = self._parallel = DistributedDataParallel(
                    _Forward(network, loss),
                    process_group=cast("dist.ProcessGroup", dist.new_group(timeout=_TIMEOUT)),
                    find_unused_parameters=skips,
                )

    def __call__(self, *inputs: Any) -> Any:
        """Compute the loss."""
        return self._loss(*inputs)

    def gradients(self, *, shared: bool) -> AbstractContextManager[None]:
        """Context of a loss and its backward pass; all but the last of a step only sum gradients, in this process."""
        if self._parallel is None or shared:
            return nullcontext()
        found: AbstractContextManager[None] = self._parallel.no_sync()
        return found


class _Forward(nn.Module):
    """A network whose forward pass is a loss."""

    def __init__(self, network: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, *inputs: Any) -> Any:
        """Compute the loss."""
        return self._loss(*inputs)


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started; `ALONE` without torchrun.

    On GPUs each process takes the one with its number on this machine.

    Raises
    ------
    SettingError
        If there are more processes than GPUs on this machine.
    TrainingError
        If the other processes cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise SettingError(f"Expected at most one process a GPU, found {there} GPUs: use --nproc-per-node {there}")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    with explaining_loss():
        dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def explaining_loss() -> Iterator[None]:
    """Turn errors of the connection to other processes into a `TrainingError`."""
    try:
        yield
    except RuntimeError as error:
        if not dist.is_initialized() or isinstance(error, torch.OutOfMemoryError):
            raise
        words = str(error).lower()
        if isinstance(error, dist.DistError) or any(name in words for name in ("gloo", "nccl", "connection", "peer")):
            reason = str(error).splitlines()[0].rpartition("] ")[2]  # without the place in the source of the library
            raise TrainingError(
                f"Another process of this training has ended ({reason[:100]}): see its message, and go on with --resume"
            ) from error
        raise
