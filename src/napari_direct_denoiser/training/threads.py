"""In which threads the two networks compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads an operation inside, and as many as before outside."""
    before = torch.get_num_threads()
    if count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Immediate(Executor):
    """Runs what it is given at once, in the calling thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it; its result is there at once, an error is raised here."""
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future
