"""Functions of tensors, recorded as CUDA graphs.

A training step of small networks is two thousand kernels of a few microseconds each. A GPU would wait for Python to
tell it one after the other. A graph tells it all of them at once, which takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
_Key = tuple[str, *tuple[torch.Size, ...]]  # of a function, and of what it is given

_EAGER_CALLS = 2  # before a function is recorded: libraries prepare themselves, gradients come to be


@dataclass
class _Recording:
    graph: Any  # torch.cuda.CUDAGraph, which torch for CPUs lacks
    inputs: Tensors
    outputs: Tensors


class CudaGraphs:
    """Calls functions of tensors; on a GPU, each is recorded at its third call, and replayed from then on.

    What a function reads and writes beside its arguments must stay where it is in memory, such as weights and their
    gradients. Numbers of Python are those of the recording. A function may not wait for the GPU.

    Parameters
    ----------
    device
        Where the functions compute. On any but a GPU they are only called.
    generators
        All that they draw random numbers from. These may be seeded anew before each call.
    usable
        Whether to record on a GPU.
    """

    def __init__(
        self, device: torch.device, generators: Sequence[torch.Generator] = (), *, usable: bool = True
    ) -> None:
        self.usable = usable and device.type == "cuda"
        self._generators = generators
        self._calls: dict[_Key, int] = {}
        self._recordings: dict[_Key, _Recording] = {}
        self._stream = torch.cuda.Stream(device) if self.usable else None  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if self.usable else None

    def forget(self) -> None:
        """Record all functions anew: what they read or write has moved or changed."""
        self._calls.clear()
        self._recordings.clear()

    def call(self, work: Callable[..., Tensors], *inputs: Tensor) -> Tensors:
        """Call a function, or replay it, recorded for each shape of its arguments. Its results are the caller's."""
        if not self.usable:
            return work(*inputs)
        key: _Key = (work.__name__, *(tensor.shape for tensor in inputs))
        if key not in self._recordings:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            recorded = self._record(work, inputs) if calls > _EAGER_CALLS else None
            if recorded is None:
                with self._beside():
                    return work(*inputs)
            self._recordings[key] = recorded
        recording = self._recordings[key]
        for kept, new in zip(recording.inputs, inputs, strict=True):
            kept.copy_(new)
        recording.graph.replay()
        return tuple(output.clone() for output in recording.outputs)

    def _record(self, work: Callable[..., Tensors], inputs: Tensors) -> _Recording | None:
        """Record a function, which computes nothing yet. From the first that cannot be recorded on, none is."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        inputs = tuple(tensor.clone() for tensor in inputs)
        try:
            # other threads may use the GPU meanwhile
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                outputs = work(*inputs)
        except RuntimeError:
            self.usable = False
            self.forget()
            for generator in self._generators:  # they still believe that they are recorded
                generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
            torch.cuda.synchronize()
            return None
        return _Recording(graph, inputs, outputs)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Compute on the stream of the recordings, and wait there and back."""
        assert self._stream is not None
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)
