"""Blocks on a dask cluster of two workers: the same result as here, also if a worker is killed."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from typer.testing import CliRunner

from napari_direct_denoiser import Denoiser, TrainSettings, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.ome_zarr import ZarrImage
from napari_direct_denoiser.errors import DenoiserError, ImageError, SettingError
from napari_direct_denoiser.prediction.cluster import Cluster
from napari_direct_denoiser.prediction.streaming import connect, denoise_blocks
from napari_direct_denoiser.progress import drain

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def stack() -> NDArray[np.uint16]:
    return np.random.default_rng(0).poisson(150, (12, 64, 72)).astype(np.uint16)


@pytest.fixture(scope="module")
def denoiser(stack: NDArray[np.uint16]) -> Denoiser:
    return Denoiser.for_images(stack, TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu"))


@pytest.fixture(autouse=True)
def threads_of_a_worker() -> Iterator[None]:
    """Compute here with as many threads as in each worker: the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(CPU_COUNT // 2, 1))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(denoiser: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    denoiser.save(path)
    return path


@pytest.fixture(scope="module")
def cluster(model: Path) -> Iterator[Cluster]:
    with connect(load, model.read_bytes(), workers=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Any:
    return cluster._client


def test_what_else_this_process_computes_meanwhile_stays_in_it(cluster: Cluster) -> None:
    """Lazy layers of the viewer hold files and functions that no worker knows."""
    lazy = da.map_blocks(lambda block: block + os.getpid(), da.zeros(2, np.int64), dtype=np.int64)
    assert lazy.compute().tolist() == [os.getpid()] * 2


def image_at(path: Path, shape: tuple[int, ...], identity: int = 0) -> ZarrImage:
    return ZarrImage.create(path, shape, "TYX", "float32", block=(64, 72), identity={"number": identity})


class Slow:
    """An image that is read slowly, as from a disk that others use."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

    def __getitem__(self, region: Any) -> NDArray[Any]:
        time.sleep(0.2)
        return self.pixels[region]


class Full:
    """An image on a disk that is full."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, np.dtype(np.float32)

    def __setitem__(self, region: Any, pixels: Any) -> None:
        raise OSError(28, "No space left on device")


def test_a_killed_worker_changes_nothing(
    client: Any, cluster: Cluster, denoiser: Denoiser, stack: NDArray[np.uint16], tmp_path: Path
) -> None:
    expected = drain(denoiser.denoise_steps(stack, ["direct", "sample"], samples=2, seed=3))
    targets = {"direct": image_at(tmp_path / "direct.zarr", stack.shape)}
    targets["sample"] = ZarrImage.create(tmp_path / "s.zarr", (2, *stack.shape), "NTYX", "float32", block=(64, 72))
    before = client.run(os.getpid)
    steps = denoise_blocks(denoiser.model, Slow(stack), targets, axes="TYX", samples=2, seed=3, cluster=cluster)
    killed, fractions = 0, []
    for progress in steps:
        fractions.append(progress.fraction)
        if not killed and 0 < progress.fraction < 1:
            killed = next(iter(before.values()))
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert killed not in client.run(os.getpid).values()
    assert fractions[-1] == 1
    for name, target in targets.items():
        np.testing.assert_array_equal(target[...], expected[name])


def test_a_bad_plane_is_named_and_a_new_start_does_what_is_missing(
    cluster: Cluster, denoiser: Denoiser, stack: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = stack[:5].astype(np.float32)
    image[3, 1, 2] = np.inf
    target = image_at(tmp_path / "out.zarr", image.shape)
    with pytest.raises(ImageError, match=r"found 1 NaN or infinite pixels in cells\.tif, the first at T=3, Y=1, X=2"):
        drain(denoise_blocks(denoiser.model, image, {"direct": target}, axes="TYX", name="cells.tif", cluster=cluster))
    image[3, 1, 2] = 0
    target = image_at(tmp_path / "out.zarr", image.shape)
    steps = denoise_blocks(denoiser.model, image, {"direct": target}, axes="TYX", cluster=cluster)
    assert drain(steps).planes == 1
    np.testing.assert_array_equal(target[...], denoiser.denoise(image))


def test_a_stopped_run_leaves_the_workers_idle(
    client: Any, cluster: Cluster, denoiser: Denoiser, stack: NDArray[np.uint16], tmp_path: Path
) -> None:
    target = image_at(tmp_path / "out.zarr", stack.shape)
    steps = denoise_blocks(denoiser.model, Slow(stack), {"direct": target}, axes="TYX", cluster=cluster)
    next(steps)
    steps.close()
    until = time.monotonic() + 5
    while any(client.processing().values()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(client.processing().values())


def test_a_failing_block_is_one_clear_error(cluster: Cluster, denoiser: Denoiser, stack: NDArray[np.uint16]) -> None:
    target = Full(stack.shape)
    with pytest.raises(DenoiserError, match=r"could not be written .No space left"):
        drain(denoise_blocks(denoiser.model, stack, {"direct": target}, axes="TYX", cluster=cluster))


def test_a_scheduler_that_does_not_answer_is_an_error_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_direct_denoiser.prediction.cluster._ANSWER_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with (
            pytest.raises(SettingError, match=f"at {address}, found none that answers"),
            connect(load, b"", scheduler=address),
        ):
            pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_failed_connection_ends_its_thread(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Left to the garbage collector, the client could wait for a lock that the next one holds, without end."""
    monkeypatch.setattr("napari_direct_denoiser.prediction.cluster._ANSWER_SECONDS", 0.5)
    before = set(threading.enumerate())
    gc.disable()
    try:
        with pytest.raises(SettingError), connect(load, b"", scheduler=address):
            pass
        assert not set(threading.enumerate()) - before
    finally:
        gc.enable()


def test_a_scheduler_without_workers_is_an_error_after_a_while(
    denoiser: Denoiser, stack: NDArray[np.uint16], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_direct_denoiser.prediction.cluster._WORKER_SECONDS", 0.3)
    monkeypatch.setattr("napari_direct_denoiser.prediction.cluster._COUNT_SECONDS", 0.1)
    target = np.zeros(stack.shape, np.float32)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        connect(load, model.read_bytes(), scheduler=empty.scheduler_address) as cluster,
        pytest.raises(SettingError, match=f"start some with: dask worker {empty.scheduler_address}"),
    ):
        drain(denoise_blocks(denoiser.model, stack, {"direct": target}, axes="TYX", cluster=cluster))


def test_the_command_line_sends_work_to_a_scheduler(
    client: Any, denoiser: Denoiser, stack: NDArray[np.uint16], model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "noisy.npy", stack)
    files = [str(tmp_path / "noisy.npy"), "--model", str(model), "--output", str(tmp_path / "out.zarr")]
    options = ["--method", "mean", "--samples", "2", "--seed", "4", "--scheduler", client.scheduler.address, "--json"]
    done = CliRunner().invoke(app, ["denoise", *files, *options])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["planes"] == len(stack)
    found = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["0"][...]
    np.testing.assert_array_equal(found, denoiser.posterior_mean(stack, 2, seed=4))


def test_without_distributed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari_direct_denoiser.prediction.cluster", None)
    with pytest.raises(SettingError, match=r'pip install "napari-direct-denoiser\[distributed\]"'):
        connect(load, b"", workers=2)
