"""How a run of the Denoise dock ends: errors, too little memory, closing the dock or the viewer."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

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
