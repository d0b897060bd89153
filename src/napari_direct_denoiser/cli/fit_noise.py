"""The command ``fit-noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import print_json, say
from .options import FileAxes, Json, open_image

if TYPE_CHECKING:
    from ..noise import NoiseFit

Output = Annotated[
    Path,
    typer.Option(
        metavar="NOISE.json",
        help="Noise model to write, for train --noise: .json for any, .npz, which the published code reads, for "
        "noise that is independent from pixel to pixel.",
    ),
]


def fit_noise(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Noisy images or a calibration: TIFF or npy.")],
    output: Output,
    calibration: Annotated[
        bool,
        typer.Option("--calibration", help="The images are frames of one static scene, or of smooth scenes."),
    ] = False,
    signal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Clean image or images that the noisy ones belong to.")
    ] = None,
    correlated: Annotated[
        bool,
        typer.Option(
            "--correlated",
            help="As --calibration, but fit correlated noise even if the correlation of neighbours is at most 0.1.",
        ),
    ] = False,
    axes: FileAxes = None,
    as_json: Json = False,
) -> None:
    """Fit a noise model to noisy images alone, or to a calibration, and write it to a file."""
    from ..data.files import check_target
    from ..data.images import as_planes
    from ..errors import SettingError
    from ..noise import JSON, NPZ, calibrate, diagnose, write_noise
    from ..noise import fit_noise as fit_images

    check_target(output, [NPZ, JSON], what="noise model")
    if correlated and output.suffix.lower() == NPZ:
        raise SettingError(f"Expected a {JSON} file for correlated noise, found {output}: change its suffix")
    stacks = []
    for path in images:
        file, known = open_image(path, axes)
        stacks.append(as_planes(file.data, known, name=str(path)))
    frames = [planes.frames for planes in stacks]
    if calibration or correlated or signal is not None:
        signals = None
        if signal is not None:
            clean, known = open_image(signal)
            signals = as_planes(clean.data, known, name=str(signal)).data
        fit = calibrate([planes.data for planes in stacks], signals, correlated=correlated)
    else:
        fit = fit_images("auto", frames)
    write_noise(output, fit)
    words = [finding.words for finding in diagnose(frames, fit)]
    for warning in words:
        say(f"Note: {warning}")
    say(f"{output}: {fit.model.describe()}, from {fit.source}")
    _report_correlation(fit)
    if as_json:
        (gain, offset, read_noise), lags = fit.camera(), fit.autocorrelation
        print_json(
            kind=fit.model.kind,
            gain=gain,
            offset=offset,
            read_noise=read_noise,
            signal_range=list(fit.signal_range),
            autocorrelation=None if lags is None else lags.lags.tolist(),
            warnings=words,
        )


def _report_correlation(fit: NoiseFit) -> None:
    lags = fit.autocorrelation
    if lags is not None and lags.measured:
        along = (("x", lags.along_x), ("y", lags.along_y))
        parts = [f"along {axis} " + ", ".join(f"{value:.2f}" for value in values[1:4]) for axis, values in along]
        say(f"Correlation of the noise 1, 2 and 3 pixels away: {', '.join(parts)}")
