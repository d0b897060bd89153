"""The commands ``evaluate``, ``info`` and ``compare``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ..config import CompareSettings
from ..progress import drain
from .console import print_json, print_table, progress_bars, say
from .options import Axes, Channel, FileAxes, Json, Model, Student, channel_of, open_image, setting

_COMPARE = CompareSettings()
_SAMPLES = 8  # from which the mean of many is judged


def evaluate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to judge: a TIFF or npy file.")],
    truth: Annotated[
        Path | None, typer.Option(help="The same without noise: of the image's shape, or one plane for all.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="M.safetensors", help="Model file: how well does it denoise the image?")
    ] = None,
    student: Student = None,
    axes: FileAxes = None,
    channel: Channel = None,
    as_json: Json = False,
) -> None:
    """Judge a denoised image by its truth, or a model by a noisy image alone.

    With --truth: PSNR (dB, as in the paper) and SSIM of every plane, and their means. With --model: the estimated gain
    of the direct pass over the best Gaussian blur, and whether the mean of samples of HDN is better still.
    """
    if (truth is None) == (model is None):
        found = "neither" if truth is None else "both"
        raise typer.BadParameter(
            f"expected one of --truth (IMAGE is a result) and --model (IMAGE is noisy), found {found}",
            param_hint="--truth, --model",
        )
    if model is None and student is not None:
        raise typer.BadParameter("expected --model with it, found --truth", param_hint="--student")
    if model is not None:
        _judge(image, model, student, axes, channel, as_json)
    else:
        assert truth is not None
        _score(image, truth, axes, channel, as_json)


def _judge(image: Path, model: Path, student: str | None, axes: str | None, channel: int | None, as_json: bool) -> None:
    """Estimate the gain of a model on a noisy image."""
    from ..config import MIN_SIDE
    from ..data.images import check_planes
    from ..denoiser import load
    from ..evaluation.referee import referee_steps

    denoiser = load(model, student=student)
    file, known = open_image(image, axes, channel)
    planes = denoiser.planes(file.data, known)
    check_planes(planes, min_side=MIN_SIDE, name=str(image))
    with progress_bars() as report:
        steps = referee_steps(denoiser.model, planes.frames, samples=_SAMPLES)
        found = drain(steps, lambda progress: report("judging", progress))
    if as_json:
        print_json(
            estimated_gain_db=found.gain_db,
            estimated_gain_error_db=found.error_db,
            estimated_gain_why=found.why,
            estimated_over_mean_db=found.over_mean_db,
            estimated_over_mean_error_db=found.over_mean_error_db,
            blur_sigma=found.blur_sigma,
            recommended=found.best,
        )
    else:
        typer.echo(found.words)


def _score(image: Path, truth: Path, axes: str | None, channel: int | None, as_json: bool) -> None:
    """Compare every plane with the truth, which may have no channels."""
    from ..data.images import as_planes, check_planes
    from ..evaluation.metrics import evaluate as compare

    planes = []
    for path in (image, truth):
        file, known = open_image(path)
        if axes and len(axes) == file.data.ndim:  # the truth may be one plane
            known = axes
        if path == image or "C" in (known or file.axes or "").upper():
            file, known = channel_of(file, known, channel, str(path))
        planes.append(as_planes(file.data, known, name=str(path)))
        seen = planes[-1]
        if seen.data.dtype.kind in "iu":  # flat areas look like labels, but a truth may have them
            seen = replace(seen, data=seen.data.astype("float32"))
        check_planes(seen, min_side=1, name=str(path), require_contrast=False)
    result = compare(*(each.data for each in planes))
    if as_json:
        print_json(
            psnr=result.psnr,
            ssim=result.ssim,
            psnr_per_plane=list(result.psnr_per_plane),
            ssim_per_plane=list(result.ssim_per_plane),
        )
        return
    pairs = zip(result.psnr_per_plane, result.ssim_per_plane, strict=True)
    rows = [(str(number), f"{psnr:.2f}", f"{ssim:.4f}") for number, (psnr, ssim) in enumerate(pairs)]
    print_table(("plane", "PSNR (dB)", "SSIM"), [*rows, ("mean", f"{result.psnr:.2f}", f"{result.ssim:.4f}")])


def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file made by train.")],
    student: Student = None,
    methods: Annotated[
        bool, typer.Option("--methods", help="Show instead a paragraph for the methods section of a paper.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is in a model file."""
    from ..denoiser import load
    from ..training.methods import methods_paragraph

    denoiser = load(model, "cpu", student)
    if methods:
        words = methods_paragraph(denoiser)
        print_json(methods=words) if as_json else typer.echo(words)
        return
    summary = denoiser.summary()
    if as_json:
        print_json(**summary)
    else:
        parts = ", ".join(f"{network} {count:,}" for network, count in summary["parameters"].items())
        shown = {**summary, "parameters": parts, "students": ", ".join(summary["students"])}
        print_table(("", str(model)), [(name, str(value)) for name, value in shown.items()])


def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Noisy image: a TIFF or npy file.")],
    model: Model,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the table (CSV) and the images (TIFF).")],
    truth: Annotated[
        Path | None, typer.Option(help="The same without noise: of the image's shape, or one plane for all.")
    ] = None,
    student: Student = None,
    samples: Annotated[str, setting(_COMPARE, "samples")] = ",".join(map(str, _COMPARE.samples)),
    axes: Axes = None,
    channel: Channel = None,
    as_json: Json = False,
) -> None:
    """Compare the direct pass with means of HDN: Table 1 and Figure 1 of the paper on your own data.

    DIR/compare.csv is the table and the curve (PSNR over seconds); no figure is drawn.
    """
    counts = CompareSettings.model_validate({"samples": samples}).samples
    from .compare_files import compare_files

    with progress_bars() as report:
        rows = compare_files(
            image,
            model,
            truth,
            counts,
            output,
            lambda progress: report("comparing", progress),
            student=student,
            axes=axes,
            channel=channel,
        )
    say(f"Table and images are in {output}")
    if as_json:
        print_json(rows=[asdict(row) for row in rows])
        return
    figure, name = ("PSNR (dB)", "psnr") if truth else ("RMS from the last mean", "rms_from_final_mean")
    lines = [(row.name, f"{row.seconds:.3f}", f"{getattr(row, name):.2f}") for row in rows]
    print_table(("method", "seconds", figure), lines)
