"""``denoise`` into an OME-Zarr: plane by plane, gone on with after an interruption, never replaced unasked."""

from __future__ import annotations

import hashlib
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

PLANES = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and an image of six planes, as TIFF of ImageJ."""
    folder = tmp_path_factory.mktemp("made")
    noisy = np.random.default_rng(0).poisson(150, (2, 3, 64, 72)).astype(np.uint16)
    Denoiser.for_images([noisy], TrainSettings(noise="poisson:2,100,3", device="cpu")).save(folder / "m.safetensors")
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 0.5, "finterval": 2.0}
    tifffile.imwrite(folder / "noisy.tif", noisy, imagej=True, resolution=(5.0, 4.0), metadata=metadata)
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with these files."""
    monkeypatch.chdir(tmp_path)
    for path in made.iterdir():
        Path(path.name).write_bytes(path.read_bytes())
    return tmp_path


def call(*options: str, image: str = "noisy.tif", output: str = "out.zarr") -> Any:
    return CliRunner().invoke(app, ["denoise", image, "--model", "m.safetensors", "--output", output, *options])


def planes(result: Any) -> int:
    assert result.exit_code == 0, result.stderr
    return int(json.loads(result.stdout.splitlines()[-1])["planes"])


def digests(folder: str) -> dict[str, str]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupted_after(count: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Interrupt the writing of an image after some planes."""
    write, written = ZarrImage.__setitem__, []

    def broken(self: ZarrImage, region: Any, pixels: Any) -> None:
        if len(written) == count:
            raise error
        written.append(region)
        write(self, region, pixels)

    monkeypatch.setattr(ZarrImage, "__setitem__", broken)


def test_a_result_has_the_pixels_axes_and_pixel_size_of_its_image(folder: Path) -> None:
    assert planes(call("--json")) == PLANES
    group = zarr.open_group("out.zarr", mode="r")
    noisy = tifffile.imread("noisy.tif")
    np.testing.assert_array_equal(group["0"][...], load("m.safetensors").denoise(noisy))
    (image,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "z", "y", "x"]
    assert [axis.get("unit") for axis in image["axes"]] == ["second", *["micrometer"] * 3]
    np.testing.assert_allclose(image["datasets"][0]["coordinateTransformations"][0]["scale"], [2, 0.5, 0.25, 0.2])
    # and an OME-Zarr of the older version gives one of this version
    assert planes(call("--ome-zarr", "0.4", "--json", output="old.zarr")) == PLANES
    assert planes(call("--json", image="old.zarr", output="again.zarr")) == PLANES
    again = zarr.open_group("again.zarr", mode="r")
    assert again.metadata.zarr_format == 2
    assert again.attrs["multiscales"][0]["axes"] == image["axes"]


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--method", "mean", "--samples", "2", "--seed", "4", "--dtype", "same", "--json")
    assert planes(call(*options, output="whole.zarr")) == PLANES
    with monkeypatch.context() as patch:
        interrupted_after(2, patch, KeyboardInterrupt())
        assert call(*options).exit_code != 0
    assert not Path("out.zarr").exists()
    with monkeypatch.context() as patch:
        interrupted_after(1, patch, OSError(28, "No space left on device"))
        full = call(*options)
    assert full.exit_code == 1
    assert "No space left" in full.stderr
    assert "Traceback" not in full.stderr
    assert planes(call(*options)) == PLANES - 3
    assert digests("out.zarr") == digests("whole.zarr")
    done = call(*options)
    assert planes(done) == 0
    assert "done already" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["m.safetensors", "noisy.tif", "out.zarr", "whole.zarr"]


def test_a_result_of_another_run_is_replaced_only_if_that_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    before = digests("out.zarr")
    for options in (("--method", "std"), ("--dtype", "same")):
        other = call(*options)
        assert other.exit_code == 1
        assert "found one of another run: choose another output, or --overwrite" in other.stderr
    assert digests("out.zarr") == before
    with monkeypatch.context() as patch:
        interrupted_after(1, patch, KeyboardInterrupt())
        call("--method", "std", "--overwrite")
    assert digests("out.zarr") == before
    assert planes(call("--dtype", "same", "--overwrite", "--json")) == PLANES  # a draft of another run is removed, too
    assert zarr.open_group("out.zarr", mode="r")["0"].dtype == np.uint16
    assert "other than the image itself" in call("--overwrite", image="out.zarr").stderr


def test_a_bad_plane_is_named_and_the_others_are_kept(folder: Path) -> None:
    bad = tifffile.imread("noisy.tif").astype(np.float32)
    bad[1, 0, 3, 4] = np.nan
    np.save("bad.npy", bad)
    done = call("--axes", "TZYX", image="bad.npy")
    assert done.exit_code == 1
    assert "bad.npy, the first at T=1, Z=0, Y=3, X=4" in " ".join(done.stderr.split())
    draft = zarr.open_group(".out.zarr.part", mode="r")
    assert [bool(plane.any()) for plane in draft["0"][...].reshape(6, -1)] == [True, True, True, False, True, True]


def test_a_channel_and_samples(folder: Path) -> None:
    both = np.stack([tifffile.imread("noisy.tif")[0]] * 2, 1)
    both[:, 1] += 5
    np.save("both.npy", both)
    drawn = ("--axes", "ZCYX", "--channel", "1", "--method", "sample", "--samples", "2", "--json")
    assert planes(call(*drawn, image="both.npy")) == 3
    found = zarr.open_group("out.zarr", mode="r")["0"][...]
    np.testing.assert_array_equal(found, load("m.safetensors").sample(both[:, 1], 2))


def test_tif_and_npy_are_written_plane_by_plane_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, denoiser = tifffile.imread("noisy.tif"), load("m.safetensors")
    expected = {"direct": denoiser.denoise(noisy), "mean": denoiser.posterior_mean(noisy, 2)}
    monkeypatch.setattr(Denoiser, "denoise_steps", lambda *_, **__: pytest.fail("all planes in memory"))
    for method, output in (("direct", "out.tif"), ("mean", "out.npy")):
        assert planes(call("--method", method, "--samples", "2", "--json", output=output)) == PLANES
        found = np.load(output) if output.endswith(".npy") else tifffile.imread(output)
        np.testing.assert_array_equal(found, expected[method])


def test_wrong_use(folder: Path) -> None:
    assert call("--workers", "2", "--scheduler", "tcp://here:1").exit_code == 2
    done = call("--workers", "2", output="out.tif")
    assert done.exit_code == 1
    assert "leave --workers and --scheduler out" in done.stderr
    done = call("--scheduler", "nowhere")
    assert done.exit_code == 1
    assert "Expected a dask scheduler at nowhere" in done.stderr
    assert not Path("out.zarr").exists()
