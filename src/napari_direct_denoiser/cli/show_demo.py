"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_table, progress_bars, say


def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window, write a picture of it instead.")
    ] = False,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what the demo makes.")] = Path("demo"),
) -> None:
    """Train on a simulated stack (one minute), denoise it both ways, and show all side by side in napari."""
    from ..demo import PICTURE, has_screen, open_window, run_demo, take_picture

    with progress_bars() as report:
        result = run_demo(output, report)
    seconds = ["" if row.seconds is None else f"{row.seconds:.2f}" for row in result.rows]
    rows = [(row.method, f"{row.psnr:.2f}", time) for row, time in zip(result.rows, seconds, strict=True)]
    print_table(("method", "PSNR (dB)", "seconds"), rows)
    say(f"Model, images and table are in {output}")
    if headless or not has_screen():
        reason = take_picture(output)
        say(f"No picture: {reason}" if reason else f"Picture: {output / PICTURE}")
    elif reason := open_window(output):
        say(f"No window: {reason}")
