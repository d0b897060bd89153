"""The command ``denoise``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import DenoiseSettings, Method, ResultDtype
from ..errors import SettingError
from .console import print_json, progress_bars, say
from .options import Axes, Channel, Json, Model, named_like, open_image, setting

if TYPE_CHECKING:
    from ..prediction.tiling import Output

_DENOISE = DenoiseSettings()


def denoise(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Noisy image: a TIFF or npy file.")],
    model: Model,
    output: Annotated[Path, typer.Option(help="Image to write: .tif, .tiff or .npy; axes as the input.")],
    method: Annotated[Method, setting(_DENOISE, "method")] = _DENOISE.method,
    samples: Annotated[int, setting(_DENOISE, "samples")] = _DENOISE.samples,
    seed: Annotated[int, setting(_DENOISE, "seed")] = _DENOISE.seed,
    dtype: Annotated[ResultDtype, setting(_DENOISE, "dtype")] = _DENOISE.dtype,
    axes: Axes = None,
    channel: Channel = None,
    as_json: Json = False,
) -> None:
    """Denoise every plane of an image. Method sample stacks N samples in front of the image's own axes.

    Method std gives the standard deviation of the error of the direct pass, or with --samples that of so many samples.
    """
    DenoiseSettings(method=method, samples=samples, seed=seed, dtype=dtype)  # raises if a value makes no sense
    if method == "std" and dtype == "same":
        raise SettingError("Expected float32 for a standard deviation, found --dtype same: leave --dtype out")
    from ..data.dtypes import result_dtype
    from ..data.io import check_output, plan_image, write_planned
    from ..denoiser import load
    from ..prediction.tiling import in_one_pass
    from ..progress import drain

    check_output(output)
    file, known = open_image(image, axes, channel)
    denoiser = load(model)
    shape = file.data.shape
    used = denoiser.axes_of(shape, known)
    drawn = samples if method == "sample" else None
    pixels = result_dtype(dtype, file.data.dtype, method)
    plan = plan_image(output, shape, named_like(file, used), samples=drawn, dtype=pixels)
    planes = len(denoiser.planes(file.data, used).data)
    source = context.get_parameter_source("samples")
    of_samples = source is not None and source.name == "COMMANDLINE"
    wanted: Output = "sample_std" if method == "std" and of_samples else method
    steps = denoiser.denoise_steps(file.data, [wanted], samples=samples, seed=seed, axes=used)
    began = time.perf_counter()
    with progress_bars() as report:
        result = drain(steps, lambda progress: report(method, progress))[wanted]
    seconds = time.perf_counter() - began
    clipped = write_planned(plan, result)
    if clipped:
        say(f"{clipped} of {result.size} pixels were clipped to the range of {pixels}")
    say(f"{output}: {planes} planes in {seconds:.2f} s")
    if as_json:
        number = 0 if in_one_pass(denoiser.model, wanted) else samples
        print_json(seconds=seconds, method=method, samples=number, planes=planes, output=str(output))
