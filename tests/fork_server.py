"""Processes that begin at once: a server has imported what they need, slowly, and is forked for each."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()


def context() -> Any:
    """Where processes are made; on a system that cannot fork, each begins anew."""
    if not CAN_FORK:
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["works", "torch._dynamo"])  # the latter is what optimizers import
    with patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent / "reliability")):  # where `works` is
        forkserver.ensure_running()
    return found
