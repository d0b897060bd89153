"""The command ``denoise``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import DenoiseSettings, Method, OmeZarrVersion, ResultDtype
from ..errors import DenoiserError, SettingError
from .console import print_json, progress_bars, say
from .options import Axes, Channel, Json, Model, Student, setting

if TYPE_CHECKING:
    from ..prediction.cluster import Cluster
    from .denoise_file import Recipe

_DENOISE = DenoiseSettings()

Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Noisy images: TIFF, npy, .zarr, folders and patterns.")
]
Result = Annotated[
    Path, typer.Option(help="Image to write: .tif, .tiff, .npy or .zarr; axes as the input. Of many images: a folder.")
]
OmeZarr = Annotated[
    OmeZarrVersion | None,
    typer.Option(help="Version of a .zarr that is written; if not given, that of the input, or 0.5."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a .zarr, or the results in a folder, of another run.")
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Processes of this computer that write a .zarr together.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="dask scheduler whose workers write a .zarr, such as tcp://10.0.0.5:8786."),
]
Connect = Callable[[], "Cluster | None"]


def denoise(
    context: typer.Context,
    image: Images,
    model: Model,
    output: Result,
    student: Student = None,
    method: Annotated[Method, setting(_DENOISE, "method")] = _DENOISE.method,
    samples: Annotated[int, setting(_DENOISE, "samples")] = _DENOISE.samples,
    seed: Annotated[int, setting(_DENOISE, "seed")] = _DENOISE.seed,
    dtype: Annotated[ResultDtype, setting(_DENOISE, "dtype")] = _DENOISE.dtype,
    axes: Axes = None,
    channel: Channel = None,
    ome_zarr: OmeZarr = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Denoise every plane of an image, or of many. Method sample stacks N samples in front of the image's own axes.

    Method std gives the standard deviation of the error of the direct pass, or with --samples that of so many samples.
    A .zarr is written plane by plane; if that is interrupted, the same command goes on with it.
    """
    settings = DenoiseSettings(method=method, samples=samples, seed=seed, dtype=dtype)  # raises if it makes no sense
    if method == "std" and dtype == "same":
        raise SettingError("Expected float32 for a standard deviation, found --dtype same: leave --dtype out")
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("expected one of them, found both", param_hint="--workers, --scheduler")
    from ..data.many import find_images

    found = find_images(image)
    many = len(image) > 1 or found != image  # also a folder or a pattern with one image
    distributed = workers is not None or scheduler is not None
    if distributed:
        _check_written_by_block(found if many else [output])
    recipe = _recipe(
        context, model, student, settings, axes=axes, channel=channel, version=ome_zarr, overwrite=overwrite
    )
    if method == "direct" and (advice := recipe.denoiser.provenance.advice):
        say(f"Note: {advice}: choose --method mean where time allows")
    with ExitStack() as stack:

        def connect() -> Cluster | None:
            return _connect(stack, model, student, workers, scheduler) if distributed else None

        facts = (_denoise_many if many else _denoise_one)(recipe, found, output, connect)
    drawn = recipe.samples or 0
    if as_json:
        seconds, planes = facts.pop("seconds"), facts.pop("planes")
        print_json(seconds=seconds, method=method, samples=drawn, planes=planes, output=str(output), **facts)
    if failed := facts.get("failed"):
        raise DenoiserError(
            f"{len(failed)} of {len(found)} images could not be denoised, see above: mend them and start again, "
            "what is done is skipped"
        )


def _recipe(
    context: typer.Context, path: Path, student: str | None, settings: DenoiseSettings, **choices: Any
) -> Recipe:
    """Load the model, and collect what is done to each image."""
    from ..denoiser import load
    from .denoise_file import Recipe

    source = context.get_parameter_source("samples")
    of_samples = source is not None and source.name == "COMMANDLINE"
    output = "sample_std" if settings.method == "std" and of_samples else settings.method
    denoiser = load(path, student=student)
    return Recipe(denoiser, hashlib.sha256(path.read_bytes()).hexdigest(), student, settings, output, **choices)


def _denoise_one(recipe: Recipe, images: Sequence[Path], output: Path, connect: Connect) -> dict[str, Any]:
    from .denoise_file import FileWork

    work = FileWork(recipe, images[0], output)
    if work.is_done:
        say(f"{output} is done already, by the same model and settings")
        return {"seconds": 0.0, "planes": 0}
    cluster = connect()
    try:
        with progress_bars() as report:
            done = work.run(lambda progress: report(recipe.settings.method, progress), cluster)
    except KeyboardInterrupt:
        if work.to_zarr:
            say("Interrupted: the same command goes on with what is missing")
        raise
    if done.clipped:
        say(f"{done.clipped} of {work.result_pixels} pixels were clipped to the range of {work.dtype}")
    say(f"{output}: {done.planes} planes in {done.seconds:.2f} s")
    return {"seconds": done.seconds, "planes": done.planes}


def _denoise_many(recipe: Recipe, images: Sequence[Path], folder: Path, connect: Connect) -> dict[str, Any]:
    from .denoise_many import denoise_many

    with progress_bars() as report:
        method = recipe.settings.method
        outcome = denoise_many(recipe, images, folder, lambda progress: report(method, progress), connect)
    planes, seconds = (sum(getattr(each, name) for *_, each in outcome.done) for name in ("planes", "seconds"))
    skipped = sum(each.skipped for *_, each in outcome.done)
    if clipped := sum(each.clipped for *_, each in outcome.done):
        say(f"{clipped} pixels were clipped to the range of the images")
    say(f"{folder}: {len(outcome.done) - skipped} images, {planes} planes in {seconds:.2f} s; {skipped} done before")
    for path, error in outcome.failed:
        say(f"{path}: {error}")
    files = [
        {
            "input": str(path),
            "output": str(target),
            "planes": each.planes,
            "seconds": each.seconds,
            "skipped": each.skipped,
        }
        for path, target, each in outcome.done
    ]
    failed = [{"input": str(path), "error": error} for path, error in outcome.failed]
    return {"seconds": seconds, "planes": planes, "files": files, "failed": failed}


def _check_written_by_block(targets: Sequence[Path]) -> None:
    other = next((target for target in targets if target.suffix != ".zarr"), None)
    if other is not None:
        raise SettingError(
            f"Expected results that end in .zarr, which workers write block by block, found {other.name}: "
            "leave --workers and --scheduler out, or write .zarr"
        )


def _connect(stack: ExitStack, model: Path, student: str | None, workers: int | None, scheduler: str | None) -> Cluster:
    from ..denoiser import load
    from ..prediction.streaming import connect

    say(f"Starting {workers} workers …" if scheduler is None else f"Asking {scheduler} for its workers …")
    return stack.enter_context(
        connect(partial(load, student=student), model.read_bytes(), workers=workers, scheduler=scheduler)
    )
