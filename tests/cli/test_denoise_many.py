"""``denoise`` of many files: each on its own, a bad one does not stop the others, what is done is skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, TrainSettings, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.ome_zarr import ZarrImage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    noisy = np.random.default_rng(0).poisson(150, (64, 72)).astype(np.uint16)
    Denoiser.for_images([noisy], TrainSettings(noise="poisson:2,100,3", device="cpu")).save(path)
    return path


@pytest.fixture(autouse=True)
def noisy(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder ``in`` of images of three kinds and several shapes."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("m.safetensors").write_bytes(model.read_bytes())
    rng = np.random.default_rng(1)
    images = {
        "a1.tif": rng.poisson(150, (64, 72)),
        "a2.tif": rng.poisson(150, (2, 50, 40)),
        "a10.npy": rng.poisson(150, (40, 40)),
        "b.zarr": rng.poisson(150, (3, 40, 40)),
    }
    images = {name: image.astype(np.uint16) for name, image in images.items()}
    for name in ("a1.tif", "a2.tif"):
        tifffile.imwrite(f"in/{name}", images[name], imagej=True, metadata={"axes": "TYX"[-images[name].ndim :]})
    np.save("in/a10.npy", images["a10.npy"])
    stored = ZarrImage.create("in/b.zarr", (3, 40, 40), "TYX", "uint16", block=(40, 40), version="0.4")
    stored[:, :, :] = images["b.zarr"]
    stored.finish()
    Path("in/notes.txt").write_text("no image")
    return images


def call(*arguments: str, output: str = "out") -> Any:
    return CliRunner().invoke(app, ["denoise", *arguments, "--model", "m.safetensors", "--output", output, "--json"])


def facts(result: Any, exit_code: int = 0) -> dict[str, Any]:
    assert result.exit_code == exit_code, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def read(path: str) -> Any:
    if path.endswith(".zarr"):
        return zarr.open_group(path, mode="r")["0"][...]
    return np.load(path) if path.endswith(".npy") else tifffile.imread(path)


def test_a_folder_gives_a_folder_and_a_rerun_does_what_is_new(noisy: dict[str, Any]) -> None:
    found = facts(call("in"))
    assert found.keys() == {"seconds", "method", "samples", "planes", "output", "files", "failed"}
    assert (found["planes"], found["failed"], found["output"]) == (7, [], "out")
    assert [Path(each["input"]).name for each in found["files"]] == ["a1.tif", "a2.tif", "a10.npy", "b.zarr"]
    denoiser = load("m.safetensors")
    for name, image in noisy.items():
        np.testing.assert_array_equal(read(f"out/{name}"), denoiser.denoise(image))
    assert zarr.open_group("out/b.zarr", mode="r").metadata.zarr_format == 2  # of the same version of OME-Zarr
    written = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    again = facts(call("in"))
    assert again["planes"] == 0
    assert all(each["skipped"] for each in again["files"])
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == written
    np.save("in/c.npy", noisy["a10.npy"])
    np.save("in/a10.npy", noisy["a1.tif"])  # another image under the same name
    third = facts(call("in/*.npy"))
    assert (third["planes"], len(third["files"])) == (2, 2)
    np.testing.assert_array_equal(read("out/a10.npy"), denoiser.denoise(noisy["a1.tif"]))
    assert facts(call("in"))["planes"] == 0


def test_a_bad_image_is_reported_and_the_others_are_done(noisy: dict[str, Any]) -> None:
    Path("in/a2.tif").write_bytes(Path("in/a2.tif").read_bytes()[:4000])
    bad = noisy["a10.npy"].astype(np.float32)
    bad[3, 4] = np.nan
    np.save("in/a10.npy", bad)
    done = call("in/*.tif", "in/a10.npy", "in/b.zarr")
    found = facts(done, 1)
    assert {Path(each["input"]).name for each in found["failed"]} == {"a2.tif", "a10.npy"}
    assert "NaN" in next(each["error"] for each in found["failed"] if "a10" in each["input"])
    assert {Path(each["output"]).name for each in found["files"]} == {"a1.tif", "b.zarr"}
    assert {path.name for path in Path("out").iterdir()} == {"a1.tif", "b.zarr", "direct-denoiser.json"}
    assert done.stderr.splitlines()[-1].startswith("Error: 2 of 4 images could not be denoised")
    np.save("in/a10.npy", noisy["a10.npy"])
    mended = facts(call("in/*.tif", "in/a10.npy", "in/b.zarr"), 1)
    assert [Path(each["input"]).name for each in mended["failed"]] == ["a2.tif"]
    assert mended["planes"] == 1


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_stops_and_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        done = call("in")
    assert done.exit_code == 1
    assert "a10.npy could not be written (No space left" in " ".join(done.stderr.split())
    found = facts(call("in"))
    assert [each["skipped"] for each in found["files"]].count(True) == 2
    assert found["planes"] == 4


def test_results_of_another_run_are_replaced_only_if_that_is_asked_for(noisy: dict[str, Any]) -> None:
    call("in/*.tif")
    other = call("in/*.tif", "--method", "std")
    assert other.exit_code == 1
    assert "out of another run (method direct): choose another folder, or --overwrite" in other.stderr
    assert facts(call("in/*.tif", "--method", "std", "--overwrite"))["planes"] == 3
    np.testing.assert_array_equal(read("out/a1.tif"), load("m.safetensors").std(noisy["a1.tif"]))
    Path("mine").mkdir()
    Path("mine/a1.tif").write_text("precious")
    strange = call("in/*.tif", output="mine")
    assert strange.exit_code == 1
    assert "found a1.tif: choose another folder" in strange.stderr
    assert Path("mine/a1.tif").read_text() == "precious"
    assert [path.name for path in Path("mine").iterdir()] == ["a1.tif"]


def test_what_cannot_work_is_refused_before_the_work() -> None:
    Path("twin").mkdir()
    Path("twin/a1.tif").write_bytes(Path("in/a1.tif").read_bytes())
    Path("empty").mkdir()
    for arguments, options, words in (
        (("in", "twin"), {}, "Expected images of different names, found in/a1.tif and twin/a1.tif"),
        (("in",), {"output": "in"}, "Expected another folder than that of the images"),
        (("in",), {"output": "out.tif"}, "Expected a folder for the results"),
        (("in",), {"output": "no/out"}, "Folder no does not exist"),
        (("empty",), {}, "none"),
        (("in/*.png",), {}, "none"),
        (("in", "--workers", "2"), {}, "leave --workers and --scheduler out"),
    ):
        done = call(*arguments, **options)
        assert done.exit_code == 1
        assert words in " ".join(done.stderr.split()), done.stderr
    assert not Path("out").exists()
    assert {path.name for path in Path("in").iterdir()} == {"a1.tif", "a2.tif", "a10.npy", "b.zarr", "notes.txt"}
