"""Images of any size, block by block: the same as in memory, only what is missing, and no more read than is needed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.images import plane_regions
from napari_direct_denoiser.data.ome_zarr import ZarrImage
from napari_direct_denoiser.data.views import View
from napari_direct_denoiser.errors import DenoiserError, ImageError, SettingError
from napari_direct_denoiser.noise import LineNoise
from napari_direct_denoiser.prediction import blocks
from napari_direct_denoiser.prediction.blocks import block_sides
from napari_direct_denoiser.prediction.streaming import denoise_blocks, denoised_planes
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.progress import drain


class Disk:
    """An image on disk: it counts what is read of it. A plane may be damaged."""

    def __init__(self, pixels: NDArray[Any], damaged: int | None = None) -> None:
        self.pixels, self.shape, self.dtype, self.damaged = pixels, pixels.shape, pixels.dtype, damaged
        self.read: list[tuple[int, ...]] = []

    def __getitem__(self, region: Any) -> NDArray[Any]:
        found = self.pixels[region]
        self.read.append(found.shape)
        if self.damaged is not None and region[0].start == self.damaged:
            raise ImageError(f"plane {self.damaged} is damaged")
        return found


@pytest.fixture(scope="module")
def stack() -> NDArray[np.uint16]:
    return np.random.default_rng(0).poisson(150, (2, 3, 64, 72)).astype(np.uint16)


@pytest.fixture(scope="module")
def denoiser(stack: NDArray[np.uint16]) -> Denoiser:
    return Denoiser.for_images(stack, TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu"))


def zarr_image(path: Path, shape: tuple[int, ...], axes: str, block: tuple[int, int], seed: int = 0) -> ZarrImage:
    return ZarrImage.create(path, shape, axes, "uint16", block=block, identity={"seed": seed})


def digests(folder: Path) -> Mapping[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("axes", ["TZYX", "XYZT"])
def test_every_output_is_what_it_is_in_memory(denoiser: Denoiser, stack: NDArray[np.uint16], axes: str) -> None:
    image = stack.transpose(["TZYX".index(axis) for axis in axes])
    disk = Disk(image)
    targets: dict[Output, Any] = {name: np.zeros(image.shape, np.float32) for name in ("direct", "std", "median")}
    targets["sample"] = np.zeros((2, *image.shape), np.float32)
    steps = denoise_blocks(denoiser.model, disk, targets, axes=axes, samples=3, seed=5)
    progress = []
    written = drain(steps, progress.append)
    expected = drain(denoiser.denoise_steps(image, list(targets), samples=3, seed=5, axes=axes, keep=2))
    for name, result in expected.items():
        np.testing.assert_array_equal(targets[name], result)  # type: ignore[index]
    assert written.planes == 6
    assert progress[-1].fraction == 1
    assert [record.fraction for record in progress] == sorted(record.fraction for record in progress)
    assert len(disk.read) == 7  # each plane once, and the first one to look at it


def test_a_stopped_run_goes_on_with_what_is_missing_and_ends_the_same(
    denoiser: Denoiser, stack: NDArray[np.uint16], tmp_path: Path
) -> None:
    def steps(target: ZarrImage, image: Any) -> Any:
        return denoise_blocks(denoiser.model, image, {"mean": target}, axes="TZYX", samples=2, seed=3)

    for name in ("at once", "in parts"):
        target = zarr_image(tmp_path / f"{name}.zarr", stack.shape, "TZYX", (64, 72))
        if name == "in parts":
            steps(target, stack).close()
            half = steps(target, stack)
            while not target.is_done((slice(0, 1), slice(1, 2), slice(0, 64), slice(0, 72))):
                next(half)
            half.close()
            target = zarr_image(tmp_path / f"{name}.zarr", stack.shape, "TZYX", (64, 72))
            missing = sum(not target.is_done(region) for region in plane_regions(stack.shape, "TZYX"))
            assert 0 < missing < 5
            disk = Disk(stack)
            assert drain(steps(target, disk)).planes == missing
            assert len(disk.read) == 1 + missing
            assert drain(steps(target, disk)).planes == 0
        else:
            assert drain(steps(target, stack)).planes == 6
        target.finish()
    assert digests(tmp_path / "at once.zarr") == digests(tmp_path / "in parts.zarr")
    found = zarr.open_group(str(tmp_path / "in parts.zarr"), mode="r")["0"][...]
    np.testing.assert_array_equal(found, np.rint(denoiser.posterior_mean(stack, 2, seed=3)))


def test_large_planes_are_cut_into_tiles_that_see_their_surroundings(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(blocks, "TILE", 128)
    image = np.random.default_rng(1).poisson(150, (1, 300, 270)).astype(np.uint16)
    outputs: tuple[Output, ...] = ("direct", "std")
    sides = block_sides(denoiser.model, image.shape, "TYX", outputs)
    assert sides == (128, 128)
    targets = {name: zarr_image(tmp_path / f"{name}.zarr", image.shape, "TYX", sides) for name in outputs}
    disk = Disk(image)
    assert drain(denoise_blocks(denoiser.model, disk, targets, axes="TYX")).planes == 1
    assert max(np.prod(shape) for shape in disk.read[1:]) <= (128 + 2 * denoiser.model.halo) ** 2
    expected = drain(denoiser.denoise_steps(image, outputs))
    for name, target in targets.items():
        np.testing.assert_allclose(target[...], np.rint(expected[name]), atol=1)
        assert np.mean(target[...] != np.rint(expected[name])) < 0.01


def test_samples_and_lines_need_whole_planes(denoiser: Denoiser) -> None:
    large = (3, 5000, 6000)
    lines = copy.copy(denoiser)
    lines.model = copy.deepcopy(denoiser.model)
    lines.model.noise = LineNoise(lines.model.noise, 3.0)
    assert block_sides(denoiser.model, large, "TYX", ["direct"]) == (4096, 4096)
    assert block_sides(denoiser.model, (2000, 3, 9000), "YTX", ["std"]) == (2000, 4096)
    assert block_sides(denoiser.model, large, "TYX", ["direct", "mean"]) == (5000, 6000)
    assert block_sides(lines.model, large, "TYX", ["direct"]) == (5000, 6000)
    assert block_sides(denoiser.model, (3, 4096, 4096), "TYX", ["direct"]) == (4096, 4096)


def test_bad_planes_are_named_and_all_others_are_written(
    denoiser: Denoiser, stack: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = stack.reshape(6, 64, 72).astype(np.float32)
    image[4, 3, 5] = np.nan
    target = zarr_image(tmp_path / "out.zarr", image.shape, "TYX", (64, 72))
    steps = denoise_blocks(denoiser.model, Disk(image, damaged=2), {"direct": target}, axes="TYX", name="cells.tif")
    with pytest.raises(ImageError, match="plane 2 is damaged; 1 more"):
        drain(steps)
    assert [bool(plane.any()) for plane in target[...]] == [True, True, False, True, False, True]
    array = np.zeros(image.shape, np.float32)  # which nobody goes on with: the first bad plane ends the run
    with pytest.raises(
        ImageError, match=r"1 NaN or infinite pixels in cells\.tif, the first at T=4, Y=3, X=5: replace"
    ):
        drain(denoise_blocks(denoiser.model, image, {"direct": array}, axes="TYX", name="cells.tif"))
    assert [bool(plane.any()) for plane in array] == [True] * 4 + [False] * 2


def test_what_cannot_be_denoised_is_refused_before_the_work(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    target = np.zeros((1, 64, 72), np.float32)
    with pytest.raises(ImageError, match="labels or a mask"):
        denoise_blocks(denoiser.model, np.kron(stack[0], np.ones((1, 16, 16), int)), {"direct": target}, axes="TYX")
    with pytest.raises(ImageError, match="empty"):
        denoise_blocks(denoiser.model, stack[0, :0], {"direct": target}, axes="TYX")
    with pytest.raises(SettingError, match="at least 1 sample"):
        denoise_blocks(denoiser.model, stack[0], {"mean": target}, axes="TYX", samples=0)


def test_a_full_disk_is_an_error_that_says_so(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    class Full(Disk):
        def __setitem__(self, region: Any, pixels: Any) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(DenoiserError, match="No space left"):
        drain(denoise_blocks(denoiser.model, stack, {"direct": Full(stack)}, axes="TZYX"))


def test_clipped_pixels_are_counted_for_each_output(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    targets: dict[Output, Any] = {name: np.zeros(stack.shape, np.uint8) for name in ("direct", "std")}
    written = drain(denoise_blocks(denoiser.model, 2 * stack, targets, axes="TZYX"))
    assert written.clipped["direct"] == np.count_nonzero(targets["direct"] == 255) > 0
    assert written.clipped["std"] == 0


def test_a_view_reads_only_when_it_becomes_an_array(stack: NDArray[np.uint16]) -> None:
    disk = Disk(stack)
    view = View(disk)[1:, 2]
    assert (view.shape, view.ndim, view.dtype) == ((1, 64, 72), 3, np.uint16)
    part = view[0, 10:20][:, 3:-1:2]
    assert not disk.read
    np.testing.assert_array_equal(np.asarray(part), stack[1, 2, 10:20, 3:-1:2])
    assert disk.read == [part.shape]


def test_dask_planes_are_computed_when_they_are_needed(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    computed = []

    def plane(block_info: Any = None) -> NDArray[np.uint16]:
        at = block_info[None]["array-location"][0][0]
        computed.append(at)
        return stack[0, at : at + 1]

    lazy = da.map_blocks(plane, chunks=((1,) * 3, 64, 72), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    target = np.zeros(lazy.shape, np.float32)
    steps = denoise_blocks(denoiser.model, lazy, {"direct": target}, axes="ZYX")
    assert computed == [0]  # what kind of image it is
    list(islice(steps, 1))
    assert computed == [0, 0]
    drain(steps)
    assert computed == [0, 0, 1, 2]
    np.testing.assert_array_equal(target, denoiser.denoise(stack[0]))


def test_planes_come_one_by_one(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    image = stack.transpose(2, 0, 3, 1)  # Y T X Z
    disk, progress = Disk(image), []
    planes = denoised_planes(denoiser.model, disk, "mean", axes="YTXZ", samples=2, seed=1, report=progress.append)
    found = [next(planes)]
    assert len(disk.read) == 2  # the first one, and before it a look at it
    found += planes
    expected = denoiser.posterior_mean(stack, 2, seed=1)
    np.testing.assert_array_equal(np.stack(found), expected.reshape(6, 64, 72))
    assert progress[-1].fraction == 1
