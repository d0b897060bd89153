"""The command line: the same functions as the docks call, with files at both ends.

Results go to standard output, progress and words to standard error. What needs torch is imported inside the commands,
so that help is there at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from typer.core import TyperGroup

from ..config import CompareSettings, DenoiseSettings, Device, Loss, Method, PresetChoice, TrainSettings
from ..errors import DenoiserError, TrainingError
from .console import print_json, print_table, progress_bars, say

if TYPE_CHECKING:
    from ..data.io import ImageFile
    from ..denoiser import Denoiser
    from ..progress import TrainingProgress


class _Commands(TyperGroup):
    """Commands whose errors are one line that a person can act on, and exit status 1."""

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
    rich_markup_mode=None,  # loading rich for it would double the time that help takes
    help="Denoise microscopy images without clean ones: train HDN and a Direct Denoiser on noisy images alone.",
)

_TRAIN, _DENOISE, _COMPARE = TrainSettings(), DenoiseSettings(), CompareSettings()
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
_Model = Annotated[Path, typer.Option("--model", metavar="M.safetensors", help="Model file made by train.")]


def _setting(settings: BaseModel, name: str, *flags: str) -> Any:
    """Make an option for a field of the settings, described by the field."""
    return typer.Option(*flags, help=type(settings).model_fields[name].description)


@app.command()
def train(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Noisy images: TIFF or npy files.")],
    model: Annotated[Path, typer.Option(metavar="M.safetensors", help="Model file to write.")],
    preset: Annotated[PresetChoice, _setting(_TRAIN, "preset")] = _TRAIN.preset,
    noise: Annotated[str, _setting(_TRAIN, "noise")] = _TRAIN.noise,
    refine_noise: Annotated[bool, _setting(_TRAIN, "refine_noise", "--refine-noise")] = _TRAIN.refine_noise,
    loss: Annotated[Loss, _setting(_TRAIN, "loss")] = _TRAIN.loss,
    structured: Annotated[bool, _setting(_TRAIN, "structured", "--structured")] = _TRAIN.structured,
    axes: Annotated[
        str | None, typer.Option(metavar="TYX", help="Axes of the images; those of the files if not given.")
    ] = None,
    max_minutes: Annotated[float | None, _setting(_TRAIN, "max_minutes")] = _TRAIN.max_minutes,
    max_steps: Annotated[int | None, _setting(_TRAIN, "max_steps")] = _TRAIN.max_steps,
    seed: Annotated[int, _setting(_TRAIN, "seed")] = _TRAIN.seed,
    device: Annotated[Device, _setting(_TRAIN, "device")] = _TRAIN.device,
    as_json: _Json = False,
) -> None:
    """Train a model on noisy images. Ctrl-C stops and keeps the model so far."""
    settings = TrainSettings(
        preset=preset,
        noise=noise,
        refine_noise=refine_noise,
        loss=loss,
        structured=structured,
        max_minutes=max_minutes,
        max_steps=max_steps,
        seed=seed,
        device=device,
    )
    from ..checkpoint import check_model_output
    from ..data.io import read_image
    from ..denoiser import Denoiser

    check_model_output(model)
    data, axes = _training_images([read_image(path) for path in images], axes)
    denoiser = Denoiser.for_images(data, settings, axes=axes)
    say(f"Noise: {denoiser.model.noise.describe()}")
    for finding in denoiser.findings:
        say(f"Note: {finding.words}")
    last, stopped = _train(denoiser)
    denoiser.save(model)
    say(f"{model}: {last.step} steps in {last.elapsed_seconds:.0f} s ({stopped})")
    if as_json:
        print_json(steps=last.step, seconds=last.elapsed_seconds, stopped=stopped, model=str(model))


@app.command("fit-noise")
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
    as_json: _Json = False,
) -> None:
    """Fit a noise model to noisy images alone, or to a calibration, and write it as the published code does."""
    from ..data.files import check_target
    from ..data.images import as_planes
    from ..data.io import read_image
    from ..noise import NPZ, calibrate, diagnose, fit_images, mixture_of, write_npz

    check_target(output, [NPZ], what="noise model")
    files = [read_image(path) for path in images]
    stacks = [as_planes(file.data, file.axes, name=str(path)) for path, file in zip(images, files, strict=True)]
    frames = [planes.frames for planes in stacks]
    if calibration or signal is not None:
        clean = None if signal is None else read_image(signal)
        signals = None if clean is None else as_planes(clean.data, clean.axes, name=str(signal)).data
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


@app.command()
def denoise(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Noisy image: a TIFF or npy file.")],
    model: _Model,
    output: Annotated[Path, typer.Option(help="Image to write: .tif, .tiff or .npy; float32, axes as the input.")],
    method: Annotated[Method, _setting(_DENOISE, "method")] = _DENOISE.method,
    samples: Annotated[int, _setting(_DENOISE, "samples")] = _DENOISE.samples,
    seed: Annotated[int, _setting(_DENOISE, "seed")] = _DENOISE.seed,
    as_json: _Json = False,
) -> None:
    """Denoise every plane of an image. Method sample stacks N samples in front of the image's own axes."""
    DenoiseSettings(method=method, samples=samples, seed=seed)  # refuses what makes no sense
    from ..data.io import check_output, read_image, write_image
    from ..denoiser import load
    from ..progress import drain

    check_output(output)
    file = read_image(image)
    denoiser = load(model)
    planes = len(denoiser.planes(file.data, file.axes).data)
    steps = denoiser.denoise_steps(file.data, [method], samples=samples, seed=seed, axes=file.axes)
    began = time.perf_counter()
    with progress_bars() as report:
        result = drain(steps, lambda progress: report(method, progress))[method]
    seconds = time.perf_counter() - began
    write_image(output, result, like=file)
    say(f"{output}: {planes} planes in {seconds:.2f} s")
    if as_json:
        drawn = 0 if method == "direct" else samples
        print_json(seconds=seconds, method=method, samples=drawn, planes=planes, output=str(output))


@app.command()
def evaluate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to judge: a TIFF or npy file.")],
    truth: Annotated[Path, typer.Option(help="The same without noise: of the image's shape, or one plane for all.")],
    as_json: _Json = False,
) -> None:
    """Compare every plane with the truth: PSNR (dB, as in the paper) and SSIM, and their means."""
    from ..data.images import as_planes, check_planes
    from ..data.io import read_image
    from ..evaluation.metrics import evaluate as compare

    planes = []
    for path in (image, truth):
        file = read_image(path)
        planes.append(as_planes(file.data, file.axes, name=str(path)))
        seen = planes[-1]
        if seen.data.dtype.kind in "iu":  # flat areas make labels of a noisy image, but are fine in a truth
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


@app.command()
def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file made by train.")], as_json: _Json = False
) -> None:
    """Show what is in a model file."""
    from ..denoiser import load

    summary = load(model, device="cpu").summary()
    if as_json:
        print_json(**summary)
    else:
        parts = ", ".join(f"{network} {count:,}" for network, count in summary["parameters"].items())
        shown = {**summary, "parameters": parts}
        print_table(("", str(model)), [(name, str(value)) for name, value in shown.items()])


@app.command()
def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Noisy image: a TIFF or npy file.")],
    model: _Model,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the table (CSV) and the images (TIFF).")],
    truth: Annotated[
        Path | None, typer.Option(help="The same without noise: of the image's shape, or one plane for all.")
    ] = None,
    samples: Annotated[str, _setting(_COMPARE, "samples")] = ",".join(map(str, _COMPARE.samples)),
    as_json: _Json = False,
) -> None:
    """Compare the direct pass with means of HDN: Table 1 and Figure 1 of the paper on your own data.

    DIR/compare.csv is the table and the curve (PSNR over seconds); no figure is drawn.
    """
    counts = CompareSettings.model_validate({"samples": samples}).samples
    from .compare_files import compare_files

    with progress_bars() as report:
        rows = compare_files(image, model, truth, counts, output, lambda progress: report("comparing", progress))
    say(f"Table and images are in {output}")
    if as_json:
        print_json(rows=[asdict(row) for row in rows])
        return
    figure, name = ("PSNR (dB)", "psnr") if truth else ("RMS from the last mean", "rms_from_final_mean")
    lines = [(row.name, f"{row.seconds:.3f}", f"{getattr(row, name):.2f}") for row in rows]
    print_table(("method", "seconds", figure), lines)


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window, write a picture of it instead.")
    ] = False,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what the demo makes.")] = Path("demo"),
) -> None:
    """Train on a simulated stack (one minute), denoise it both ways, and show all side by side in napari."""
    from ..demo import PICTURE, has_screen, run_demo, take_picture

    with progress_bars() as report:
        result = run_demo(output, report)
    seconds = ["" if row.seconds is None else f"{row.seconds:.2f}" for row in result.rows]
    rows = [(row.method, f"{row.psnr:.2f}", time) for row, time in zip(result.rows, seconds, strict=True)]
    print_table(("method", "PSNR (dB)", "seconds"), rows)
    say(f"Model, images and table are in {output}")
    if headless or not has_screen():
        reason = take_picture(output)
        say(f"No picture: {reason}" if reason else f"Picture: {output / PICTURE}")
        return
    try:
        from .._napari.demo_view import show

        show(result.images)
    except ImportError as error:
        say(f"No window: {error}; pip install 'napari-direct-denoiser[all]' brings napari")


def main() -> None:
    """Run the command line."""
    app()


def _training_images(files: list[ImageFile], axes: str | None) -> tuple[list[Any], str | None]:
    """Give images and the axes they have in common; files that name different ones are brought to planes."""
    from ..data.images import as_planes

    named = {file.axes for file in files} if axes is None else {axes}
    if len(named) == 1:
        return [file.data for file in files], named.pop()
    return [as_planes(file.data, file.axes).data for file in files], "TYX"


def _train(denoiser: Denoiser) -> tuple[TrainingProgress, str]:
    """Train to the end or until Ctrl-C; give the last record, and why training ended."""
    last: TrainingProgress | None = None
    steps = denoiser.train_steps()
    with _stop_requests() as stop, progress_bars() as report:
        for last in steps:
            report("training", last)
            if stop.is_set():
                break
    if last is None:
        raise TrainingError("Training ended before its first step, there is no model to keep: start it again")
    return last, last.stopped or "interrupted"


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request, so that training stops between two steps; a second one stops at once."""
    requested = threading.Event()

    def on_interrupt(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, before)
