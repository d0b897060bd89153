"""Images that need not fit in memory: the same results as in memory, plane by plane."""

from __future__ import annotations

import threading
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser.data.images import plane_regions
from napari_direct_denoiser.errors import ImageError
from napari_direct_denoiser.prediction.lazy import denoised
from napari_direct_denoiser.prediction.predict import denoise_into
from napari_direct_denoiser.prediction.tiling import Output
from napari_direct_denoiser.progress import drain

SETTINGS = TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu")


@pytest.fixture(scope="module")
def stack() -> NDArray[np.uint16]:
    return np.random.default_rng(0).poisson(150, (2, 3, 64, 72)).astype(np.uint16)


@pytest.fixture(scope="module")
def denoiser(stack: NDArray[np.uint16]) -> Denoiser:
    return Denoiser.for_images(stack, SETTINGS)


class Disk:
    """An image on disk: it counts what is read of it."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels, self.shape, self.dtype, self.ndim = pixels, pixels.shape, pixels.dtype, pixels.ndim
        self.read: list[tuple[int, ...]] = []

    def __getitem__(self, region: Any) -> NDArray[Any]:
        found = self.pixels[region]
        self.read.append(found.shape)
        return found


def test_regions_are_all_planes_in_the_order_of_the_axes() -> None:
    image = np.arange(2 * 4 * 3 * 5).reshape(2, 4, 3, 5)  # T Y Z X
    planes = [image[region] for region in plane_regions(image.shape, "TYZX")]
    assert {plane.shape for plane in planes} == {(1, 4, 1, 5)}
    expected = np.moveaxis(image, 2, 1).reshape(6, 4, 5)
    np.testing.assert_array_equal(np.stack([plane[0, :, 0] for plane in planes]), expected)
    assert [image[0, :, 0][region].shape for region in plane_regions((4, 5), "YX")] == [(4, 5)]


def test_dask_in_dask_out_with_the_same_pixels(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    lazy = da.from_array(stack, chunks=(2, 2, 40, 40))
    results = {
        "direct": (denoiser.denoise(lazy), denoiser.denoise(stack)),
        "std": (denoiser.std(lazy), denoiser.std(stack)),
        "sample": (denoiser.sample(lazy, 2, seed=3), denoiser.sample(stack, 2, seed=3)),
        "mean": (denoiser.posterior_mean(lazy, 2), denoiser.posterior_mean(stack, 2)),
    }
    for found, expected in results.values():
        assert isinstance(found, da.Array)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found.compute(), expected)


def test_a_plane_is_computed_only_when_it_is_asked_for(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    disk = Disk(stack)
    result = denoised(denoiser.model, disk, axes="TZYX")
    assert not any(map(np.prod, disk.read))  # dask looks at an empty part
    disk.read.clear()
    result[1, 2].compute()
    assert disk.read == [(1, 1, 64, 72)]


def test_threads_of_dask_take_turns(denoiser: Denoiser, stack: NDArray[np.uint16], monkeypatch: Any) -> None:
    inside, most, real, lock = 0, 0, denoiser.model.direct, threading.Lock()

    def direct(noisy: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        found = real(noisy)
        with lock:
            inside -= 1
        return found

    monkeypatch.setattr(denoiser.model, "direct", direct)
    with dask.config.set(scheduler="threads", num_workers=4):
        denoised(denoiser.model, stack, axes="TZYX").compute()
    assert most == 1


@pytest.mark.parametrize("axes", ["TZYX", "TYXZ", "XYZT"])
def test_into_arrays_equals_in_memory(denoiser: Denoiser, stack: NDArray[np.uint16], axes: str) -> None:
    image = stack.transpose(["TZYX".index(axis) for axis in axes])
    disk = Disk(image)
    targets: dict[Output, Any] = {name: np.zeros(image.shape, np.float32) for name in ("direct", "std", "sample_std")}
    targets["sample"] = np.zeros((2, *image.shape), np.float32)
    progress = list(denoise_into(denoiser.model, disk, targets, axes=axes, samples=3, seed=5))
    steps = denoiser.denoise_steps(image, list(targets), samples=3, seed=5, axes=axes)
    expected = drain(steps)
    np.testing.assert_array_equal(targets["sample"], expected.pop("sample")[:2])
    for name, result in expected.items():
        np.testing.assert_array_equal(targets[name], result)  # type: ignore[index]
    assert len(disk.read) == 6  # each plane once
    assert progress[-1].fraction == 1
    fractions = [record.fraction for record in progress]
    assert fractions == sorted(set(fractions))


def test_a_part_has_the_samples_that_it_has_in_the_whole(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    whole = denoiser.posterior_mean(stack, 2, seed=1)
    target = np.zeros((1, 1, 64, 72), np.float32)
    list(denoise_into(denoiser.model, stack[1:, 2:], {"mean": target}, axes="TZYX", samples=2, seed=1, first=5))
    np.testing.assert_array_equal(target[0, 0], whole[1, 2])
    part = denoised(denoiser.model, stack[1:, 2:], "mean", axes="TZYX", samples=2, seed=1, first=5)
    np.testing.assert_array_equal(part.compute()[0, 0], whole[1, 2])


def test_a_bad_plane_is_named(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    hole = stack.astype(np.float32)
    hole[1, 2, 3, 4:6] = np.nan
    with pytest.raises(ImageError, match="2 NaN or infinite pixels in image, the first at T=1, Z=2, Y=3, X=4: replace"):
        list(denoise_into(denoiser.model, hole, {"direct": np.zeros(hole.shape, np.float32)}, axes="TZYX"))
    lazy = denoised(denoiser.model, hole, axes="TZYX")
    assert np.isfinite(lazy[0, 0].compute()).all()
    with pytest.raises(ImageError, match="the first at T=1, Z=2, Y=3, X=4"):
        lazy[1, 2].compute()


def test_a_pixel_beyond_float32_is_refused(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    image = stack.astype(np.float64)
    image[1, 0, 7, 8] = 1e39
    with pytest.raises(ImageError, match=r"range of float32.*found 1e\+39 .*T=1, Z=0, Y=7, X=8"):
        list(denoise_into(denoiser.model, image, {"direct": np.zeros(image.shape, np.float32)}, axes="TZYX"))
    with pytest.raises(ImageError, match="T=1, Z=0, Y=7, X=8"):
        denoised(denoiser.model, image, axes="TZYX")[1, 0].compute()


def test_a_denoiser_keeps_the_first_samples(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    kept = drain(denoiser.denoise_steps(stack[0], ["mean", "sample"], samples=3, axes="ZYX", keep=1))
    assert kept["sample"].shape == (1, *stack[0].shape)
    np.testing.assert_array_equal(kept["sample"][0], denoiser.sample(stack[0], 3, axes="ZYX")[0])
    np.testing.assert_array_equal(kept["mean"], denoiser.posterior_mean(stack[0], 3, axes="ZYX"))


def test_into_zarr_equals_into_numpy(denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    image = stack[0].transpose(1, 2, 0)  # Y X Z
    shapes: dict[Output, tuple[int, ...]] = {"direct": image.shape, "std": image.shape, "sample": (2, *image.shape)}
    arrays: dict[Output, Any] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    stores: dict[Output, Any] = {name: zarr.zeros(shape, dtype="float32") for name, shape in shapes.items()}
    for targets in (arrays, stores):
        drain(denoise_into(denoiser.model, image, targets, axes="YXZ", samples=3))
    for name, expected in arrays.items():
        assert expected.any()
        np.testing.assert_array_equal(stores[name][:], expected)
