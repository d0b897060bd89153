"""What other processes do in the tests of faults: write files of every kind, and train.

The process is thrown away afterwards, so these change limits, presets and mounts for good.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, DenoiserError, TrainSettings
from napari_direct_denoiser.cli import app, train
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.io import plan_image, write_image, write_planned
from napari_direct_denoiser.data.synthetic import simulate
from napari_direct_denoiser.noise import MixtureNoise, write_noise
from napari_direct_denoiser.presets import PRESETS
from napari_direct_denoiser.training import calibrate, clock, course, mean_or_direct, validation

NOISE = "poisson:2,100,3"
STACK = simulate(planes=4, size=64, seed=0).noisy
SETTINGS = TrainSettings(preset="quick", noise=NOISE, device="cpu", max_steps=12)
_QUICK = PRESETS["quick"]
TINY = _QUICK.model_copy(
    update={
        "model": ModelConfig(
            hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
            direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True),
            units="noise",
        ),
        "schedule": _QUICK.schedule.model_copy(update={"patch": 32, "validate_every": 4}),
        "pretrained": False,
    }
)


def shrink() -> None:
    """Let everything that happens in a long training happen in few steps of small networks."""
    torch.set_num_threads(1)
    PRESETS["quick"] = TINY
    clock.YIELD_SECONDS = 0.0
    validation._PATCHES = 4
    course._FIRST_CALIBRATION = 4
    calibrate._PIXELS, mean_or_direct._SAMPLES, mean_or_direct._SIDE = 5_000, 2, 32
    train._SAVE_SECONDS = 0.0  # after every step


def call(*arguments: str) -> tuple[int, str]:
    """Run the command line: exit status and standard error."""
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stderr


@cache
def model() -> Denoiser:
    """A small model that is not trained."""
    shrink()
    return Denoiser.for_images(STACK, SETTINGS)


# Work that is killed.

WEIGHTS = (2.0**-10, 2.0**-9)
"""Values of all weights of two models."""


def save_model(path: Path) -> None:
    """Write a model file."""
    model().save(path)


def save_models_for_ever(path: Path) -> Iterator[None]:
    """Replace a model file by two models in turn, which differ in all weights."""
    torch.set_num_threads(1)
    denoiser = Denoiser.for_images(STACK, SETTINGS)  # of the usual size: the write takes long enough to be hit
    yield
    for value in cycle(WEIGHTS):
        for weights in denoiser.model.parameters():
            weights.data.fill_(value)
        denoiser.save(path)


def write_images(path: Path, value: float = 1.0) -> None:
    """Write an image of one value, whole and then plane by plane."""
    plan = plan_image(path, (16, 256, 256))
    write_image(path, np.full(plan.shape, value, np.float32))
    write_planned(plan, (np.full(plan.shape[1:], value, np.float32) for _ in range(plan.shape[0])))


def write_images_for_ever(path: Path) -> None:
    """Replace an image file by images of two values in turn."""
    for value in cycle((1.0, 2.0)):
        write_images(path, value)


def denoise(folder: Path, output: str) -> tuple[int, str]:
    """Denoise ``noisy.npy`` of a folder by ``m.safetensors``."""
    shrink()
    options = ["--model", str(folder / "m.safetensors"), "--output", str(folder / output)]
    return call("denoise", str(folder / "noisy.npy"), *options, "--method", "mean", "--samples", "2")


def train_to_end(folder: Path, name: str, *options: str) -> tuple[int, str]:
    """Train on ``noisy.npy`` of a folder, and save after every step."""
    shrink()
    limits = ["--noise", NOISE, "--device", "cpu", "--preset", "quick", "--max-steps", "12"]
    return call("train", str(folder / "noisy.npy"), "--model", str(folder / name), *limits, *options)


# Every kind of write.


def prepare(folder: Path) -> None:
    """Fill a folder with what the writes below need."""
    np.save(folder / "noisy.npy", STACK)
    (folder / "images").mkdir()
    for name in ("a.npy", "b.npy"):
        np.save(folder / "images" / name, STACK[:1])
    save_model(folder / "m.safetensors")


def _save_training(path: Path) -> None:
    denoiser = Denoiser.for_images(STACK, SETTINGS)
    steps = denoiser.train_steps()
    next(steps)
    denoiser.save_training(path)


def _write_noise(path: Path) -> None:
    write_noise(path, MixtureNoise(torch.linspace(-1, 1, 3 * 9).reshape(9, 3), 100.0, 900.0, 4.0))


def _command(name: str, image: str, *options: str) -> Callable[[Path], None]:
    """Give the function that runs a command with an output; its error is raised as it is told."""

    def run(path: Path) -> None:
        folder = path.parent.parent
        given = [str(folder / image), "--model", str(folder / "m.safetensors"), "--output", str(path)]
        status, words = call(name, *given, *options)
        if status:
            assert status == 1, words
            assert "Traceback" not in words
            raise DenoiserError(" ".join(words.split()))

    return run


WRITES: dict[str, Callable[[Path], None]] = {
    "m.safetensors": save_model,
    "m.resume.safetensors": _save_training,
    "noise.npz": _write_noise,
    "noise.json": _write_noise,
    "image.tif": _command("denoise", "noisy.npy"),
    "image.ome.tif": _command("denoise", "noisy.npy", "--dtype", "same"),
    "image.npy": _command("denoise", "noisy.npy", "--method", "sample", "--samples", "2"),
    "image.zarr": _command("denoise", "noisy.npy", "--overwrite"),
    "old.zarr": _command("denoise", "noisy.npy", "--overwrite", "--ome-zarr", "0.4"),
    "folder": _command("denoise", "images", "--overwrite"),
    "tables": _command("compare", "noisy.npy", "--samples", "1,2"),
}
"""By the name of the output, which each writes: a file or a folder."""


def write(path: Path, bytes_left: int | None = None) -> str | None:
    """Write an output, where no file may have more bytes than these; the error in words, if there is one.

    Python ignores the signal of that limit, so that a write fails as it does on a full disk.
    """
    shrink()
    if bytes_left is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.RLIM_INFINITY))
    try:
        WRITES[path.name](path)
    except DenoiserError as error:
        return str(error)
    return None


def write_on_a_disk(path: Path, kilobytes: int, *, read_only: bool = False) -> tuple[str | None, list[str]]:
    """Write an output to a disk of its own, of this size; the error in words, and the names of what is there then."""
    _mount(path.parent, kilobytes)
    if read_only:
        _mount(path.parent, kilobytes, _MS_REMOUNT | _MS_RDONLY)
    words = write(path)
    return words, [each.name for each in path.parent.rglob("*") if each.is_file()]


def mounts(folder: Path) -> str | None:
    """Why no disk can be mounted here; None if one can."""
    try:
        _mount(folder, 64)
    except OSError as error:
        return f"this system lets no test mount a disk ({error})"
    return None


_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_PRIVATE_ALL = 0x1, 0x20, 0x44000


def _mount(folder: Path, kilobytes: int, flags: int = 0) -> None:
    """Mount a disk in memory that this process alone sees; `OSError` if that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(status: int) -> None:
        if status:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    if not flags:
        check(libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if os.geteuid() else 0)))
        check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_PRIVATE_ALL), None))
    check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(flags), b"size=%dk" % kilobytes))
