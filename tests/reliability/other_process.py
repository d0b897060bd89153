"""Work in processes of its own that begin at once: a server has imported what they need, and is forked for each.

A test hands over a function of `works` by itself, and gets what it returns; or kills its process at some moment.
"""

from __future__ import annotations

import inspect
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import fork_server
import numpy as np
import pytest

SECONDS = 120.0  # that a process may take
_BEGUN = "begun"
needs_fork = pytest.mark.skipif(not fork_server.CAN_FORK, reason="this system cannot fork a process")


class DiedError(AssertionError):
    """The process ended without a result."""


def outcome(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Do the work in another process, and give what it returns; fails with its traceback if it raises."""
    with _started(partial(work, **options), arguments) as (process, there):
        found = _next(process, there)
    if isinstance(found, _Failure):
        raise AssertionError(found.text)
    return found


def duration(work: Callable[..., Any], *arguments: Any) -> float:
    """Seconds that the work takes in another process."""
    with _started(work, arguments) as (process, there):
        began = time.perf_counter()
        _next(process, there)
        return time.perf_counter() - began


def killed(seconds: float, work: Callable[..., Any], *arguments: Any) -> bool:
    """Kill the process of a work so many seconds after it has begun; whether that was before its end.

    A generator has begun when it yields.
    """
    with _started(work, arguments) as (process, there):
        time.sleep(seconds)
        process.kill()
        process.join()
        try:
            there.recv()
        except EOFError:
            return bool(process.exitcode == -signal.SIGKILL)
        return False


def moments(count: int, most: float) -> Iterator[float]:
    """Random moments, evenly spread up to the longest; without end, as some come too late."""
    rng = np.random.default_rng(0)
    while True:
        yield from most * (rng.permutation(count) + rng.uniform(size=count)) / count


@dataclass
class _Failure:
    text: str


@contextmanager
def _started(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Connection]]:
    """A process that has begun with its work."""
    context = fork_server.context()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        found = _next(process, here)
        assert found == _BEGUN, found
        yield process, here
    finally:
        process.kill()
        process.join()
        here.close()


def _next(process: Any, there: Connection) -> Any:
    if not there.poll(SECONDS):
        raise DiedError(f"the process did nothing for {SECONDS:g} s")
    try:
        return there.recv()
    except EOFError:
        process.join()
        raise DiedError(f"the process ended with {process.exitcode}") from None


def _do(there: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        if not inspect.isgeneratorfunction(work):
            there.send(_BEGUN)
            there.send(work(*arguments))
            return
        for _ in work(*arguments):
            there.send(_BEGUN)
        there.send(None)
    except BaseException:
        there.send(_Failure(traceback.format_exc()))
