"""Images that are not in memory, results that are computed when they are looked at, and zarr folders."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtWidgets import QFileDialog, QMessageBox

pytestmark = pytest.mark.gui


def answer(monkeypatch, button):
    """Answer the question whether to replace a folder; give what was asked."""
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda _, title, words: asked.append(words) or button)
    return asked


def test_dask_multiscale_and_zarr_layers_are_denoised_and_read_plane_by_plane(
    viewer, dock, plus_one, direct, tmp_path, make_noisy
):
    pixels = make_noisy()
    images = {
        "dask": da.from_array(pixels, chunks=32),
        "multiscale": [pixels, pixels[:, ::2, ::2]],
        "zarr": zarr.create_array(str(tmp_path / "in.zarr"), data=pixels),
    }
    for kind, data in images.items():
        viewer.add_image(data, name=kind, multiscale=kind == "multiscale", scale=(1, 2, 2))
        direct()
        result = viewer.layers[f"{kind} direct"]
        np.testing.assert_allclose(result.data, pixels + 1, rtol=1e-6)
        np.testing.assert_array_equal(result.scale, (1, 2, 2))
    read = []

    def plane(block_info=None):
        read.append(block_info[None]["array-location"][0][0])
        return make_noisy((1, 64, 64))

    lazy = da.map_blocks(plane, chunks=((1,) * 20, 64, 64), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    viewer.add_image(lazy, name="cells", contrast_limits=(90, 200), cache=False)
    viewer.dims.set_point(0, 7)
    dock.where["planes"].value = "in view"
    read.clear()
    direct()
    assert set(read) == {7}
    assert "cells T=7 direct" in viewer.layers


def test_as_looked_at_computes_the_plane_in_view_and_keeps_it(
    viewer, dock, denoiser, direct, monkeypatch, make_noisy, shown, assert_lies_over
):
    pixels = make_noisy((30, 64, 64))
    pixels[7, 3, 3] = np.nan
    noisy = viewer.add_image(da.from_array(pixels, chunks=(1, 64, 64)), name="cells", contrast_limits=(90, 200))
    passes = []
    real = denoiser.model.direct
    dock.direct_form["direct_std"].value = False
    monkeypatch.setattr(denoiser.model, "direct", lambda plane: passes.append(1) or real(plane))
    dock.where["result"].value = "as looked at"
    viewer.dims.set_point(0, 4)
    said = direct()
    result = viewer.layers["cells direct"]
    assert "when you look at it" in said
    assert isinstance(result.data, da.Array)
    assert len(passes) <= 2  # napari first reads another plane
    np.testing.assert_array_equal(shown(result), denoiser.denoise(pixels[4]))
    passes.clear()
    for at in (5, 4, 5):
        viewer.dims.set_point(0, at)
    assert len(passes) == 1  # 4 and 5 are kept
    assert_lies_over(result, noisy)
    with pytest.raises(Exception, match="NaN"):
        viewer.dims.set_point(0, 7)
    viewer.dims.set_point(0, 8)
    assert np.isfinite(shown(result)).all()


def test_as_looked_at_the_std_is_computed_with_the_plane_too(viewer, dock, denoiser, direct, make_noisy, shown):
    pixels = make_noisy((3, 64, 64))
    viewer.add_image(pixels, name="cells")
    dock.where["result"].value = "as looked at"
    direct()
    std = viewer.layers["cells std"]
    assert isinstance(std.data, da.Array)
    assert std.colormap.name == "magma"
    viewer.dims.set_point(0, 2)
    expected = denoiser.std(pixels[2])
    np.testing.assert_array_equal(shown(std), expected)
    assert expected.mean() < std.contrast_limits[1] < 3 * expected.max()


def test_zarr_folders_are_complete_described_and_shown(viewer, dock, denoiser, direct, sample, folder, make_noisy):
    noisy = viewer.add_image(
        make_noisy((3, 64, 64)),
        name="my/cells",
        scale=(2, 0.5, 0.5),
        translate=(0, 1, 2),
        units=("second", "micrometer", "micrometer"),
        axis_labels=("t", "y", "x"),
    )
    dock.where["result"].value = "zarr folder"
    sample(samples=3, single_samples=2)
    direct()
    written = {path.name for path in folder.iterdir()}
    outputs = ("HDN mean (N=3)", "HDN std (N=3)", "HDN sample (N=2)", "direct", "std")
    assert written == {f"my_cells {output}.zarr" for output in outputs}
    assert all(isinstance(viewer.layers[f"my/cells {output}"].data, da.Array) for output in outputs)
    np.testing.assert_array_equal(viewer.layers["my/cells direct"].data, denoiser.denoise(noisy.data))
    drawn = denoiser.sample(noisy.data, 3)
    np.testing.assert_allclose(viewer.layers["my/cells HDN sample (N=2)"].data, drawn[:2], atol=1e-3)
    np.testing.assert_array_equal(viewer.layers["my/cells std"].data, denoiser.std(noisy.data))
    assert {viewer.layers[f"my/cells {name}"].colormap.name for name in ("std", "HDN std (N=3)")} == {"magma"}
    group = zarr.open_group(str(folder / "my_cells direct.zarr"), mode="r")
    assert group["0"].chunks == (1, 64, 64)
    (image,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    assert [axis.get("unit") for axis in image["axes"]] == ["second", "micrometer", "micrometer"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [2, 0.5, 0.5]
    assert group.attrs["napari_direct_denoiser"]["model"] == "a model"


def test_writing_twice_asks_and_replaces_the_layer_too(
    viewer, dock, plus_one, direct, folder, monkeypatch, make_noisy, shown
):
    dock.direct_form["direct_std"].value = False
    noisy = viewer.add_image(make_noisy(), name="cells")
    dock.where["result"].value = "zarr folder"
    direct()
    before = np.asarray(viewer.layers["cells direct"].data)
    asked = answer(monkeypatch, QMessageBox.StandardButton.No)
    monkeypatch.setattr(plus_one.model, "direct", lambda plane: plane + 2)
    dock.direct_button.click()
    assert not dock.job.running
    assert "cells direct.zarr exists" in asked[0]
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, before)
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    direct()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells direct"]
    result = viewer.layers["cells direct"]
    np.testing.assert_allclose(shown(result), noisy.data[viewer.dims.current_step[0]] + 2, rtol=1e-6)
    assert [path.name for path in folder.iterdir()] == ["cells direct.zarr"]
    noisy.name = "others"  # the image itself is not replaced
    result.name = "cells"
    dock.layer_choice.setCurrentText("cells")
    dock.direct_button.click()
    assert not dock.job.running
    assert "the image itself" in dock.status.text()


def test_no_folder_is_replaced_or_made_that_nobody_asked_for(
    viewer, dock, plus_one, direct, sample, folder, monkeypatch, make_noisy
):
    monkeypatch.chdir(folder)
    viewer.add_image(make_noisy(), name="cells")
    direct()
    sample(samples=2)
    assert not list(folder.iterdir())
    dock.where["result"].value = "zarr folder"
    (folder / "cells direct.zarr").mkdir()
    (folder / "cells direct.zarr" / "thesis.txt").write_text("precious")
    dock.direct_button.click()
    assert not dock.job.running
    assert "which is none" in dock.status.text()
    assert (folder / "cells direct.zarr" / "thesis.txt").exists()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    dock.direct_button.click()  # and the dialog is cancelled
    assert not dock.job.running
    assert len(list(folder.iterdir())) == 1


def test_no_folder_is_left_by_a_run_that_fails_or_is_stopped(viewer, dock, plus_one, finish, folder, qtbot, make_noisy):
    pixels = make_noisy((80, 64, 64))
    pixels[70] = np.nan
    viewer.add_image(da.from_array(pixels, chunks=(1, 64, 64)), name="cells", contrast_limits=(0, 1))
    dock.where["result"].value = "zarr folder"
    dock.direct_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0 and any(folder.iterdir()))
    dock.stop_button.click()
    assert finish(dock) == "Stopped."
    assert not dock.stop_button.isEnabled()
    assert not list(folder.iterdir())
    dock.direct_button.click()
    assert "T=70" in finish(dock)
    assert not list(folder.iterdir())
    assert len(viewer.layers) == 1


@pytest.mark.window
def test_a_large_lazy_image_is_never_read_whole_and_its_result_has_levels(
    viewer, dock, plus_one, direct, folder, make_noisy
):
    pixels, read = make_noisy((1, 1, 700)), []

    def plane(block_info=None):
        read.append(block_info[None]["array-location"][0][0])
        return pixels + np.zeros((1, 600, 1), np.float32)

    lazy = da.map_blocks(plane, chunks=((1,) * 40, 600, 700), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    viewer.add_image(lazy, name="cells", contrast_limits=(90, 200), cache=False)
    for result in ("in memory", "zarr folder"):
        dock.where["result"].value = result
        read.clear()
        direct()
        counts = np.bincount(read, minlength=40)
        assert counts.min() == 1
        assert counts.max() <= 4  # a few planes also by the check of the image, and by napari
        assert counts.sum() <= 40 + 8 + 4
    shown = viewer.layers["cells direct [1]"]
    assert shown.multiscale
    assert [level.shape for level in shown.data] == [(40, 600, 700), (40, 300, 350)]
    np.testing.assert_allclose(shown.data[0][7], plane({None: {"array-location": [(7, 8)]}})[0] + 1, rtol=1e-6)
    dock.layer_choice.setCurrentText("cells direct [1]")  # and it can be denoised as any layer
    dock.where["result"].value, dock.where["planes"].value = "in memory", "in view"
    assert "Added" in direct()
