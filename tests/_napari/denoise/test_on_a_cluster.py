"""The Denoise dock sends planes to a dask scheduler, and stays alive whatever becomes of it."""

from __future__ import annotations

import time

import dask.array as da
import numpy as np
import pytest
import torch

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def address():
    """A scheduler with a worker, both in this process: it starts at once, and sets the threads of torch here."""
    threads = torch.get_num_threads()
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local:
        yield local.scheduler_address
    torch.set_num_threads(threads)


@pytest.fixture
def on_cluster(dock, address, folder):
    dock.cluster_form["scheduler"].value = address
    dock.where["result"].value = "zarr folder"
    return dock


def test_results_are_those_of_this_computer(viewer, on_cluster, denoiser, direct, sample, make_noisy):
    layer = viewer.add_image(make_noisy((4, 64, 64)).astype(np.uint16), name="cells", scale=(1, 0.5, 0.5))
    on_cluster.where["dtype"].value = "same"
    updates = []
    on_cluster.job.updated.connect(updates.append)
    assert direct().startswith("Added “cells direct”, “cells std”")
    sample(samples=2, single_samples=2)
    pixels = np.asarray(layer.data)
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, np.rint(denoiser.denoise(pixels)))
    np.testing.assert_array_equal(viewer.layers["cells std"].data, denoiser.std(pixels))
    drawn = denoiser.sample(pixels, 2)
    np.testing.assert_array_equal(viewer.layers["cells HDN sample (N=2)"].data, np.rint(drawn))
    assert any("Plane 4 of 4" in update.words for update in updates)
    np.testing.assert_array_equal(viewer.layers["cells direct"].scale, (1, 0.5, 0.5))


def test_a_run_can_be_stopped_and_leaves_nothing(viewer, on_cluster, denoiser, finish, folder, qtbot, make_noisy):
    def slow(block):
        time.sleep(0.05)
        return block

    pixels = da.from_array(make_noisy((200, 64, 64)), chunks=(1, 64, 64)).map_blocks(slow, dtype=np.float32)
    viewer.add_image(pixels, name="cells", contrast_limits=(90, 200))
    on_cluster.direct_button.click()
    qtbot.waitUntil(lambda: on_cluster.progress.value() > 0, timeout=20_000)
    on_cluster.stop_button.click()
    assert finish(on_cluster) == "Stopped."
    assert not list(folder.iterdir())


def test_what_cannot_work_is_said_and_the_viewer_stays_alive(
    viewer, on_cluster, denoiser, direct, folder, monkeypatch, notes, make_noisy
):
    viewer.add_image(make_noisy(), name="cells")
    on_cluster.where["result"].value = "in memory"
    on_cluster.direct_button.click()
    assert not on_cluster.job.running
    assert "choose Zarr folder, or leave Scheduler empty" in on_cluster.status.text()
    on_cluster.where["result"].value = "zarr folder"
    monkeypatch.setattr("napari_direct_denoiser.prediction.cluster._ANSWER_SECONDS", 0.5)
    on_cluster.cluster_form["scheduler"].value = "tcp://127.0.0.1:9"
    assert "Expected a dask scheduler at tcp://127.0.0.1:9, found none that answers" in direct()
    assert len(notes("error")) == 2
    assert not list(folder.iterdir())
    on_cluster.cluster_form["scheduler"].value = ""
    assert "Added" in direct()
