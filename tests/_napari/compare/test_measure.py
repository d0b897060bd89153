"""The table of the Compare dock: figures with and without a truth, what it refuses, copy and save."""

from __future__ import annotations

import csv
import threading

import dask.array as da
import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_direct_denoiser.evaluation.metrics import evaluate

pytestmark = pytest.mark.gui

SIGMA = 4.0  # of the noise of the noisy layer and of the model


def test_table_with_truth_is_measured_copied_and_saved(
    layers, truth, noisy, compare_dock, finish, monkeypatch, tmp_path
):
    compare_dock.measure.measure_button.click()
    assert "3 images" in finish(compare_dock)
    table = compare_dock.measure.table
    assert [row.method for row in table.rows] == ["noisy", "direct", "mean"]
    assert table.rows[0].psnr == pytest.approx(evaluate(noisy, truth).psnr)
    direct = table.rows[1]
    assert (direct.psnr, direct.ssim) == (
        pytest.approx(evaluate(truth + 1, truth).psnr, abs=1e-3),
        pytest.approx(evaluate(truth + 1, truth).ssim, abs=1e-4),
    )
    assert direct.megapixels_per_second == pytest.approx(3 * 24 * 32 / 1e6 / 0.5)
    heads = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount())]
    assert heads == ["Method", "seconds", "gain (dB)", "PSNR", "SSIM"]
    shown = [[table.item(line, column).text() for column in range(3)] for line in range(3)]
    assert shown == [["noisy", "", ""], ["direct", "0.5", ""], ["mean of 10", "5", ""]]
    compare_dock.measure.copy_button.click()
    copied = list(csv.DictReader(QApplication.clipboard().text().splitlines(), delimiter="\t"))
    assert [row["name"] for row in copied] == ["cells", "cells direct", "cells mean"]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "table"), ""))
    compare_dock.measure.save_button.click()
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == copied
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "table.csv"), ""))
    compare_dock.measure.save_button.click()
    assert "create it first" in compare_dock.status.text()


def test_table_without_truth_shows_statistics_of_the_residuals(viewer, layers, compare_dock, check, plus_one, finish):
    flat = viewer.add_image(np.full((3, 24, 32), 65, "f4"), name="too smooth")
    compare_dock.truth_choice.setCurrentText("none")
    check(flat, True)
    check(layers[3], False)
    compare_dock.measure.measure_button.click()
    finish(compare_dock)
    direct, smooth = compare_dock.measure.table.rows
    assert (smooth.name, smooth.method, smooth.seconds) == ("too smooth", "too smooth", None)
    assert direct.chi_square == pytest.approx((SIGMA**2 + 1) / SIGMA**2, abs=0.1)
    assert abs(direct.residual_correlation_x) < 0.15
    assert smooth.chi_square > 5
    assert smooth.residual_correlation_y > 0.5
    assert direct.rms_from_direct == 0
    heads = [compare_dock.measure.table.horizontalHeaderItem(column) for column in range(5)]
    assert [head.text() for head in heads] == ["Method", "seconds", "gain (dB)", "corr.", "χ²"]
    assert "Well below 1: noise kept" in heads[4].toolTip()
    cell = compare_dock.measure.table.item(1, 2)
    assert cell.text() == ""
    assert cell.toolTip() == smooth.estimated_gain_why
    assert "chosen model" in smooth.estimated_gain_why


def test_lazy_and_multiscale_layers_are_read_plane_by_plane_in_the_worker(
    viewer, truth, noisy, result_of, compare_dock, check, finish
):
    readers = []

    def read(block):
        readers.append((threading.current_thread().name, block.shape))
        return block

    lazy = da.from_array(noisy, chunks=(1, 24, 32)).map_blocks(read, dtype="f4")
    viewer.add_image(lazy, name="cells", contrast_limits=(0, 150))
    result = viewer.add_image(
        [truth + 1, truth[:, ::2, ::2]], name="pyramid", multiscale=True, metadata=result_of("cells")
    )
    compare_dock.layer_choice.setCurrentText("cells")
    check(result, True)
    readers.clear()
    compare_dock.measure.measure_button.click()
    finish(compare_dock)
    assert len(readers) == 3
    assert {shape for _, shape in readers} == {(1, 24, 32)}
    assert "MainThread" not in {thread for thread, _ in readers}
    assert compare_dock.measure.table.rows[0].method == "direct"


def test_what_does_not_fit_is_refused_and_the_next_run_works(viewer, layers, compare_dock, check, finish, errors_shown):
    odd = np.zeros((3, 24, 31), "f4")
    wrong = {
        "found (3, 24, 31)": {"data": odd},
        "found (24, 32, 3)": {"data": np.zeros((24, 32, 3), "u1"), "rgb": True},
        "found (3, 24, 31) in 'truth'": {"data": odd, "name": "truth"},
        "contrast": {"data": np.zeros((3, 24, 32), "f4"), "name": "truth"},
    }
    for words, image in wrong.items():
        added = viewer.add_image(**image)
        if added.name == "truth":
            compare_dock.truth_choice.setCurrentText("truth")
        else:
            check(added, True)
        count = len(errors_shown())
        compare_dock.measure.measure_button.click()
        said = finish(compare_dock)
        assert words in said
        assert errors_shown()[count:] == [said]
        viewer.layers.remove(added)
    for layer in layers[2:]:
        check(layer, False)
    compare_dock.measure.measure_button.click()
    assert "found none" in finish(compare_dock)
    check(layers[2], True)
    compare_dock.measure.measure_button.click()
    assert "Measured" in finish(compare_dock)
