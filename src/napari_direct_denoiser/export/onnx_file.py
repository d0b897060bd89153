"""A model as an ONNX file, with what a user of the file must know in its metadata."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.files import check_target, replacing
from .direct_pass import DirectPass, check_exportable, smallest_side, traced, write_onnx
from .extra import require
from .words import describe

if TYPE_CHECKING:
    from ..denoiser import Denoiser


def check_onnx(denoiser: Denoiser, path: str | Path) -> None:
    """Raise the errors of `export_onnx` that can be known before any work."""
    check_target(path, [".onnx"], what="ONNX file")
    require("onnx")
    check_exportable(denoiser.model)


def export_onnx(denoiser: Denoiser, path: str | Path) -> None:
    """Write the direct pass of a model as an ONNX file (opset 17, float32), completely or not at all.

    The input "noisy" and the output "denoised" are (batch, 1, height, width) float32, both in counts, of any batch,
    height and width: normalization, whitening and padding are inside. Needs the extra ``export``.

    Parameters
    ----------
    denoiser
        A trained model.
    path
        The file, which ends in ``.onnx``; an existing one is replaced.

    Raises
    ------
    SettingError
        If no such file can be written there, the extra is not installed, or the noise of the model has offsets of rows
        or columns, which a network cannot hold.
    DenoiserError
        If writing fails, for example on a full disk.
    """
    check_onnx(denoiser, path)
    network = DirectPass(denoiser.model)
    with replacing(path) as draft:
        write_onnx(draft, traced(network), network)
        add_metadata(draft, denoiser)


def add_metadata(path: Path, denoiser: Denoiser) -> None:
    """Add the description of a model to its ONNX file, and check the file."""
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "napari-direct-denoiser", version("napari-direct-denoiser")
    model.doc_string = describe(denoiser)
    model.graph.name = "direct_denoiser"
    values = {
        "axes": "BCYX",
        "dtype": "float32",
        "unit": "counts",
        "smallest_side": str(smallest_side(denoiser.model)),
        "halo": str(denoiser.model.halo),
        "loss": denoiser.model.config.loss,
        "noise": denoiser.model.noise.describe(),
    }
    onnx.helper.set_model_props(model, values)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
