"""The command ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import Student


def export(
    model: Annotated[Path, typer.Argument(metavar="M.safetensors", help="Model file made by train.")],
    onnx: Annotated[
        Path | None, typer.Option(metavar="OUT.onnx", help="Write an ONNX file: counts in, denoised counts out.")
    ] = None,
    bioimageio: Annotated[
        Path | None,
        typer.Option(metavar="OUT.zip", help="Write a package of bioimage.io, for Fiji (deepImageJ), ilastik, QuPath."),
    ] = None,
    student: Student = None,
) -> None:
    """Write the direct pass of a model for other software. Needs the extra "export"."""
    if onnx is None and bioimageio is None:
        raise typer.BadParameter("expected at least one of them, found none", param_hint="--onnx, --bioimageio")
    from ..denoiser import load
    from ..export.bioimageio_package import check_bioimageio, export_bioimageio
    from ..export.onnx_file import check_onnx, export_onnx

    denoiser = load(model, "cpu", student)
    if onnx is not None:
        check_onnx(denoiser, onnx)
    if bioimageio is not None:
        check_bioimageio(denoiser, bioimageio)
        export_bioimageio(denoiser, bioimageio)
        say(f"Wrote {bioimageio}")
    if onnx is not None:
        export_onnx(denoiser, onnx)
        say(f"Wrote {onnx}")
