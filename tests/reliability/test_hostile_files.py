"""A model file is data, and so are all others: what is made to do harm is refused at once, in words.

Each case is a file that a person could be sent. It is refused within a second of the processor and 200 MB.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import tifffile
import torch
import zarr
from other_process import needs_fork, outcome
from safetensors.torch import save_file
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, checkpoint
from napari_direct_denoiser.checkpoint import load_checkpoint, save_checkpoint, save_model, save_training
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.cli.folder_record import NAME
from napari_direct_denoiser.config import TrainSettings
from napari_direct_denoiser.data.ome_zarr import ZarrImage
from napari_direct_denoiser.errors import DenoiserError
from napari_direct_denoiser.noise import GaussianNoise, write_noise
from napari_direct_denoiser.training.state import pack

pytestmark = needs_fork

SECONDS, MEGABYTES = 1.0, 200.0
SAMPLE = 1 if "RELIABILITY_COUNTS" in os.environ else 10
"""Of so many files ``make test`` tries one: each has a process of its own."""
TERABYTE = 2**40
DEEP = 100_000


def tried(names: Iterable[str]) -> list[str]:
    """The cases to try: all in ``make reliability``."""
    return list(names)[::SAMPLE]


class Evil:
    """An object that makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def trace(path: Path) -> Path:
    return path.with_name("code was run")


# --- models ---


def model(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """A model file with a right checksum, in which something is changed."""
    save_model(path, hostile.tiny_model(), hostile.provenance())
    tensors, document = load_checkpoint(path)
    change(document, tensors)
    save_checkpoint(path, tensors, document)


def described(*where: str, value: Any) -> Callable[[Path], None]:
    """A model whose description has another value at a place."""

    def make(path: Path) -> None:
        def change(document: dict[str, Any], _: Any) -> None:
            *holders, name = where
            for holder in holders:
                document = document[holder]
            document[name] = value

        model(path, change)

    return make


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """A model in which the tensor of a convolution is another one."""

    def make(path: Path) -> None:
        def change_one(_: Any, tensors: dict[str, torch.Tensor]) -> None:
            name = next(name for name in tensors if name.startswith("unet.") and tensors[name].ndim == 4)
            tensors[name] = change(tensors[name])

        model(path, change_one)

    return make


def all_weights(value: float) -> Callable[[Path], None]:
    def change(_: Any, tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: torch.full_like(tensor, value) for name, tensor in tensors.items()})

    return lambda path: model(path, change)


def renamed(path: Path) -> None:
    def change(_: Any, tensors: dict[str, torch.Tensor]) -> None:
        tensors["../../../../tmp/x"] = tensors.pop("hdn.top_prior")

    model(path, change)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(trace(path))))


def of_torch(path: Path) -> None:
    torch.save({"weights": Evil(trace(path))}, path)


def header(text: bytes, length: int | None = None, size: int = 0) -> Callable[[Path], None]:
    """A safetensors file of a header and as many bytes, of which the disk holds none."""

    def make(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(struct.pack("<Q", len(text) if length is None else length) + text)
            stream.truncate(stream.tell() + size)

    return make


def of_terabytes(path: Path) -> None:
    """A whole file of 1 TB by its header and its size, with a description of a small model."""
    save_model(path, hostile.tiny_model(), hostile.provenance())
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        known = json.loads(stream.read(length))
    entry = {"x": {"dtype": "U8", "shape": [TERABYTE], "data_offsets": [0, TERABYTE]}}
    header(json.dumps({"__metadata__": known["__metadata__"], **entry}).encode(), size=TERABYTE)(path)


def of_many_tensors(path: Path) -> None:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header(json.dumps({str(number): entry for number in range(300_000)}).encode())(path)


def with_text(document: str) -> Callable[[Path], None]:
    """A model file whose description is this text."""

    def make(path: Path) -> None:
        said = json.dumps({"format": 1, "document": document, "sha256": "0" * 64})
        save_file({"x": torch.zeros(1)}, path, {checkpoint.KEY: said})

    return make


def newer(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path, {checkpoint.KEY: json.dumps({"format": 9, "document": "{}", "sha256": ""})})


def newer_version(path: Path) -> None:
    def change(document: dict[str, Any], _: Any) -> None:
        document["provenance"]["version"], document["config"] = "99." + "9" * 5000, {}

    model(path, change)


def correlated(coefficients: Any) -> dict[str, Any]:
    return {"kind": "correlated", "innovation": {"kind": "gaussian", "sigma": 1.0}, "coefficients": coefficients}


def nested(depth: int) -> dict[str, Any]:
    noise: dict[str, Any] = {"kind": "gaussian", "sigma": 1.0}
    for _ in range(depth):
        noise = {"kind": "lines", "base": noise, "row_std": 1.0}
    return noise


BILLION = 10**9
MIXTURE = {"kind": "mixture", "min_signal": 0, "max_signal": 100, "min_sigma": 1}
MODELS: dict[str, Callable[[Path], None]] = {
    "pickle": pickled,
    "pickle of torch": of_torch,
    "empty": lambda path: path.write_bytes(b"") and None,
    "header of 2^60 bytes": header(b"{}", length=2**60),
    "header of 90 MB": header(b" " * 90_000_000),
    "header with 300 000 tensors": of_many_tensors,
    "deep header": header(b'{"x":' * DEEP),
    "tensor of 8 TB that is not there": header(
        json.dumps({"x": {"dtype": "F64", "shape": [TERABYTE], "data_offsets": [0, 8 * TERABYTE]}}).encode()
    ),
    "shape that overflows": header(
        json.dumps({"x": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}).encode(), size=8
    ),
    "1 TB of zeros": of_terabytes,
    "deep description": with_text("[" * DEEP + "]" * DEEP),
    "deep objects": with_text('{"a":' * DEEP + "1" + "}" * DEEP),
    "description of a million objects": with_text("[" + "{}," * 1_000_000 + "{}]"),
    "description of 30 MB": with_text('{"a":"' + "x" * 30_000_000 + '"}'),
    "newer format": newer,
    "newer version": newer_version,
    "NaN weight": weights(lambda tensor: tensor.index_fill(0, torch.tensor([0]), torch.nan)),
    "infinite weights": weights(lambda tensor: torch.full_like(tensor, -torch.inf)),
    "weights of 1e38": all_weights(1e38),
    "float64 weights": weights(lambda tensor: tensor.double()),
    "complex weights": weights(lambda tensor: tensor.to(torch.complex64)),
    "truth values as weights": weights(lambda tensor: tensor.bool()),
    "float8 weights": weights(lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "weights of another shape": weights(lambda tensor: tensor[:1]),
    "no weights": weights(lambda tensor: torch.zeros(0)),
    "tensor named as a path": renamed,
    "a billion channels": described("config", "hdn", "filters", value=[BILLION, BILLION]),
    "a billion levels": described("config", "hdn", "filters", value=[4] * 1_000_000),
    "no levels": described("config", "direct", "filters", value=[]),
    "a billion latent channels": described("config", "hdn", "latent_channels", value=BILLION),
    "a billion blocks": described("config", "direct", "blocks", value=BILLION),
    "networks of 100 GB": described("config", "hdn", "filters", value=[1024] * 8),
    "infinite dropout": described("config", "hdn", "dropout", value=1e300),
    "NaN mean": described("scaling", "mean", value=float("nan")),
    "huge mean": described("scaling", "mean", value=1e300),
    "no noise at all": described("scaling", "slope", value=0.0),
    "slope that overflows": described("scaling", "slope", value=1e200),
    "number of 5000 digits": described("scaling", "mean", value=10**4000),
    "a bias without end": described("calibration", "direct", value=[[1.0], [1e999]]),
    "calibration without knots": described("calibration", "signal", value=[[], []]),
    "calibration that falls": described("calibration", "signal", value=[[2.0, 1.0], [1.0, 1.0]]),
    "calibration of other length": described("calibration", "signal", value=[[1.0], [1.0, 1.0]]),
    "calibration that is not a number": described("calibration", "samples", value=float("nan")),
    "steps of a billion years": described("provenance", "steps", value=10**30),
    "axes that are a path": described("provenance", "axes", value="../../x"),
    "noise that is unknown": described("noise", value={"kind": "../../x"}),
    "noise within noise": described("noise", value=nested(400)),
    "noise that grows": described(
        "noise",
        value=correlated([[1.2, 0, 0]]),
    ),
    "noise that nearly grows": described(
        "noise",
        value=correlated([[0.9999, 0, 0]]),
    ),
    "noise of huge coefficients": described(
        "noise",
        value=correlated([[1e300, 0, 0]]),
    ),
    "noise of a huge filter": described(
        "noise",
        value=correlated([[0.0] * 2001] * 90),
    ),
    "sigma of 1e300": described("noise", value={"kind": "gaussian", "sigma": 1e300}),
    "sigma of 1e-300": described("noise", value={"kind": "gaussian", "sigma": 1e-300}),
    "gain of 1e300": described("noise", value={"kind": "poisson", "gain": 1e300, "offset": 0, "read_noise": 1}),
    "offset of 1e300": described("noise", value={"kind": "poisson", "gain": 1, "offset": -1e300, "read_noise": 1}),
    "steps of 1e-300": described(
        "noise", value={"kind": "recorded", "base": {"kind": "gaussian", "sigma": 1.0}, "step": 1e-300}
    ),
    "offsets of 1e300": described(
        "noise", value={"kind": "lines", "base": {"kind": "gaussian", "sigma": 1.0}, "row_std": 1e300}
    ),
    "mixture of huge variances": described("noise", value={**MIXTURE, "trained_weight": [[0], [1e30], [0]]}),
    "mixture of 100 000 Gaussians": described("noise", value={**MIXTURE, "trained_weight": [[0.0]] * 150_000}),
    "histogram of 100 000 bins": described(
        "noise", value={"kind": "histogram", "histogram": [[1.0]] * 100_000, "low": 0, "high": 1}
    ),
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "folder": lambda path: path.mkdir(),
}

# --- interrupted trainings ---


def training(state: Any) -> Callable[[Path], None]:
    """An interrupted training with a right checksum, whose state is this text of JSON or another value."""

    def make(path: Path) -> None:
        facts = hostile.provenance(version=version("napari-direct-denoiser"))
        save_training(path, hostile.tiny_model(), facts, {"weights": dict(hostile.tiny_model().state_dict())})
        tensors, document = load_checkpoint(path)
        save_checkpoint(path, tensors, {**document, "training": state})

    return make


TRAININGS: dict[str, Callable[[Path], None]] = {
    "a finished model": lambda path: model(path, lambda *_: None),
    "tensor that is missing": training({"tensor": "../../x"}),
    "two kinds": training({"tensor": "0", "dict": []}),
    "keys that are lists": training({"dict": [[{"list": []}, 1]]}),
    "pairs of three": training({"dict": [[1, 2, 3]]}),
    "unknown kind of numbers": training({"eval": 3}),
    "pickle": pickled,
    "1 TB of zeros": of_terabytes,
    "pipe": lambda path: os.mkfifo(path),
}

STATES: dict[str, Any] = {
    "empty": {},
    "list": [1, 2],
    "other parts": {"images": {}, "training": 3},
    "images only": {"images": None, "frame_steps": [], "before": (0, 0), "calibrated": 0, "training": None},
}

# --- noise files ---


def npz(member: bytes, size: int | None = None) -> Callable[[Path], None]:
    """An archive whose first array is made of these bytes, or of so many zeros."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("trained_weight.npy", "w", force_zip64=True) as stream:
                stream.write(member)
                for _ in range((size or 0) >> 20):
                    stream.write(bytes(2**20))
            for name in ("min_signal", "max_signal", "min_sigma"):
                archive.writestr(f"{name}.npy", npy_header((1,)) + bytes(8))

    return make


def npy_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy(shape: tuple[int, ...], descr: str = "<f8", size: int = 0) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(npy_header(shape, descr))
            stream.truncate(stream.tell() + size)

    return make


def objects(path: Path) -> None:
    array = np.array([Evil(trace(path))], dtype=object)
    if path.suffix == ".npz":
        np.savez(path, trained_weight=array, min_signal=0, max_signal=1, min_sigma=1)
    else:
        with path.open("wb") as stream:
            np.save(stream, array, allow_pickle=True)


def saved(path: Path, array: Any) -> None:
    with path.open("wb") as stream:
        np.save(stream, array)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def noise_text(noise: Any, version: int = 1) -> Callable[[Path], None]:
    return text(json.dumps({"format": "napari-direct-denoiser noise model", "version": version, "noise": noise}))


def empty_of_terabytes(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, TERABYTE)


NOISE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz with objects": (".npz", objects),
    "npy with objects": (".npy", objects),
    "pickle called npz": (".npz", pickled),
    "pickle called npy": (".npy", pickled),
    "pickle called json": (".json", pickled),
    "npz that unpacks to 400 MB": (".npz", npz(npy_header((50_000_000,)), 400_000_000)),
    "npz that promises 8 TB": (".npz", npz(npy_header((TERABYTE,)))),
    "npz whose header is 400 MB": (".npz", npz(b"\x93NUMPY\x02\x00" + struct.pack("<I", 400_000_000), 400_000_000)),
    "npz that is NaN": (".npz", npz(npy_header((3, 2)) + struct.pack("<6d", *[float("nan")] * 6))),
    "npz of text": (".npz", npz(npy_header((3,), "<U9") + bytes(108))),
    "npy that promises 8 TB": (".npy", npy((3, 10**6, 10**6))),
    "npy of 1 TB of zeros": (".npy", npy((3, 2**18, 2**18), size=3 * 2**39)),
    "npy whose size overflows": (".npy", npy((2**40, 2**40))),
    "npy of negative sides": (".npy", npy((-3, 8, 8))),
    "npy of records": (".npy", lambda path: saved(path, np.zeros((3, 8, 8), [("a", "f8")]))),
    "npy of dates": (".npy", lambda path: saved(path, np.zeros((3, 8, 8), "M8[s]"))),
    "npy of NaN": (".npy", lambda path: saved(path, np.full((3, 8, 8), np.nan))),
    "npy of 1000 bins": (".npy", lambda path: saved(path, np.ones((3, 1000, 1000), np.uint8))),
    "deep JSON": (".json", text("[" * DEEP)),
    "JSON of a million lists": (".json", text("[" + "[]," * 1_000_000 + "0]")),
    "JSON of 1 TB": (".json", empty_of_terabytes),
    "newer JSON": (".json", noise_text({"kind": "gaussian", "sigma": 1.0}, version=9)),
    "JSON that grows": (
        ".json",
        noise_text(correlated([[2.0, 0, 0]])),
    ),
    "JSON of noise within noise": (".json", noise_text(nested(400))),
    "pipe": (".json", lambda path: os.mkfifo(path)),
    "pipe called npz": (".npz", lambda path: os.mkfifo(path)),
    "device": (".npy", lambda path: path.symlink_to("/dev/zero")),
}

# --- images ---


def in_zarr(name: str, change: Callable[[Path], object]) -> Callable[[Path], None]:
    """An OME-Zarr of version 0.5 in which a file is changed."""

    def make(path: Path) -> None:
        target = ZarrImage.create(path, (2, 16, 16), "TYX", np.uint16, block=(16, 16))
        target[:, :, :] = hostile.image((2, 16, 16))
        target.finish()
        change(path / name)

    return make


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        file.unlink()
        make(file)

    return change


def written(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


def edited(**changes: Any) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def elsewhere(name: str) -> Callable[[Path], None]:
    """An OME-Zarr whose metadata name an array outside of its folder, which is there."""

    def change(file: Path) -> None:
        zarr.create_array(str(file.parent.parent / "secret"), shape=(2, 16, 16), dtype="u2")
        document = json.loads(file.read_text())
        document["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = name.format(file.parent.parent)
        file.write_text(json.dumps(document))

    return in_zarr("zarr.json", change)


def multifile(name: str) -> Callable[[Path], None]:
    """An OME-TIFF that says its second plane is in another file, which is a pipe."""

    def make(path: Path) -> None:
        tifffile.imwrite(path, hostile.image((2, 16, 16)), ome=True, metadata={"axes": "TYX"})
        with tifffile.TiffFile(path) as tiff:
            xml = tiff.ome_metadata or ""
        plane = '<TiffData IFD="0" FirstT="{0}" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'
        begin, end = xml.index("<TiffData"), xml.index("</Pixels>")
        xml = xml[:begin] + plane.format(0, path.name) + plane.format(1, name) + xml[end:]
        xml = xml.replace("<OME ", '<OME UUID="urn:uuid:0" ', 1) if "UUID=" not in xml[:begin] else xml
        tifffile.imwrite(path, hostile.image((2, 16, 16)), description=xml.encode(), metadata=None)
        os.mkfifo(path.parent / Path(name).name)

    return make


def tiff(**tags: int) -> Callable[[Path], None]:
    """A TIFF of one compressed page, in which the values of tags are others."""

    def make(path: Path) -> None:
        tifffile.imwrite(path, hostile.image((16, 16)), compression="zlib")
        with tifffile.TiffFile(path, mode="r+b") as file:
            for name, value in tags.items():
                file.pages[0].tags[name].overwrite(value, dtype="I")  # type: ignore[union-attr]

    return make


IMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy with objects": (".npy", objects),
    "pickle called npy": (".npy", pickled),
    "pickle called TIFF": (".tif", pickled),
    "npy that promises 8 TB": (".npy", npy((10**6, 10**6))),
    "npy whose size overflows": (".npy", npy((2**40, 2**40))),
    "npy of negative sides": (".npy", npy((-16, 16))),
    "TIFF that promises 64 GB": (".tif", tiff(ImageWidth=2**17, ImageLength=2**18, RowsPerStrip=2**18)),
    "TIFF that promises 2^64 pixels": (".tif", tiff(ImageWidth=2**32 - 1, ImageLength=2**32 - 1)),
    "OME-TIFF of a pipe": (".tif", multifile("pipe.tif")),
    "OME-TIFF that leaves its folder": (".tif", multifile("../{}/pipe.tif")),
    "zarr metadata, deep": (
        ".zarr",
        in_zarr("zarr.json", written('{"a":' * DEEP + "1" + "}" * DEEP)),
    ),
    "zarr metadata, 30 MB": (
        ".zarr",
        in_zarr("zarr.json", written(json.dumps({"a": "x" * 30_000_000}))),
    ),
    "zarr metadata, 1 TB": (".zarr", in_zarr("zarr.json", lambda file: os.truncate(file, TERABYTE))),
    "zarr metadata, pipe": (".zarr", in_zarr("zarr.json", replaced(os.mkfifo))),
    "zarr metadata, device": (".zarr", in_zarr("0/zarr.json", replaced(lambda file: file.symlink_to("/dev/zero")))),
    "zarr pixels, pipe": (".zarr", in_zarr("0/c/0/0/0", replaced(os.mkfifo))),
    "zarr pixels, device": (".zarr", in_zarr("0/c/0/0/0", replaced(lambda file: file.symlink_to("/dev/zero")))),
    "zarr of 2^63 pixels": (".zarr", in_zarr("0/zarr.json", edited(shape=[2**21, 2**21, 2**21]))),
    "zarr of 1 TB": (".zarr", in_zarr("0/zarr.json", edited(shape=[2**10, 2**15, 2**15]))),
    "zarr chunks of 8 TB": (
        ".zarr",
        in_zarr(
            "0/zarr.json",
            edited(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6, 10**6]}}),
        ),
    ),
    "zarr of objects": (".zarr", in_zarr("0/zarr.json", edited(data_type="object"))),
    "zarr of a newer version": (".zarr", in_zarr("zarr.json", edited(zarr_format=9))),
    "zarr that leaves its folder": (".zarr", elsewhere("../secret")),
    "zarr with an absolute path": (".zarr", elsewhere("{}/secret")),
    "pipe": (".tif", lambda path: os.mkfifo(path)),
    "device": (".npy", lambda path: path.symlink_to("/dev/zero")),
    "link to itself": (".tif", lambda path: path.symlink_to(path)),
}


def check(kind: str, valid: Path, bad: Path) -> None:
    folder = sorted(bad.parent.rglob("*"))
    found = outcome(hostile.refusal, kind, valid, bad)
    assert found.words
    assert "\n" not in found.words
    assert len(found.words) < 1000
    assert found.seconds < SECONDS, found
    assert found.megabytes < MEGABYTES, found
    assert sorted(bad.parent.rglob("*")) == folder  # no code was run, and nothing written


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good file of each kind."""
    folder = tmp_path_factory.mktemp("valid")
    save_model(folder / "m.safetensors", hostile.tiny_model(), hostile.provenance())
    write_noise(folder / "n.json", GaussianNoise(3.0))
    training({"dict": []})(folder / "t.resume.safetensors")
    target = ZarrImage.create(folder / "i.zarr", (2, 16, 16), "TYX", np.uint16, block=(16, 16))
    target[:, :, :] = hostile.image((2, 16, 16))
    target.finish()
    names = {"model": "m.safetensors", "training": "t.resume.safetensors", "noise": "n.json", "image": "i.zarr"}
    return {kind: folder / name for kind, name in names.items()}


@pytest.mark.parametrize("case", tried(MODELS))
def test_a_hostile_model_is_refused_at_once(tmp_path: Path, valid: dict[str, Path], case: str) -> None:
    MODELS[case](tmp_path / "m.safetensors")
    check("model", valid["model"], tmp_path / "m.safetensors")


@pytest.mark.parametrize("case", tried(TRAININGS))
def test_a_hostile_training_is_refused_at_once(tmp_path: Path, valid: dict[str, Path], case: str) -> None:
    TRAININGS[case](tmp_path / "m.resume.safetensors")
    check("training", valid["training"], tmp_path / "m.resume.safetensors")


@pytest.mark.parametrize("case", tried(STATES))
def test_a_state_that_is_none_is_refused(tmp_path: Path, case: str) -> None:
    """What can be read is no training that can be gone on with."""
    path, images = tmp_path / "m.resume.safetensors", hostile.image((2, 64, 64))
    facts = hostile.provenance(version=version("napari-direct-denoiser"))
    state = {"weights": dict(hostile.tiny_model().state_dict())}
    save_training(path, hostile.tiny_model(), facts, state)
    tensors, document = load_checkpoint(path)
    save_checkpoint(path, tensors, {**document, "training": pack(STATES[case], {})})
    with pytest.raises(DenoiserError):
        Denoiser.resumed(path, images, TrainSettings(preset="quick"))


@pytest.mark.parametrize("case", tried(NOISE))
def test_a_hostile_noise_file_is_refused_at_once(tmp_path: Path, valid: dict[str, Path], case: str) -> None:
    suffix, make = NOISE[case]
    make(tmp_path / f"n{suffix}")
    check("noise", valid["noise"], tmp_path / f"n{suffix}")


@pytest.mark.parametrize("case", tried(IMAGES))
def test_a_hostile_image_is_refused_at_once(tmp_path: Path, valid: dict[str, Path], case: str) -> None:
    suffix, make = IMAGES[case]
    make(tmp_path / f"i{suffix}")
    check("image", valid["image"], tmp_path / f"i{suffix}")


RECORDS = {
    "deep": "[" * DEEP,
    "list": "[]",
    "no run": '{"files": {}}',
    "files that are a list": '{"run": {}, "files": [1]}',
    "entry that is a number": '{"run": %s, "files": {"a.tif": 3}}',
    "entry without a source": '{"run": %s, "files": {"a.tif": {"done": true}}}',
    "entries that are paths": '{"run": %s, "files": {"../../x": {"done": true, "source": 0}, "/etc/passwd": 0}}',
    "another run": '{"run": [[]], "files": {}}',
    "a million lists": '{"run": [%s[]], "files": {}}' % ("[]," * 1_000_000),
}


@pytest.mark.parametrize("case", tried(RECORDS))
def test_the_record_of_a_folder_is_data(tmp_path: Path, valid: dict[str, Path], case: str) -> None:
    """Of results that a person was sent: nothing in it names a file that is touched."""
    images, results = tmp_path / "images", tmp_path / "results"
    images.mkdir()
    results.mkdir()
    np.save(images / "a.npy", hostile.image((16, 16)))
    command = ["denoise", str(images), "--model", str(valid["model"]), "--output", str(results)]
    assert CliRunner().invoke(app, command).exit_code == 0
    run = json.dumps(json.loads((results / NAME).read_text())["run"])
    (results / NAME).write_text(RECORDS[case] % run if RECORDS[case].count("%s") else RECORDS[case])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 1, found.output
    assert found.stderr.splitlines()[-1].startswith("Error: ")
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("command", ["info {model}", "denoise {image} --model {model} --output {folder}/o.tif"])
@pytest.mark.parametrize(
    "case", tried(["pickle", "deep description", "a billion channels", "noise that grows", "pipe"])
)
def test_a_command_says_in_one_line_what_is_wrong(tmp_path: Path, case: str, command: str) -> None:
    MODELS[case](tmp_path / "m.safetensors")
    np.save(tmp_path / "i.npy", hostile.image((16, 16)))
    words = command.format(model=tmp_path / "m.safetensors", image=tmp_path / "i.npy", folder=tmp_path).split()
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 1
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("Error: ")
    assert found.stdout == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["i.npy", "m.safetensors"]
