"""What the commands say while they run, and what they print at the end.

Results go to standard output, progress and words to standard error. Rich is imported late: help needs none of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .prediction import PredictionProgress
    from .training import TrainingProgress


@contextmanager
def progress_bars() -> Iterator[Callable[[str, TrainingProgress | PredictionProgress], None]]:
    """Draw bars on standard error, one for each kind of work that is reported."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def report(work: str, progress: TrainingProgress | PredictionProgress) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=1.0, words="")
            fraction, words = _describe(progress)
            bars.update(tasks[work], completed=fraction, words=words)

        yield report


def _describe(progress: TrainingProgress | PredictionProgress) -> tuple[float, str]:
    """Give the part of the work that is done, 0 to 1, and words for beside the bar."""
    from .prediction import PredictionProgress

    words = []
    if progress.remaining_seconds:
        minutes, seconds = divmod(math.ceil(progress.remaining_seconds), 60)
        words.append(f"{minutes}:{seconds:02d} left")
    if not isinstance(progress, PredictionProgress):
        words += [f"step {progress.step}", f"ELBO {progress.elbo:.3f}", f"direct loss {progress.direct_loss:.4f}"]
        return progress.fraction, "  ".join(words)
    return progress.done / progress.total, "  ".join(words)


def say(words: str) -> None:
    """Write words to standard error."""
    typer.echo(words, err=True)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Write a table to standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table, highlight=False)


def print_json(**values: Any) -> None:
    """One line of strict JSON, which has no word for infinity (PSNR of an image with itself) or NaN."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [strict(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(strict(values), allow_nan=False))
