"""The command ``train``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import Device, Loss, PresetChoice, TrainSettings
from ..errors import DenoiserError, ImageError, TrainingError
from ..progress import HARDLY_DB
from .console import print_json, progress_bars, say
from .options import FileAxes, Json, channel_of, setting

if TYPE_CHECKING:
    from ..data.io import ImageFile
    from ..denoiser import Denoiser
    from ..progress import TrainingProgress

_TRAIN = TrainSettings()
_SAVE_SECONDS = 50.0  # between saves of the model so far: with steps of up to 10 s, at least once a minute


def train(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Noisy images: TIFF or npy files.")],
    model: Annotated[Path, typer.Option(metavar="M.safetensors", help="Model file to write.")],
    preset: Annotated[PresetChoice, setting(_TRAIN, "preset")] = _TRAIN.preset,
    noise: Annotated[str, setting(_TRAIN, "noise")] = _TRAIN.noise,
    refine_noise: Annotated[bool, setting(_TRAIN, "refine_noise", "--refine-noise")] = _TRAIN.refine_noise,
    loss: Annotated[Loss, setting(_TRAIN, "loss")] = _TRAIN.loss,
    structured: Annotated[bool, setting(_TRAIN, "structured", "--structured")] = _TRAIN.structured,
    axes: FileAxes = None,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="N|each",
            help="Channel to train on, from 0; or each: one model a channel, M-c0.safetensors, M-c1.safetensors ...",
        ),
    ] = None,
    max_minutes: Annotated[float | None, setting(_TRAIN, "max_minutes")] = _TRAIN.max_minutes,
    max_steps: Annotated[int | None, setting(_TRAIN, "max_steps")] = _TRAIN.max_steps,
    seed: Annotated[int, setting(_TRAIN, "seed")] = _TRAIN.seed,
    device: Annotated[Device, setting(_TRAIN, "device")] = _TRAIN.device,
    as_json: Json = False,
) -> None:
    """Train a model on noisy images. Ctrl-C or a termination signal stops and keeps the model so far.

    The best model so far is also written every minute.
    """
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
    if channel not in (None, "each") and not channel.isdecimal():
        raise typer.BadParameter(f"expected a number from 0, or each, found {channel}", param_hint="--channel")
    from ..checkpoint import check_model_output
    from ..data.io import read_image

    check_model_output(model)
    files = [read_image(path) for path in images]
    targets = _targets(model, files, axes, channel)
    for path in targets:
        check_model_output(path)
    # All of them before the first is trained, so that errors come before any work.
    denoisers = {path: _prepared(files, images, axes, number, settings) for path, number in targets.items()}
    with _stop_requests() as stop:
        results = []
        for path, denoiser in denoisers.items():
            results.append(_train(denoiser, path, stop))
            if stop.is_set():
                break
    if as_json:
        sums = {name: sum(each[name] for each in results) for name in ("steps", "seconds")}
        print_json(**{**results[-1], **sums}, **({"models": results} if channel == "each" else {}))


def _targets(model: Path, files: Sequence[ImageFile], axes: str | None, channel: str | None) -> dict[Path, int | None]:
    """Model files to write, and the channel that each is trained on."""
    if channel != "each":
        return {model: None if channel is None else int(channel)}
    from ..data.images import channel_count

    counts = {channel_count(file.data.shape, axes or file.axes) for file in files}
    if len(counts) > 1 or counts == {1}:
        found = " and ".join(map(str, sorted(counts)))
        raise ImageError(
            f"Expected images with the same number of channels, 2 or more, found {found}: name the axes, for example "
            "--axes TCYX, or leave --channel out"
        )
    return {model.with_name(f"{model.stem}-c{number}{model.suffix}"): number for number in range(counts.pop())}


def _prepared(
    files: Sequence[ImageFile], paths: Sequence[Path], axes: str | None, channel: int | None, settings: TrainSettings
) -> Denoiser:
    """Check the images, or one channel of them, and build the untrained model."""
    from ..data.images import as_planes
    from ..denoiser import Denoiser

    names = [str(path) for path in paths]
    opened = [channel_of(file, axes, channel, name) for file, name in zip(files, names, strict=True)]
    known = {axes for _, axes in opened}
    if len(known) == 1:
        return Denoiser.for_images([file.data for file, _ in opened], settings, axes=known.pop())
    planes = [as_planes(file.data, axes, name=name).data for (file, axes), name in zip(opened, names, strict=True)]
    return Denoiser.for_images(planes, settings, axes="TYX")


def _train(denoiser: Denoiser, path: Path, stop: threading.Event) -> dict[str, Any]:
    """Train to the end or until a signal, and write the model; what ``--json`` tells of it."""
    say(f"Noise: {denoiser.model.noise.describe()}")
    for finding in denoiser.findings:
        say(f"Note: {finding.words}")
    last: TrainingProgress | None = None
    saved = time.monotonic()
    with progress_bars() as report:
        for last in denoiser.train_steps():
            report("training", last)
            if stop.is_set():
                break
            if time.monotonic() - saved >= _SAVE_SECONDS:
                try:
                    denoiser.save(path)
                except DenoiserError as error:  # the training is worth more than this copy
                    say(f"Note: {error}")
                saved = time.monotonic()
    if last is None:
        raise TrainingError("Training ended before its first step, there is no model to keep: start it again")
    denoiser.save(path)
    stopped = last.stopped or "interrupted"
    say(f"{path}: {last.step} steps in {last.elapsed_seconds:.0f} s ({stopped})")
    for words in _judged(last):
        say(words)
    return {
        "steps": last.step,
        "seconds": last.elapsed_seconds,
        "stopped": stopped,
        "model": str(path),
        "estimated_gain_db": last.estimated_gain_db,
        "estimated_gain_error_db": last.estimated_gain_error_db,
        "estimated_gain_why": last.estimated_gain_why,
    }


def _judged(last: TrainingProgress) -> list[str]:
    """Say how good the model is, and whether longer training would help."""
    if last.estimated_gain_db is None or last.estimated_gain_error_db is None:
        return [] if last.estimated_gain_why is None else [f"Quality is not known. {last.estimated_gain_why}"]
    gain = f"{last.estimated_gain_db:.2f} dB (standard error {last.estimated_gain_error_db:.2f})"
    words = [f"Estimated gain over the best Gaussian blur: {gain}"]
    if last.estimated_gain_db < HARDLY_DB:
        words.append("A blur would do as well")
    if last.estimated_rise_db is not None:
        would = "would hardly help" if last.estimated_rise_db < HARDLY_DB else "may help"
        words.append(
            f"The second half of the training brought {last.estimated_rise_db:.2f} dB: longer training {would}"
        )
    return words


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request to stop after this step; a SIGINT after that stops at once."""
    requested = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
