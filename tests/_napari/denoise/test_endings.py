"""How a run of the Denoise dock ends: errors, too little memory, closing the dock or the viewer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import dask.array
import numpy as np
import pytest
from qtpy.QtCore import QThreadPool, QTimer

from napari_direct_denoiser._napari.shared import workers
from napari_direct_denoiser._napari.shared.session import MODELS

pytestmark = pytest.mark.gui


def test_errors_of_torch_and_of_memory_are_shown_and_the_next_run_works(
    viewer, dock, denoiser, direct, sample, monkeypatch, notes, make_noisy
):
    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    viewer.add_image(make_noisy(), name="cells")
    with monkeypatch.context() as patch:
        patch.setattr(denoiser.model, "direct_with_std", fail)
        patch.setattr(denoiser.model, "sample", fail)
        for run in (direct, sample):
            count = len(notes("error"))
            said = run()
            assert "mat1 and mat2" in said
            assert notes("error")[count:] == [said]
    direct()
    assert "cells direct" in viewer.layers
    pixels = make_noisy((1024, 1024)).astype(np.uint16)
    viewer.add_image(np.broadcast_to(pixels, (10, 1024, 1024)))
    said = sample(samples=10_000_000, single_samples=10_000_000)  # 400 TB
    assert "choose the zarr folder" in said
    assert "fewer single samples" in said


def test_a_worker_thread_that_dies_is_told_and_the_next_run_works(
    viewer, dock, denoiser, direct, monkeypatch, notes, make_noisy
):
    def exits(*_):
        raise SystemExit("a library gives up")

    viewer.add_image(make_noisy(), name="cells")
    with monkeypatch.context() as patch:
        patch.setattr(denoiser.model, "direct_with_std", exits)
        said = direct()
    assert "a library gives up" in said
    assert notes("error") == [said]
    direct()
    assert "cells direct" in viewer.layers


@pytest.mark.window
@pytest.mark.parametrize("close", ["dock", "viewer"])
def test_closing_stops_the_worker_and_leaves_no_thread_and_no_file(
    viewer, dock, plus_one, qtbot, folder, make_noisy, close
):
    viewer.add_image(make_noisy((500, 64, 64)))
    dock.where["result"].value = "zarr folder"
    dock.direct_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0)
    start = time.monotonic()
    if close == "dock":
        dock.parent().destroyOnClose()  # the cross in the title of the dock
    else:
        viewer.close()
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert time.monotonic() - start < 10  # all 500 planes would take longer
    assert not list(folder.iterdir())
    if close != "viewer":
        viewer.layers.clear()  # no callback of the dock is left
        viewer.theme = "light"


@pytest.mark.window
@pytest.mark.parametrize("close", ["dock", "viewer"])
def test_closing_while_a_model_loads_ends_the_thread(viewer, dock, untrained, monkeypatch, close):
    loads, goes_on = threading.Event(), threading.Event()

    def slow(path, device):
        loads.set()
        assert goes_on.wait(20)
        return untrained

    monkeypatch.setattr(workers, "load_denoiser", slow)
    dock.load_file(Path("model.safetensors"))
    assert loads.wait(20)
    if close == "dock":
        dock.parent().destroyOnClose()
    else:
        viewer.close()
    goes_on.set()
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert not MODELS.all


@pytest.mark.window
def test_a_drive_that_does_not_answer_blocks_neither_the_viewer_nor_stop(
    viewer, dock, denoiser, qtbot, folder, make_noisy
):
    """A network drive that stalls: reading a plane of a lazy layer does not return."""
    stalls, answers, asked = threading.Event(), threading.Event(), threading.Event()
    planes = make_noisy((50, 64, 64))

    def read(block_info):
        number = block_info[None]["array-location"][0][0]
        if stalls.is_set():
            asked.set()
            answers.wait(30)
        return planes[number : number + 1]

    lazy = dask.array.map_blocks(read, chunks=((1,) * 50, (64,), (64,)), dtype=np.float32, meta=planes[:0])
    viewer.add_image(lazy, name="cells", contrast_limits=(80, 250))
    dock.where["result"].value = "zarr folder"
    stalls.set()
    dock.direct_button.click()
    qtbot.waitUntil(asked.is_set, timeout=20_000)
    ticks = []
    timer = QTimer(interval=10)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    dock.stop_button.click()
    qtbot.wait(1000)
    timer.stop()
    assert dock.job.running  # it cannot end before the drive answers
    assert len(ticks) > 20
    assert np.diff(ticks).max() < 0.5
    answers.set()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=20_000)
    assert "Stopped" in dock.status.text()
