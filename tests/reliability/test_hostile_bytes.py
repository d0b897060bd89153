"""Valid files that are changed at random: each is read, or refused in words, within a moment, and nothing else happens.

The files are small, and the changes those of a damaged disk (by bytes) and of somebody who knows the format (by parts:
with a right checksum). Each chunk of cases runs in a process of its own, so that a crash of a library is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hostile
import pytest
from other_process import needs_fork, outcome

pytestmark = needs_fork

CHUNK = 250
CASES = {
    "model files, by bytes": (3_000, 20),
    "model files, by parts": (3_000, 20),
    "noise files": (3_000, 30),
    "zarr metadata": (3_000, 30),
    "TIFF files": (2_500, 30),
}


@pytest.mark.parametrize("what", CASES)
def test_a_changed_file_is_read_or_refused_in_words(
    what: str, tmp_path: Path, cases: Callable[[int, int], int], tally: Callable[[str, int, int], None]
) -> None:
    number, wrong, seen = cases(*CASES[what]), list[str](), Counter[str]()
    for chunk, first in enumerate(range(0, number, CHUNK)):
        folder = tmp_path / str(chunk)
        folder.mkdir()
        failed, counts = outcome(hostile.fuzz, what, range(first, min(first + CHUNK, number)), folder)
        wrong += failed
        seen += counts
    if number == CASES[what][0]:  # in a sample, every change may hit something that counts
        assert seen["read"] > 0, "all were refused: the valid file is none"
    assert seen["refused"] > 0.3 * number, seen
    print(*wrong, sep="\n")
    tally(f"changed {what}", number, number - len(wrong))
