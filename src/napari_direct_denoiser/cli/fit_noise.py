"""The command ``fit-noise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_json, say
from .options import FileAxes, Json, open_image


def fit_noise(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Noisy images or a calibration: TIFF or npy.")],
    output: Annotated[Path, typer.Option(metavar="NOISE.npz", help="Noise model to write, for train --noise.")],
    calibration: Annotated[
        bool,
        typer.Option("--calibration", help="The images are frames of one static scene, or of smooth scenes."),
    ] = False,
    signal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Clean image or images that the noisy ones belong to.")
    ] = None,
    axes: FileAxes = None,
    as_json: Json = False,
) -> None:
    """Fit a noise model to noisy images alone, or to a calibration, and write it as the published code does."""
    from ..data.files import check_target
    from ..data.images import as_planes
    from ..noise import NPZ, calibrate, diagnose, fit_images, mixture_of, write_npz

    check_target(output, [NPZ], what="noise model")
    stacks = []
    for path in images:
        file, known = open_image(path, axes)
        stacks.append(as_planes(file.data, known, name=str(path)))
    frames = [planes.frames for planes in stacks]
    if calibration or signal is not None:
        signals = None
        if signal is not None:
            clean, known = open_image(signal)
            signals = as_planes(clean.data, known, name=str(signal)).data
        fit = calibrate([planes.data for planes in stacks], signals)
    else:
        fit = fit_images(frames)
    write_npz(output, mixture_of(fit))
    words = [finding.words for finding in diagnose(frames, fit)]
    for warning in words:
        say(f"Note: {warning}")
    say(f"{output}: {fit.model.describe()}, from {fit.source}")
    if as_json:
        gain, offset, read_noise = fit.camera()
        print_json(
            kind=fit.model.kind,
            gain=gain,
            offset=offset,
            read_noise=read_noise,
            signal_range=list(fit.signal_range),
            warnings=words,
        )
