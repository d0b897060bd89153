"""Progress, messages and results of the commands.

Results go to standard output, progress and words to standard error. Rich is imported late: help needs none of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from ..progress import Progress, TrainingProgress


@contextmanager
def progress_bars() -> Iterator[Callable[[str, Progress], None]]:
    """Draw progress bars on standard error, one for each kind of work."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    tasks: dict[str, TaskID] = {}
    with RichProgress(*columns, console=Console(stderr=True)) as bars:

        def report(work: str, progress: Progress) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=1.0, words="")
            bars.update(tasks[work], completed=progress.fraction, words=_describe(progress))

        yield report


def _describe(progress: Progress) -> str:
    """Text beside the bar: the time left, and the losses of a training."""
    words = []
    if progress.remaining_seconds:
        minutes, seconds = divmod(math.ceil(progress.remaining_seconds), 60)
        words.append(f"{minutes}:{seconds:02d} left")
    if isinstance(progress, TrainingProgress):
        words += [f"step {progress.step}", f"-ELBO {progress.neg_elbo:.3f}"]
        words += [f"direct loss {progress.direct_loss:.4f}"]
    return "  ".join(words)


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
    """Write one line of strict JSON: infinity (PSNR of an image with itself) and NaN become null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [strict(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(strict(values), allow_nan=False))
