"""Packages pass the tests of bioimage.io, and its library tiles large images without seams."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, SettingError, export_bioimageio
from napari_direct_denoiser.export import bioimageio_package


@pytest.mark.slow
def test_the_library_of_bioimageio_accepts_the_package_and_tiles_without_seams(
    tiny: Callable[[str], Denoiser], noisy: NDArray[np.float32], least_noise: float, tmp_path: Path
) -> None:
    denoiser, noisy = tiny("poisson"), noisy[:112, :112]
    export_bioimageio(denoiser, tmp_path / "my model.zip")
    np.save(tmp_path / "image.npy", noisy)
    library = Path(__file__).parent / "library_of_bioimageio.py"
    files = [tmp_path / name for name in ("my model.zip", "image.npy", "result.npy")]
    done = subprocess.run([sys.executable, library, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["status"], found["errors"]) == ("passed", [])
    formats = {f"Reproduce test outputs from test inputs ({name})" for name in ("onnx", "torchscript")}
    assert formats <= set(found["parts"])
    assert found["tile"] - 2 * denoiser.model.halo == noisy.shape[0] / 2, "there must be four tiles"
    halo = denoiser.model.halo  # the library mirrors the image there
    whole = denoiser.denoise(np.pad(noisy, halo, "symmetric"))[halo:-halo, halo:-halo]
    assert np.abs(np.load(tmp_path / "result.npy") - whole).max() < 0.1 * least_noise


def test_describes_the_model(tiny: Callable[[str], Denoiser], tmp_path: Path) -> None:
    export_bioimageio(tiny("poisson"), tmp_path / "beads_2.zip")
    with zipfile.ZipFile(tmp_path / "beads_2.zip") as package:
        document = yaml.safe_load(package.read("rdf.yaml"))
        words = package.read("README.md").decode()
    assert document["format_version"].startswith("0.5.")
    assert document["name"] == "Direct Denoiser beads_2"
    assert next(entry["doi"] for entry in document["cite"]) == "10.48550/arXiv.2310.18116"
    assert document["documentation"] == "README.md"  # older readers expect a text
    assert document["license"] == "BSD-3-Clause"
    (tensor,), (result,) = document["inputs"], document["outputs"]
    assert tensor["axes"][3]["size"] == {"min": 60, "step": 4}
    assert result["axes"][3]["halo"] == 28
    assert "sample_tensor" in tensor
    assert "sample_tensor" in result
    assert "gain 2 counts per electron" in words
    assert "## Validation" in words


@pytest.mark.parametrize("name", ["m.onnx", "absent/m.zip", "."])
def test_refuses_what_is_no_place_for_the_file(tiny: Callable[[str], Denoiser], tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError):
        export_bioimageio(tiny("poisson"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_offsets_of_lines_are_refused(tiny: Callable[[str], Denoiser], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="row offsets of std 2 counts"):
        export_bioimageio(tiny("lines"), tmp_path / "m.zip")
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(
    tiny: Callable[[str], Denoiser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken")

    (tmp_path / "m.zip").write_bytes(b"old")
    monkeypatch.setattr(bioimageio_package, "_write_description", fail)
    with pytest.raises(ValueError, match="broken"):
        export_bioimageio(tiny("poisson"), tmp_path / "m.zip")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
