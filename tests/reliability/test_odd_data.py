"""Odd images: each is trained on and denoised rightly, or refused in words; never NaN, never a changed image.

The images are drawn at random: number of axes, sides, numbers, memory layout and content. Small networks stand in for
those of the quick preset; all else is as users have it. The right result is that of the same numbers as a plain array.
"""

from __future__ import annotations

import shutil
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, train
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.config import HDNConfig, ModelConfig, UNetConfig
from napari_direct_denoiser.data.io import read_image
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.presets import PRESETS

Image = NDArray[Any]
Rng = np.random.Generator

MOST_PIXELS = 24_000
PATCH = 32
DTYPES = [
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64", "longdouble"),
]
NO_NUMBERS = ("bool", "complex64", "U3", "datetime64[s]")
"""Kinds of arrays that are no images."""
NOISES = ("gaussian:5", "poisson:2,10,3", "gaussian:5+x:0.5", "poisson:1,0,2+y:0.4", "student:4,5")
TINY = ModelConfig(
    hdn=HDNConfig(filters=(8, 8), latent_channels=4, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(8, 8), blocks=1, space_to_depth=2, published=False, std=True),
    units="noise",
)


@pytest.fixture(scope="module")
def usual() -> Iterator[Denoiser]:
    """A model of usual images, which denoises those that are too small to train on; networks are small from here on."""
    quick = PRESETS["quick"]
    schedule = quick.schedule.model_copy(update={"patch": PATCH, "side_by_side": False})
    small = quick.model_copy(update={"model": TINY, "schedule": schedule, "pretrained": False})
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "quick", small)
        torch.set_warn_always(True)  # a warning that is given once would be missed in all cases but one
        try:
            yield train(scene((4, 64, 64), np.random.default_rng(0)), max_steps=5, device="cpu")
        finally:
            torch.set_warn_always(False)


def scene(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    """Cells of 20 to 200 counts with the noise of a camera."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    clean = 20 + 90 * (1 + np.sin(x / rng.uniform(3, 20)) * np.cos(y / rng.uniform(3, 20)))
    return rng.poisson(np.broadcast_to(clean, shape)) + rng.normal(0, 3, shape)


def zeros(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    return np.where(rng.random(shape) < 0.9, 0.0, rng.poisson(30, shape))


def one_pixel(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    image = np.full(shape, rng.choice([0.0, 100.0, -7.0]))
    image.flat[rng.integers(image.size)] += rng.choice([1, 1000, -50])
    return image


def saturated(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    image = scene(shape, rng)
    image[..., : shape[-2] // 2, :] = 255
    return image


def hot_columns(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    image = scene(shape, rng)
    image[..., rng.integers(shape[-1], size=2)] = rng.choice([250.0, 60_000.0])
    return image


def bad_plane(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float64]:
    image = scene(shape, rng)
    image.reshape(-1, *shape[-2:])[-1, 0, 0] = rng.choice([np.inf, -np.inf, np.nan])
    return image


CONTENTS: dict[str, Callable[[tuple[int, ...], Rng], NDArray[np.float64]]] = {
    "scene": scene,
    "negative": lambda shape, rng: -scene(shape, rng),
    "around 0": lambda shape, rng: rng.normal(0, 20, shape),
    "far offset": lambda shape, rng: rng.choice([1e6, -1e6]) + rng.choice([-1.0, 0.0, 1.0], shape),
    "tiny range": lambda shape, rng: rng.choice([0.0, 1.0]) + 1e-9 * scene(shape, rng) / 200,
    "one pixel": one_pixel,
    "zeros": zeros,
    "saturated": saturated,
    "hot columns": hot_columns,
    "bad plane": bad_plane,
    "constant": lambda shape, rng: np.full(shape, rng.choice([0.0, 3.0])),
    "two values": lambda shape, rng: rng.choice([0.0, 1.0, 200.0], 2)[rng.integers(2, size=shape)],
    "no noise": lambda shape, rng: np.broadcast_to(np.linspace(0, 200, shape[-1]), shape).copy(),
    "large": lambda shape, rng: scene(shape, rng) * rng.choice([1e6, 1e12, 1e20, 1e34, 1e36]),
    "subnormal": lambda shape, rng: scene(shape, rng) * rng.choice([1e-20, 1e-30, 1e-40]),
    "outliers": lambda shape, rng: scene(shape, rng) + np.where(rng.random(shape) < 0.001, 1e9, 0),
}


def spread(array: Image) -> Image:
    """The same numbers at every second place of a larger array."""
    wide = np.zeros([2 * side for side in array.shape], array.dtype)
    wide[(slice(None, None, 2),) * array.ndim] = array
    return wide[(slice(None, None, 2),) * array.ndim]


def read_only(array: Image) -> Image:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[Image], Image]] = {
    "plain": lambda array: array,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran": np.asfortranarray,
    "spread": spread,
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "read-only": read_only,
    "broadcast": lambda array: np.broadcast_to(array, array.shape),
    "matrix": lambda array: array.view(np.matrix) if array.ndim == 2 else array,
    "masked": lambda array: np.ma.masked_array(array),
}


@dataclass(frozen=True)
class Case:
    number: int
    content: str
    layout: str
    dtype: str
    axes: str | None
    noise: str
    image: Image
    plain: Image
    """The same numbers as a native, contiguous array."""

    def __str__(self) -> str:
        return (
            f"case {self.number}: {self.content}, {self.layout}, {self.image.dtype}, {self.image.shape}, "
            f"axes {self.axes}, noise {self.noise}"
        )


def draw(number: int) -> Case:
    """The case of this number: always the same."""
    rng = np.random.default_rng([19, number])
    ndim = int(rng.choice([1, 2, 2, 2, 3, 3, 3, 4, 5], p=[0.04, *[0.12] * 8]))
    least = PATCH if rng.random() < 0.85 else 1
    sides = np.exp(rng.uniform(np.log(least), np.log(701), 2)).astype(int)
    while sides.prod() > MOST_PIXELS:
        sides[sides.argmax()] //= 2
    leading: list[int] = []
    for _ in range(ndim - 2):
        room = MOST_PIXELS // max(int(np.prod(leading, dtype=int)) * int(sides.prod()), 1)
        leading.append(int(rng.integers(0 if rng.random() < 0.02 else 1, min(room, 9) + 1)))
    shape = (*leading, *map(int, sides))[-ndim:]
    content = str(rng.choice(list(CONTENTS)))
    kinds = NO_NUMBERS if rng.random() < 0.03 else DTYPES
    dtype = np.dtype(str(rng.choice(kinds)))
    values = CONTENTS[content]((1, *shape)[-max(ndim, 2) :], rng).reshape(shape) if np.prod(shape) else np.zeros(shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that of numpy for what the dtype cannot hold
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            values = np.nan_to_num(values, nan=0).clip(limits.min / 2, limits.max / 2)
        plain = values.astype(dtype)
    order = rng.permutation(list("PTZYX")[-ndim:])
    axes = "".join(order) if rng.random() < 0.3 else None
    layout = str(rng.choice(list(LAYOUTS)))
    noise = str(rng.choice(NOISES)) if rng.random() < 0.2 else "auto"
    return Case(number, content, layout, str(dtype), axes, noise, LAYOUTS[layout](plain), plain)


def outcome(case: Case, usual: Denoiser) -> str:
    """Train and denoise; gives what was done. Raises for a wrong result or an error that is none of this package."""
    before = case.image.tobytes()
    try:
        denoiser = train(case.image, case.axes, case.noise, max_steps=5, device="cpu", seed=case.number % 7)
        done = "trained"
    except DenoiserError:  # what is too small or too flat to train on may be denoised
        denoiser, done = usual, "denoised"
    try:
        check(case, denoiser)
    except DenoiserError:
        done = "refused"
    assert case.image.tobytes() == before, "the image was changed"
    return done


def check(case: Case, denoiser: Denoiser) -> None:
    """Denoise in all ways; results are finite, belong to the image, and are those of the same numbers laid out plainly.

    The networks have hardly learned. So the direct pass is nearly a blur, and lies within the range of the image.
    """
    direct = denoiser.denoise(case.image, axes=case.axes)
    std = denoiser.std(case.image, axes=case.axes)
    mean = denoiser.posterior_mean(case.image, 2, axes=case.axes)
    for name, result in {"direct": direct, "std": std, "mean": mean}.items():
        assert result.shape == case.image.shape, name
        assert result.dtype == np.float32, name
        assert np.isfinite(result).all(), f"{name} is not finite"
    assert std.min() >= 0
    np.testing.assert_array_equal(direct, denoiser.denoise(case.plain, axes=case.axes), "the layout matters")
    low, high = float(case.plain.min()), float(case.plain.max())
    slack = 0.5 * (high - low) + 1e-5 * max(abs(low), abs(high)) + 5 * float(std.max())
    assert low - slack <= direct.min() <= direct.max() <= high + slack, (low, high, direct.min(), direct.max())


def test_odd_images_are_denoised_or_refused_in_words(
    usual: Denoiser, cases: Callable[[int, int], int], tally: Callable[[str, int, int], None]
) -> None:
    number, failed, seen = cases(2_000, 16), list[str](), Counter[str]()
    for case in map(draw, range(number)):
        try:
            found = outcome(case, usual)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            failed.append(f"{case}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})")
            continue
        seen[found] += 1
    print(seen, *failed, sep="\n")
    assert seen["trained"] >= 0.2 * number, seen
    tally("odd images", number, number - len(failed))


def test_odd_files_are_denoised_or_refused_by_the_command_line(
    usual: Denoiser, tmp_path: Path, cases: Callable[[int, int], int], tally: Callable[[str, int, int], None]
) -> None:
    """The same images in files. One line says what is wrong, and then there is no result."""
    model, number, failed = tmp_path / "m.safetensors", cases(200, 6), list[str]()
    usual.save(model)
    for case in map(draw, range(2_000, 2_000 + number)):
        path, result = tmp_path / "image.npy", tmp_path / ("result" + (".tif", ".npy", ".zarr")[case.number % 3])
        with path.open("wb") as file:
            np.save(file, np.asarray(case.image))
        axes = ["--axes", case.axes] if case.axes else []
        found = CliRunner().invoke(app, ["denoise", str(path), "--model", str(model), "--output", str(result), *axes])
        line = found.stderr.strip().splitlines()[-1:]
        if found.exit_code == 0 and result.exists():
            image = np.asarray(read_image(result).data)
            right = image.size == case.image.size and bool(np.isfinite(image).all())
        else:
            right = found.exit_code in (1, 2) and not result.exists() and line[0].startswith("Error: ")
        if not right:
            failed.append(f"{case}: exit {found.exit_code}, {line}, {found.exception!r}")
        shutil.rmtree(result, ignore_errors=True) if result.is_dir() else result.unlink(missing_ok=True)
    print(*failed, sep="\n")
    tally("odd files on the command line", number, number - len(failed))
