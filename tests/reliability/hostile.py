"""Files that somebody made to do harm, and how they are read. Work for `other_process`: a crash of a library is seen.

Files are read as the docks and the commands read them. `refusal` measures one, `fuzz` changes valid ones at random.
"""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr

from napari_direct_denoiser.calibration import Calibration, Curve
from napari_direct_denoiser.checkpoint import (
    load_checkpoint,
    load_model,
    load_training,
    save_checkpoint,
    save_model,
)
from napari_direct_denoiser.co_model import CoModel
from napari_direct_denoiser.config import HDNConfig, ModelConfig, TrainSettings, UNetConfig
from napari_direct_denoiser.data.axes import guess_axes
from napari_direct_denoiser.data.io import open_image, plan_image, read_image, write_image
from napari_direct_denoiser.data.ome_zarr import ZarrImage
from napari_direct_denoiser.data.pixel_size import pixel_size
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.noise import (
    ClippedNoise,
    CorrelatedNoise,
    GaussianNoise,
    HistogramNoise,
    LineNoise,
    MixtureNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PulseNoise,
    RecordedNoise,
    ScaledCorrelatedNoise,
    StudentNoise,
    read_noise,
    write_noise,
)
from napari_direct_denoiser.normalization import Normalization
from napari_direct_denoiser.training.provenance import Provenance, Record

Rng = np.random.Generator

SECONDS_OF_A_CASE = 10.0  # wall time on a machine with other work; a case takes milliseconds
TINY = ModelConfig(
    hdn=HDNConfig(filters=(4, 4), latent_channels=2, blocks=1, space_to_depth=2, gated=False),
    direct=UNetConfig(filters=(4, 4), blocks=1, space_to_depth=2, published=False, std=True),
    units="noise",
)


class HangError(BaseException):
    """A case took far too long; no reader catches this."""


# --- valid files ---


def tiny_model(noise: NoiseModel | None = None, seed: int = 0) -> CoModel:
    """An untrained model of small networks."""
    noise = noise or PoissonGaussianNoise(2.0, 100.0, 3.0)
    slope, intercept = noise.linear_variance()
    normalization = Normalization(
        units="noise", mean=200.0, std=40.0, slope=slope, intercept=intercept, level=20.0, hdn_scale=1.0, hdn_shift=0.5
    )
    model = CoModel.initialized(TINY, noise, normalization, seed).eval()
    model.calibration = Calibration(signal=Curve((100.0, 300.0), (1.0, 1.2)), samples=1.1)
    return model


def provenance(**changes: Any) -> Provenance:
    numbers = {"neg_elbo": 3.0, "direct_loss": 1.0, "validation_neg_elbo": 3.0, "validation_direct_loss": None}
    history = (Record(step=1, seconds=0.5, **numbers),)
    facts = {"axes": "TYX", "version": "0.1.0", "torch_version": "2.9.0", "steps": 1, "history": history, **changes}
    return Provenance(settings=TrainSettings(preset="quick"), **facts)


NOISES: tuple[Callable[[], NoiseModel], ...] = (
    lambda: GaussianNoise(3.0),
    lambda: PoissonGaussianNoise(2.0, 100.0, 3.0),
    lambda: StudentNoise(4.0, 5.0),
    lambda: CorrelatedNoise(GaussianNoise(3.0), [[0.1, 0.2, 0.0], [0.4, 0.0, 0.0]]),
    lambda: RecordedNoise(GaussianNoise(3.0), 0.0, 255.0, 1.0),
    lambda: LineNoise(GaussianNoise(3.0), 1.0, 0.5),
    lambda: LineNoise(CorrelatedNoise(PoissonGaussianNoise(2.0, 100.0, 3.0), [[0.4, 0.0, 0.0]]), 1.0, 0.0),
    lambda: MixtureNoise(torch.tensor([[0.1], [-0.1], [2.0], [3.0], [0.5], [0.2]]), 100.0, 500.0, 4.0),
    lambda: HistogramNoise(torch.eye(8) * 0.6 + 0.05, 0.0, 400.0),
    lambda: ScaledCorrelatedNoise(PoissonGaussianNoise(2.0, 100.0, 3.0), [[0.1, 0.2, 0.0], [0.4, 0.0, 0.0]]),
    lambda: CorrelatedNoise(PoissonGaussianNoise(2.0, 100.0, 3.0), [[0.4, 0.0, 0.0]], "odd"),
    lambda: PulseNoise(20.0, 100.0, 2.0, 1.25),
    lambda: ClippedNoise(GaussianNoise(3.0), 0.0, 1.0),
)


def histogram() -> np.ndarray:
    """A histogram as PN2V writes it."""
    edges = np.linspace(0, 320, 9)
    planes = np.zeros((3, 8, 8))
    planes[0], planes[1], planes[2] = np.eye(8) * 0.6 + 0.05, edges[:-1, None], edges[1:, None]
    return planes


def image(shape: tuple[int, ...] = (3, 24, 20)) -> np.ndarray:
    return np.random.default_rng(0).poisson(100, shape).astype(np.uint16)


# --- readers ---


def read_model(path: Path) -> None:
    load_model(path)


def read_training(path: Path) -> None:
    load_training(path)


def read_any_image(path: Path) -> None:
    """Open an image, read it, and plan and write a result beside it."""
    file = open_image(path)
    shape = tuple(file.data.shape)
    axes = file.axes or guess_axes(len(shape))
    pixel_size(file, axes)
    whole = read_image(path)
    for name in ("out.tif", "out.ome.tif"):
        try:
            plan_image(path.parent / name, shape, file)
        except DenoiserError:
            continue
    if np.asarray(whole.data).dtype.kind in "uif" and 0 < np.asarray(whole.data).size < 1e5:
        write_image(path.parent / "out.tif", np.asarray(whole.data).astype(np.float32), file)


READERS: dict[str, Callable[[Path], object]] = {
    "model": read_model,
    "training": read_training,
    "noise": read_noise,
    "image": read_any_image,
}


# --- one file ---


@dataclass(frozen=True)
class Refusal:
    """How a file was refused."""

    error: str
    words: str
    seconds: float
    """Of the processor."""
    megabytes: float
    """That were taken at most, beside what the process had."""


def refusal(kind: str, valid: Path, bad: Path) -> Refusal:
    """Read a valid file, so that all is imported, and then a bad one; the memory of Linux only."""
    read = READERS[kind]
    read(valid)
    with _alarm():
        before, began = _reset_peak(), time.process_time()
        try:
            read(bad)
        except DenoiserError as error:
            return Refusal(type(error).__name__, str(error), time.process_time() - began, _peak() - before)
    raise AssertionError(f"{bad} was read")


def _reset_peak() -> float:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _peak()


def _peak() -> float:
    """Largest memory of this process since `_reset_peak`, MB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


@contextmanager
def _alarm() -> Iterator[None]:
    def hang(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_OF_A_CASE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- many files ---

_NUMBERS = (0, 1, -1, 2, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64, 10**30, 10**400)
_FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e-30, 1e30, 1e39, 1e308, -1e308, float("nan"), float("inf"), -float("inf"))
_TEXTS = ("", "x", "../../x", "/etc/passwd", "a/../..", "\x00", "µ" * 9, "1" * 5000, "x" * 3000, "TYX", "nan", "0.4")
_DEEP = "@deep@"


def changed_bytes(data: bytes, rng: Rng) -> bytes:
    """Flip, set, cut, insert, repeat, exchange or overwrite some bytes."""
    content = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        size = max(len(content), 1)
        at, length = int(rng.integers(size)), int(min(rng.geometric(0.1), size))
        part = bytes(content[at : at + length])
        match int(rng.integers(9)):
            case 0:
                content[at : at + 1] = bytes([part[0] ^ (1 << int(rng.integers(8)))]) if part else b""
            case 1:
                content[at : at + 1] = bytes([int(rng.choice([0, 1, 127, 128, 255]))])
            case 2:
                del content[at:]
            case 3:
                content[at:at] = rng.bytes(length)
            case 4:
                del content[at : at + length]
            case 5:
                content[at:at] = part * int(rng.integers(1, 9))
            case 6:
                other = int(rng.integers(size))
                content[at : at + length], content[other : other + length] = content[other : other + length], part
            case 7:
                width = int(rng.choice([2, 4, 8]))
                number = int(rng.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1])) % 2 ** (8 * width)
                content[at : at + width] = number.to_bytes(width, str(rng.choice(["little", "big"])))  # type: ignore[arg-type]
            case _:
                content[at : at + length] = bytes(length)
    return bytes(content)


def changed_json(document: Any, rng: Rng) -> str:
    """The text of a document in which some values are others, are missing, or stand elsewhere."""
    document = copy.deepcopy(document)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        places = list(_places(document))
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        match int(rng.integers(8)):
            case 0:
                del holder[key]
            case 1:
                other, place = places[int(rng.integers(len(places)))]
                holder[key] = copy.deepcopy(other[place])
            case 2 if isinstance(holder, dict):
                holder[str(rng.choice(_TEXTS))] = holder[key]
            case 2 | 3 if isinstance(holder[key], list):
                holder[key] = holder[key] * int(rng.integers(2, 2000))
            case _:
                holder[key] = _value(rng)
    text = json.dumps(document)
    return text.replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000)


def _value(rng: Rng) -> Any:
    kinds = (_NUMBERS, _FLOATS, _TEXTS, (None, True, False, [], {}, [[]], [1, 2, 3], {"a": 1}, _DEEP))
    values = kinds[int(rng.integers(len(kinds)))]
    return values[int(rng.integers(len(values)))]


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """All values within a document: what holds each, and its key there."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


@cache
def _valid_model() -> tuple[bytes, dict[str, torch.Tensor], dict[str, Any]]:
    path = Path("valid.safetensors")
    save_model(path, tiny_model(), provenance())
    tensors, document = load_checkpoint(path)
    found = path.read_bytes(), tensors, document
    path.unlink()
    return found


def make_model_by_bytes(folder: Path, rng: Rng) -> Path:
    path = folder / "m.safetensors"
    path.write_bytes(changed_bytes(_valid_model()[0], rng))
    return path


def make_model_by_parts(folder: Path, rng: Rng) -> Path:
    """A model whose description or tensors are changed, with a right checksum."""
    path, (_, tensors, document) = folder / "m.safetensors", _valid_model()
    document, tensors = copy.deepcopy(document), dict(tensors)
    document["noise"] = NOISES[int(rng.integers(len(NOISES)))]().document()
    if rng.random() < 0.75:
        try:
            document = json.loads(changed_json(document, rng))
        except RecursionError:
            document = {"config": document}
        document = document if isinstance(document, dict) else {"config": document}
    else:
        name = str(rng.choice(list(tensors)))
        tensors[name] = _other_tensor(tensors[name], rng)
        if rng.random() < 0.2:
            tensors[str(rng.choice(_TEXTS))] = tensors.pop(name)
    save_checkpoint(path, tensors, document)
    return path


def _other_tensor(tensor: torch.Tensor, rng: Rng) -> torch.Tensor:
    match int(rng.integers(6)):
        case 0:
            bad = tensor.clone().float()
            bad.view(-1)[0] = float(rng.choice([np.nan, np.inf, -np.inf, 3e38]))
            return bad
        case 1:
            kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)
            return tensor.to(kinds[int(rng.integers(len(kinds)))])
        case 2:
            return tensor[None]
        case 3:
            return tensor.flatten()
        case 4:
            return torch.zeros(0)
        case _:
            return tensor.float() * 1e38


def make_noise(folder: Path, rng: Rng) -> Path:
    """A changed noise file of one of the three kinds."""
    match int(rng.integers(4)):
        case 0 | 1:
            path = folder / "noise.json"
            write_noise(path, NOISES[int(rng.integers(len(NOISES)))]())
            text = path.read_text()
            by_parts = rng.random() < 0.7
            path.write_bytes(
                changed_json(json.loads(text), rng).encode() if by_parts else changed_bytes(text.encode(), rng)
            )
        case 2:
            path = folder / "noise.npz"
            write_noise(path, NOISES[7]())
            path.write_bytes(changed_bytes(path.read_bytes(), rng))
        case _:
            path = folder / "noise.npy"
            stream = io.BytesIO()
            np.save(stream, histogram())
            path.write_bytes(changed_bytes(stream.getvalue(), rng))
    return path


@cache
def _valid_zarr(path: Path) -> dict[Path, str]:
    """Write a small image; gives the texts of its metadata. The name tells the version, and whether it is OME-Zarr."""
    if path.stem.startswith("ome"):
        version: Any = path.stem[3:]
        target = ZarrImage.create(path, (2, 16, 16), "TYX", np.uint16, block=(16, 16), version=version)
        target[:, :, :] = image((2, 16, 16))
        target.finish()
    else:
        array = zarr.create_array(str(path), shape=(2, 16, 16), dtype="u2", zarr_format=int(path.stem))  # type: ignore[arg-type]
        array[:] = image((2, 16, 16))
    files = [file for file in sorted(path.rglob("*")) if file.name in ("zarr.json", ".zarray", ".zgroup", ".zattrs")]
    return {file: file.read_text() for file in files}


def make_zarr(folder: Path, rng: Rng) -> Path:
    """A small OME-Zarr or zarr array of version 2 or 3, in which one metadata file is changed."""
    path = folder / f"{rng.choice(['ome0.4', 'ome0.5', '2', '3'])}.zarr"
    for file, text in _valid_zarr(path).items():
        file.write_text(text)
    files = list(_valid_zarr(path).items())
    file, text = files[int(rng.integers(len(files)))]
    by_parts = rng.random() < 0.75
    file.write_bytes(changed_json(json.loads(text), rng).encode() if by_parts else changed_bytes(text.encode(), rng))
    return path


_TIFFS: tuple[dict[str, Any], ...] = (
    {"imagej": True, "metadata": {"axes": "TYX", "unit": "um", "finterval": 2.0}, "resolution": (2.0, 2.0)},
    {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm"}},
    {"ome": True, "compression": "zlib", "metadata": {"axes": "TYX"}},
    {"compression": "zlib", "tile": (16, 16)},
    {"compression": "lzw"},
    {"compression": "packbits", "byteorder": ">"},
    {"bigtiff": True},
    {"metadata": None, "rowsperstrip": 5},
)


@cache
def _valid_tiff(number: int) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, image(), photometric="minisblack", **_TIFFS[number])
    return stream.getvalue()


def make_tiff(folder: Path, rng: Rng) -> Path:
    path = folder / "i.tif"
    path.write_bytes(changed_bytes(_valid_tiff(int(rng.integers(len(_TIFFS)))), rng))
    return path


MAKERS: dict[str, tuple[Callable[[Path, Rng], Path], str]] = {
    "model files, by bytes": (make_model_by_bytes, "model"),
    "model files, by parts": (make_model_by_parts, "model"),
    "noise files": (make_noise, "noise"),
    "zarr metadata": (make_zarr, "image"),
    "TIFF files": (make_tiff, "image"),
}


def fuzz(what: str, numbers: range, folder: Path) -> tuple[list[str], Counter[str]]:
    """Read a changed file for each number; gives what went wrong, and how often files were read or refused."""
    torch.set_num_threads(1)
    inner = folder / "inner"
    inner.mkdir(exist_ok=True)
    os.chdir(inner)
    make, kind = MAKERS[what]
    seen, wrong = Counter[str](), list[str]()
    for number in numbers:
        rng = np.random.default_rng([19, *what.encode(), number])
        path = make(inner, rng)
        try:
            with _alarm(), warnings.catch_warnings():
                warnings.simplefilter("error")
                READERS[kind](path)
            seen["read"] += 1
        except DenoiserError as error:
            seen["refused"] += 1
            if not str(error).strip() or "\n" in str(error) or len(str(error)) > 2000:
                wrong.append(f"{what} {number}: an error of {len(str(error))} letters: {str(error)[:300]!r}")
        except (Exception, HangError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f"{what} {number}: {type(error).__name__}: {str(error)[:300]} ({last.filename}:{last.lineno})")
    outside = [str(file) for file in folder.iterdir() if file != inner]
    return wrong + [f"{what}: wrote {file}" for file in outside], seen
