"""A model as a package of bioimage.io (model description 0.5), which deepImageJ, ilastik and QuPath read.

The package holds the direct pass as TorchScript and as ONNX, a simulated image to test it with, and a README. Large
images are to be cut into tiles: their context is the `halo` of the output, as in `prediction.tiling`.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch
from torch import Tensor

from ..data.files import check_target, replacing
from ..data.synthetic import simulate
from .direct_pass import OPSET, DirectPass, check_exportable, traced, write_onnx, write_torchscript
from .extra import require
from .onnx_file import add_metadata
from .words import CITATIONS, LICENCE, readme, summary

if TYPE_CHECKING:
    from ..co_model import CoModel
    from ..denoiser import Denoiser

FORMAT = "0.5.4"
"""Version of the model description. Older libraries read it too: bioimageio.core 0.9.6, which ilastik has in 2026."""
_SAMPLE_SIDE = 256  # pixels of the simulated image, at least


def check_bioimageio(denoiser: Denoiser, path: str | Path) -> None:
    """Raise the errors of `export_bioimageio` that can be known before any work."""
    check_target(path, [".zip"], what="bioimage.io package")
    require("onnx", "yaml")
    check_exportable(denoiser.model)


def export_bioimageio(denoiser: Denoiser, path: str | Path) -> None:
    """Write a model as a bioimage.io package, completely or not at all. Needs the extra ``export``, and no network.

    Parameters
    ----------
    denoiser
        A trained model.
    path
        The file, which ends in ``.zip``; an existing one is replaced.

    Raises
    ------
    SettingError
        If no such file can be written there, the extra is not installed, or the noise of the model has offsets of rows
        or columns, which a network cannot hold.
    DenoiserError
        If writing fails, for example on a full disk.
    """
    check_bioimageio(denoiser, path)
    with TemporaryDirectory() as name, replacing(path) as draft:
        folder = Path(name)
        _write_files(folder, denoiser)
        _write_description(folder, denoiser, Path(path).stem)
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as package:
            for file in sorted(folder.iterdir()):
                package.write(file, file.name)


def _write_files(folder: Path, denoiser: Denoiser) -> None:
    """Write the network in both formats, the simulated image and its result, and the README."""
    network = DirectPass(denoiser.model)
    trace = traced(network)
    write_torchscript(folder / "direct_pass.pt", trace)
    write_onnx(folder / "direct_pass.onnx", trace, network)
    add_metadata(folder / "direct_pass.onnx", denoiser)
    noisy = _simulated(network, _sample_side(denoiser.model))
    with torch.no_grad():
        tensors = {"noisy": noisy, "denoised": network(noisy)}
    for name, tensor in tensors.items():
        np.save(folder / f"{name}.npy", tensor.numpy())
        tifffile.imwrite(folder / f"{name}.tif", tensor[0, 0].numpy())
    (folder / "README.md").write_text(readme(denoiser), encoding="utf-8")


def _least_side(model: CoModel) -> int:
    """Smallest side of a tile: two halos, and something between them."""
    return 2 * model.halo + model.multiple


def _sample_side(model: CoModel) -> int:
    """Side of the simulated image: one of the sizes of a tile."""
    least, step = _least_side(model), model.multiple
    return least + max(-(-(_SAMPLE_SIDE - least) // step), 0) * step


def _simulated(network: DirectPass, side: int) -> Tensor:
    """Simulate a noisy image (1, 1, side, side) as bright as those of the training, with the noise of the model."""
    normalization, noise = network.model.normalization, network.model.noise
    truth = torch.from_numpy(simulate(planes=1, size=side).truth)[None]
    white = normalization.mean + normalization.std * (truth - truth.mean()) / truth.std()
    noisy: Tensor = noise.sample(noise.color(white), torch.Generator().manual_seed(0))
    return noisy


def _write_description(folder: Path, denoiser: Denoiser, stem: str) -> None:
    """Write ``rdf.yaml``, which describes the other files of a folder."""
    import yaml

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}

    letters = re.sub(r"[^A-Za-z0-9_+() -]", " ", stem)
    document = {
        "type": "model",
        "format_version": FORMAT,
        "name": f"Direct Denoiser {letters}"[:64].strip(),
        "description": summary(denoiser),
        "authors": [{"name": "anonymous"}],
        "cite": [{"text": text, "doi": doi} for text, doi in CITATIONS.items()],
        "license": LICENCE,
        "documentation": "README.md",
        "tags": ["denoising", "unsupervised", "fluorescence-light-microscopy", "2d", "unet", "pytorch"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [_tensor(denoiser.model, "noisy", file)],
        "outputs": [_tensor(denoiser.model, "denoised", file)],
        "weights": {
            "torchscript": {**file("direct_pass.pt"), "pytorch_version": torch.__version__.partition("+")[0]},
            "onnx": {**file("direct_pass.onnx"), "opset_version": OPSET, "parent": "torchscript"},
        },
    }
    (folder / "rdf.yaml").write_text(yaml.safe_dump(document, sort_keys=False, width=120), encoding="utf-8")


def _tensor(model: CoModel, name: str, file: Callable[[str], dict[str, str]]) -> dict[str, Any]:
    """Describe the input, whose sides may have many sizes, or the output, whose sides are those of the input."""

    def side(axis: str) -> dict[str, Any]:
        if name == "noisy":
            return {"size": {"min": _least_side(model), "step": model.multiple}, "concatenable": True}
        return {"size": {"tensor_id": "noisy", "axis_id": axis}, "halo": model.halo}

    return {
        "id": name,
        "description": f"{name} planes, counts of the camera",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["intensity"]},
            *({"type": "space", "id": axis, **side(axis)} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "test_tensor": file(f"{name}.npy"),
        "sample_tensor": file(f"{name}.tif"),
    }
