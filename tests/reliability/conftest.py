"""How many cases a test tries: a sample in ``make test``, all in ``make reliability``, which also counts them.

A test that tries many cases takes the fixture `cases` for their number and calls `tally` at its end. The counts of
``make reliability`` become the table in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

FULL = "RELIABILITY_COUNTS" in os.environ
"""Whether this is ``make reliability``. The variable names the file of counts, a line of JSON each."""


@pytest.fixture(scope="session")
def cases() -> Callable[[int, int], int]:
    """Number of cases to try: ``cases(all, sample)``."""
    return lambda all_of_them, sample: all_of_them if FULL else sample


@pytest.fixture
def tally() -> Callable[[str, int, int], None]:
    """Write down what a test has tried: ``tally(what, tried, survived)``; fails if not all survived."""

    def write(what: str, tried: int, survived: int) -> None:
        if FULL:
            with Path(os.environ["RELIABILITY_COUNTS"]).open("a") as file:
                file.write(json.dumps({"what": what, "tried": tried, "survived": survived}) + "\n")
        assert tried > 0
        assert survived == tried, f"{what}: {tried - survived} of {tried} cases failed"

    return write
