"""The command line: the functions that the docks call too, with files at both ends.

Results go to standard output, progress and words to standard error. What needs torch is imported inside the commands,
so that help appears at once.
"""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from ..errors import DenoiserError
from . import denoise, evaluate, export, fit_noise, show_demo, train
from .console import say


class _Commands(TyperGroup):
    """Commands whose errors are one line that a user can act on, with exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
            message = f"{option}: {first['msg']}, found {first['input']}"
        except (DenoiserError, OSError, MemoryError) as error:
            message = str(error) or type(error).__name__
        say(f"Error: {' '.join(message.split())}")
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich would double the time until help appears
    help="Denoise microscopy images without clean ones: train HDN and a Direct Denoiser on noisy images alone.",
)
app.command()(train.train)
app.command("fit-noise")(fit_noise.fit_noise)
app.command()(denoise.denoise)
app.command()(evaluate.evaluate)
app.command()(evaluate.info)
app.command()(evaluate.compare)
app.command()(export.export)
app.command()(show_demo.demo)


def main() -> None:
    """Run the command line."""
    app()
