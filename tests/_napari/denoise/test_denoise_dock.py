"""The Denoise dock in the real viewer, with the real engine: an untrained model, whose networks a test may replace."""

from __future__ import annotations

import subprocess
import sys
import time

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QFileDialog, QLineEdit, QMessageBox

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari import denoise_runs
from napari_direct_denoiser._napari.denoise.denoise_now import SHORTCUT, denoise_now
from napari_direct_denoiser._napari.shared.session import MODELS

PLUGIN = "napari-direct-denoiser"
SETTINGS = TrainSettings(noise="poisson:2,100,3", preset="quick", device="cpu")


def noisy_image(shape=(3, 64, 64), seed=0):
    rng = np.random.default_rng(seed)
    return (100 + 2 * rng.poisson(20, shape) + rng.normal(0, 3, shape)).astype(np.float32)


@pytest.fixture(scope="module")
def untrained():
    return Denoiser.for_images(noisy_image(), SETTINGS)


@pytest.fixture
def denoiser(untrained):
    """A model whose networks may be replaced; it is the only one of the session."""
    yield MODELS.add("a model", untrained).denoiser
    vars(untrained.model).pop("direct", None)
    vars(untrained.model).pop("sample", None)


@pytest.fixture
def plus_one(denoiser):
    """A direct pass that adds one, slowly enough to be seen."""

    def direct(noisy):
        time.sleep(0.01)
        return noisy + 1

    denoiser.model.direct = direct
    return denoiser


@pytest.fixture
def failing(denoiser):
    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    denoiser.model.direct = denoiser.model.sample = fail
    return denoiser


@pytest.fixture
def dock(denoise_dock):
    notification_manager.records.clear()
    return denoise_dock


@pytest.fixture
def direct(dock, finish):
    def run() -> str:
        dock.direct_button.click()
        return finish(dock)

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the dialog for zarr folders leads."""
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    return tmp_path


def answer(monkeypatch, button):
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda _, title, words: asked.append(words) or button)
    return asked


def notes(severity):
    return [note.message for note in notification_manager.records if str(note.severity) == severity]


def shown(layer):
    """The pixels that napari has on screen."""
    return layer.__wrapped__._data_view


def assert_lies_over(result, noisy, leading=0):
    """Every corner of the noisy layer is, in the world, where the same corner of the result is."""
    assert result.data.shape[leading:] == noisy.data.shape
    for corner in (np.zeros(noisy.ndim), np.array(noisy.data.shape) - 1, np.eye(noisy.ndim)[0]):
        there = result.data_to_world([0] * leading + list(corner))[leading:]
        np.testing.assert_allclose(there, noisy.data_to_world(corner), atol=1e-9)
    assert result.units[leading:] == noisy.units


# The main job.


@pytest.mark.parametrize("shape", [(64, 72), (1, 64, 72), (3, 64, 72), (2, 3, 64, 72)], ids=str)
def test_one_click_denoises_every_plane_and_overlays(viewer, dock, denoiser, direct, shape):
    n = len(shape)
    noisy = viewer.add_image(
        noisy_image(shape),
        name="cells",
        scale=(2.0, 3.0, 0.5, 0.25)[-n:],
        translate=(1, 2, 3, 4)[-n:],
        rotate=20,
        shear=[0.1] * (n * (n - 1) // 2),
        affine=np.diag([1.0] * (n - 1) + [1.5, 1]),
        units=("second", "micrometer", "micrometer", "micrometer")[-n:],
        axis_labels=("t", "z", "y", "x")[-n:],
        contrast_limits=(90, 150),
        colormap="green",
    )
    said = direct()
    result = viewer.layers["cells direct"]
    assert "Added “cells direct”" in said
    assert dock.progress.text() == "done"
    assert_lies_over(result, noisy)
    for key in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, key), getattr(noisy, key))
    assert result.axis_labels == noisy.axis_labels
    assert tuple(result.contrast_limits) == (90, 150)
    assert result.colormap.name == "green"
    assert result.data.dtype == np.float32
    np.testing.assert_array_equal(result.data, denoiser.denoise(noisy.data))
    facts = result.metadata["napari_direct_denoiser"]
    assert (facts["source"], facts["model"], facts["method"], facts["samples"]) == ("cells", "a model", "direct", None)
    assert facts["seconds"] > 0
    assert not notes("warning")
    assert not notes("error")


def test_all_outputs_come_from_one_run_and_overlay(viewer, dock, denoiser, finish):
    noisy = viewer.add_image(
        noisy_image((2, 64, 72)),
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=30,
        shear=np.array([[1, 0, 0], [0, 1, 0], [0, 0.1, 1]]),
        affine=np.diag([1, 1.5, 1, 1]),
        units=("second", "micrometer", "micrometer"),
        axis_labels=("t", "y", "x"),
        contrast_limits=(90, 150),
        colormap="green",
    )
    values = {"samples": 6, "mean": True, "median": True, "std": True, "single_samples": 4, "seed": 3}
    for name, value in values.items():
        dock.form[name].value = value
    assert dock.sample_button.text() == "Draw 6 samples"
    dock.sample_button.click()
    finish(dock)
    drawn = denoiser.sample(noisy.data, 6, seed=3)
    names = ["cells", "cells HDN sample (N=4)", "cells HDN deviation (N=6)", "cells HDN median (N=6)"]
    assert [layer.name for layer in viewer.layers] == [*names, "cells HDN mean (N=6)"]
    expected = {"mean": drawn.mean(0), "median": np.median(drawn, 0), "std": drawn.std(0)}
    for output, image in expected.items():
        result = viewer.layers[f"cells HDN {output} (N=6)"]
        np.testing.assert_allclose(result.data, image, atol=1e-3)
        assert_lies_over(result, noisy)
    assert tuple(viewer.layers["cells HDN mean (N=6)"].contrast_limits) == (90, 150)
    deviation = viewer.layers["cells HDN deviation (N=6)"]
    assert deviation.colormap.name != "green"
    assert deviation.contrast_limits[0] == 0
    assert np.quantile(deviation.data, 0.9) < deviation.contrast_limits[1] <= deviation.data.max()
    single = viewer.layers["cells HDN sample (N=4)"]
    np.testing.assert_array_equal(single.data, drawn[:4])
    assert_lies_over(single, noisy, leading=1)
    assert single.axis_labels == ("sample", "t", "y", "x")
    assert viewer.dims.ndim == 4
    viewer.dims.set_point(0, 3)  # napari's slider flicks through them
    assert shown(single).shape == (64, 72)
    assert not notes("warning")


def test_single_samples_of_a_layer_without_names(viewer, dock, denoiser, finish):
    noisy = viewer.add_image(noisy_image((64, 64)), name="cells", scale=(2, 3))
    for name in ("mean", "std"):
        dock.form[name].value = False
    dock.form["samples"].value = dock.form["single_samples"].value = 3
    dock.sample_button.click()
    finish(dock)
    assert_lies_over(viewer.layers["cells HDN sample (N=3)"], noisy, leading=1)
    assert len(viewer.layers) == 2


def test_only_the_plane_in_view(viewer, dock, denoiser, finish):
    noisy = viewer.add_image(
        noisy_image((2, 4, 64, 64)), name="cells", scale=(2, 3, 0.5, 0.5), translate=(5, 6, 7, 8), rotate=10
    )
    dock.where["planes"].value = "in view"
    viewer.dims.set_point((0, 1), tuple(noisy.data_to_world((1, 2, 0, 0))[:2]))
    dock.form["samples"].value = 3
    dock.sample_button.click()
    finish(dock)
    result = viewer.layers["cells T=1 Z=2 HDN mean (N=3)"]
    assert result.data.shape == (1, 1, 64, 64)
    np.testing.assert_allclose(result.data_to_world((0, 0, 5, 6)), noisy.data_to_world((1, 2, 5, 6)))
    # The same samples as this plane has in a run of all planes.
    np.testing.assert_array_equal(result.data[0, 0], denoiser.consensus(noisy.data, 3)[1, 2])


def test_progress_counts_all_planes_and_tells_the_time_left(viewer, dock, plus_one, finish, qtbot):
    viewer.add_image(noisy_image((40, 64, 64)))
    updates = []
    dock.job.updated.connect(updates.append)
    dock.direct_button.click()
    qtbot.waitUntil(lambda: "left" in dock.progress.text() or not dock.job.running)
    assert "left" in dock.progress.text()
    finish(dock)
    fractions = [update.fraction for update in updates if update.words.startswith("Plane")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert min(fractions) < 0.6
    assert updates[-1].words == "Plane 40 of 40 …"


# Large images.


@pytest.mark.parametrize("kind", ["dask", "multiscale", "zarr"])
def test_images_that_are_not_in_memory(viewer, dock, plus_one, direct, tmp_path, kind):
    pixels = noisy_image()
    data = {
        "dask": lambda: da.from_array(pixels, chunks=32),
        "multiscale": lambda: [pixels, pixels[:, ::2, ::2]],
        "zarr": lambda: zarr.create_array(str(tmp_path / "in.zarr"), data=pixels),
    }[kind]()
    viewer.add_image(data, name="cells", multiscale=kind == "multiscale", scale=(1, 2, 2))
    direct()
    result = viewer.layers["cells direct"]
    np.testing.assert_allclose(result.data, pixels + 1, rtol=1e-6)
    np.testing.assert_array_equal(result.scale, (1, 2, 2))


def test_a_dask_layer_is_read_plane_by_plane(viewer, dock, plus_one, direct):
    read = []

    def plane(block_info=None):
        read.append(block_info[None]["array-location"][0][0])
        return noisy_image((1, 64, 64))

    lazy = da.map_blocks(plane, chunks=((1,) * 20, 64, 64), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    viewer.add_image(lazy, name="cells", contrast_limits=(90, 200), cache=False)
    viewer.dims.set_point(0, 7)
    dock.where["planes"].value = "in view"
    read.clear()
    direct()
    assert set(read) == {7}
    assert "cells T=7 direct" in viewer.layers


def test_as_looked_at_computes_the_plane_in_view_and_keeps_it(viewer, dock, denoiser, direct, qtbot):
    noisy = viewer.add_image(noisy_image((30, 64, 64)), name="cells", contrast_limits=(90, 200))
    passes = []
    real = denoiser.model.direct
    denoiser.model.direct = lambda plane: passes.append(1) or real(plane)
    dock.where["result"].value = "as looked at"
    viewer.dims.set_point(0, 4)
    said = direct()
    result = viewer.layers["cells direct"]
    assert "when you look at it" in said
    assert isinstance(result.data, da.Array)
    assert len(passes) <= 2  # napari looks at another plane first
    np.testing.assert_array_equal(shown(result), denoiser.denoise(noisy.data[4]))
    passes.clear()
    for at in (5, 4, 5):
        viewer.dims.set_point(0, at)
    assert len(passes) == 1  # 4 and 5 are known by then
    assert_lies_over(result, noisy)


def test_a_bad_plane_is_told_when_it_is_looked_at(viewer, dock, denoiser, direct, qtbot):
    pixels = noisy_image((30, 64, 64))
    pixels[7, 3, 3] = np.nan
    viewer.add_image(da.from_array(pixels, chunks=(1, 64, 64)), name="cells", contrast_limits=(90, 200))
    dock.where["result"].value = "as looked at"
    direct()
    with pytest.raises(Exception, match="NaN"):
        viewer.dims.set_point(0, 7)
    viewer.dims.set_point(0, 8)
    assert np.isfinite(shown(viewer.layers["cells direct"])).all()


def test_zarr_folders_are_whole_described_and_shown(viewer, dock, denoiser, finish, folder):
    noisy = viewer.add_image(
        noisy_image((3, 64, 64)),
        name="my/cells",
        scale=(2, 0.5, 0.5),
        translate=(0, 1, 2),
        units=("second", "micrometer", "micrometer"),
        axis_labels=("t", "y", "x"),
    )
    dock.where["result"].value = "zarr folder"
    for name, value in {"samples": 3, "single_samples": 2}.items():
        dock.form[name].value = value
    dock.sample_button.click()
    finish(dock)
    dock.direct_button.click()
    finish(dock)
    written = {path.name for path in folder.iterdir()}
    outputs = ("HDN mean (N=3)", "HDN deviation (N=3)", "HDN sample (N=2)", "direct")
    assert written == {f"my_cells {output}.zarr" for output in outputs}
    assert all(isinstance(viewer.layers[f"my/cells {output}"].data, da.Array) for output in outputs)
    np.testing.assert_array_equal(viewer.layers["my/cells direct"].data, denoiser.denoise(noisy.data))
    np.testing.assert_array_equal(viewer.layers["my/cells HDN sample (N=2)"].data, denoiser.sample(noisy.data, 3)[:2])
    assert viewer.layers["my/cells HDN deviation (N=3)"].colormap.name == "magma"
    group = zarr.open_group(str(folder / "my_cells direct.zarr"), mode="r")
    assert group["0"].chunks == (1, 64, 64)
    (image,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    assert [axis.get("unit") for axis in image["axes"]] == ["second", "micrometer", "micrometer"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [2, 0.5, 0.5]
    assert group.attrs["napari_direct_denoiser"]["model"] == "a model"


def test_writing_twice_asks_and_replaces_the_layer_too(viewer, dock, plus_one, direct, folder, monkeypatch):
    noisy = viewer.add_image(noisy_image(), name="cells")
    dock.where["result"].value = "zarr folder"
    direct()
    before = np.asarray(viewer.layers["cells direct"].data)
    asked = answer(monkeypatch, QMessageBox.StandardButton.No)
    plus_one.model.direct = lambda plane: plane + 2
    dock.direct_button.click()
    assert not dock.job.running
    assert "cells direct.zarr is there already" in asked[0]
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, before)
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    direct()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells direct"]
    result = viewer.layers["cells direct"]
    np.testing.assert_allclose(shown(result), noisy.data[viewer.dims.current_step[0]] + 2, rtol=1e-6)
    assert [path.name for path in folder.iterdir()] == ["cells direct.zarr"]


def test_a_zarr_folder_that_cannot_be_written_is_refused_before_the_work(viewer, dock, denoiser, direct, folder):
    viewer.add_image(noisy_image(), name="cells")
    dock.where["result"].value = "zarr folder"
    (folder / "cells direct.zarr").mkdir()
    (folder / "cells direct.zarr" / "thesis.txt").write_text("precious")
    dock.direct_button.click()
    assert not dock.job.running
    assert "that is none" in dock.status.text()
    assert (folder / "cells direct.zarr" / "thesis.txt").exists()


def test_the_image_itself_is_not_replaced(viewer, dock, plus_one, direct, folder):
    viewer.add_image(noisy_image(), name="cells")
    dock.where["result"].value = "zarr folder"
    direct()
    viewer.layers["cells"].name = "others"
    result = viewer.layers["cells direct"]
    result.name = "cells"
    dock.layer_choice.setCurrentText("cells")
    dock.direct_button.click()
    assert not dock.job.running
    assert "the image itself" in dock.status.text()


@pytest.mark.parametrize("end", ["stop", "fail"])
def test_no_folder_is_left_by_a_run_that_does_not_end_well(viewer, dock, plus_one, finish, folder, qtbot, end):
    pixels = noisy_image((200, 64, 64))
    if end == "fail":
        pixels[20] = np.nan
    viewer.add_image(da.from_array(pixels, chunks=(1, 64, 64)), name="cells", contrast_limits=(0, 1))
    dock.where["result"].value = "zarr folder"
    dock.direct_button.click()
    if end == "stop":
        qtbot.waitUntil(lambda: dock.progress.value() > 0 and any(folder.iterdir()))
        dock.stop_button.click()
        assert finish(dock) == "Stopped."
    else:
        assert "plane T=20" in finish(dock)
    assert not list(folder.iterdir())
    assert len(viewer.layers) == 1


def test_no_file_appears_that_nobody_asked_for(viewer, dock, denoiser, direct, finish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    viewer.add_image(noisy_image(), name="cells")
    direct()
    dock.form["samples"].value = 2
    dock.sample_button.click()
    finish(dock)
    dock.where["result"].value = "zarr folder"
    dock.direct_button.click()  # and the dialog is cancelled
    assert not dock.job.running
    assert not list(tmp_path.iterdir())


# Images that are not like those of the training, or no images at all.


def test_an_image_unlike_the_training_gets_a_warning_in_words(viewer, dock, denoiser, direct):
    viewer.add_image(noisy_image() * 12, name="bright")
    direct()
    words = dock.warning.text()
    assert not dock.warning.isHidden()
    assert "“bright” is 12 times brighter than what the model was trained on (mean 16" in words
    assert "has 12 times the contrast" in words
    assert "bright direct" in viewer.layers  # nothing is refused
    viewer.add_image(noisy_image(seed=5), name="alike")
    direct()
    assert dock.warning.isHidden()


def test_bad_images_are_refused_with_words_and_the_next_run_works(viewer, dock, denoiser, direct):
    rng = np.random.default_rng(0)
    bad = {
        "NaN": np.where(np.eye(64) > 0, np.nan, 1.0),
        "contrast": np.full((2, 64, 64), 7.0),
        "bool": np.eye(64, dtype=bool),
        "5 x 5": rng.normal(size=(5, 5)),
        "64 x 1": rng.normal(size=(64, 1)),
        "labels": np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16), int)),
        "found 6": rng.normal(size=(2, 1, 1, 1, 64, 64)),
    }
    for words, image in bad.items():
        notification_manager.records.clear()
        viewer.add_image(image, contrast_limits=(0, 1))
        said = direct()
        assert words in said
        assert notes("error") == [said]
    assert len(viewer.layers) == len(bad)
    viewer.add_image(noisy_image(), name="good")
    direct()
    assert "good direct" in viewer.layers


def test_no_layer_that_is_no_image_can_be_chosen(viewer, dock, denoiser):
    viewer.add_labels(np.ones((64, 64), int))
    assert not dock.direct_button.isEnabled()
    assert "Open an image" in dock.status.text()


def test_axis_labels_that_make_no_sense_are_said(viewer, dock, denoiser):
    labels = ("t", "row", "x")
    viewer.add_image(noisy_image(), name="cells", axis_labels=labels)
    dock.direct_button.click()
    assert not dock.job.running
    assert str(labels) in dock.status.text()
    assert notes("error") == [dock.status.text()]


def test_axes_are_those_of_labels_or_of_the_person_or_of_the_training(viewer, dock, direct, untrained):
    image = noisy_image((5, 64, 64))
    transposed = Denoiser.for_images(np.moveaxis(image, 0, -1), SETTINGS, axes="YXT")
    MODELS.add("transposed", transposed)
    viewer.add_image(np.moveaxis(image, 0, -1), name="cells")
    assert dock.axes_row.edit.text() == "Y X T"  # as in training
    direct()
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, transposed.denoise(np.moveaxis(image, 0, -1)))
    viewer.add_image(image, name="named", axis_labels=("time", "y", "x"))
    assert dock.axes_row.edit.text() == "T Y X"
    dock.axes_row.edit.setText("T Y Q")
    dock.axes_row.edit.textEdited.emit("T Y Q")
    dock.direct_button.click()
    assert not dock.job.running
    assert "'TYQ'" in dock.status.text()


@pytest.mark.parametrize("kind", ["rgb", "labelled", "last"])
def test_channels_are_refused_and_split_by_a_click(viewer, dock, denoiser, direct, kind):
    pixels = noisy_image((3, 64, 64))
    if kind == "labelled":
        layer = viewer.add_image(pixels, name="cells", axis_labels=("c", "y", "x"), scale=(1, 2, 3), rotate=20)
    else:
        last = np.moveaxis(pixels, 0, -1)
        rgb = {"rgb": True} if kind == "rgb" else {"rgb": False}
        layer = viewer.add_image(last.clip(0, 255).astype(np.uint8) if kind == "rgb" else last, name="cells", **rgb)
    dock.direct_button.click()
    assert not dock.job.running
    assert "“Split channels” above does it" in dock.status.text()
    assert not dock.split_button.isHidden()
    dock.split_button.click()
    assert len(viewer.layers) == 4
    assert not layer.visible
    channel = viewer.layers[1]
    assert channel.ndim == 2
    if kind == "labelled":
        corner = np.array([5, 6])
        np.testing.assert_allclose(channel.data_to_world(corner), layer.data_to_world((0, *corner))[1:])
    assert dock.layer_choice.currentText() == channel.name
    assert dock.split_button.isHidden()
    direct()
    assert f"{channel.name} direct" in viewer.layers


def test_choices_that_do_not_go_together_are_refused(viewer, dock, denoiser):
    viewer.add_image(noisy_image())
    wrong = {
        "nothing checked": {"mean": False, "std": False},
        "at most as many single samples as are drawn, 3, found 4": {"samples": 3, "single_samples": 4},
        "direct pass": {"result": "as looked at", "mean": True, "single_samples": 0},
    }
    for words, choices in wrong.items():
        for name, value in choices.items():
            (dock.where if name == "result" else dock.form)[name].value = value
        dock.sample_button.click()
        assert not dock.job.running
        assert words in dock.status.text()


# Stop, close, fail, change.


@pytest.mark.parametrize("samples", [False, True])
def test_an_error_of_torch_is_shown_and_the_next_run_works(viewer, dock, failing, finish, samples):
    viewer.add_image(noisy_image(), name="cells")
    (dock.sample_button if samples else dock.direct_button).click()
    assert "mat1 and mat2" in finish(dock)
    assert notes("error") == [dock.status.text()]
    for name in ("direct", "sample"):
        vars(failing.model).pop(name)
    dock.direct_button.click()
    finish(dock)
    assert "cells direct" in viewer.layers


def test_too_little_memory_for_the_results_names_the_mend(viewer, dock, denoiser, direct, monkeypatch):
    def zeros(*_):
        raise MemoryError

    viewer.add_image(noisy_image())
    monkeypatch.setattr(denoise_runs, "_target", zeros)
    assert "choose the zarr folder" in direct()


def test_stop_adds_no_layer(viewer, dock, plus_one, finish, qtbot):
    viewer.add_image(noisy_image((500, 64, 64)))
    dock.direct_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0)
    dock.stop_button.click()
    assert finish(dock, 2000) == "Stopped."
    assert len(viewer.layers) == 1
    assert not dock.stop_button.isEnabled()


@pytest.mark.parametrize("close", ["dock", "viewer", "napari"])
def test_closing_stops_the_worker_and_leaves_no_thread_and_no_file(viewer, dock, plus_one, qtbot, folder, close):
    viewer.add_image(noisy_image((500, 64, 64)))
    dock.where["result"].value = "zarr folder"
    dock.direct_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() > 0)
    start = time.monotonic()
    if close == "dock":
        dock.parent().destroyOnClose()  # the cross in the title of the dock
    elif close == "viewer":
        viewer.close()
    else:
        dock.job.shutdown()  # what aboutToQuit calls
    assert QThreadPool.globalInstance().waitForDone(5000)
    assert time.monotonic() - start < 10  # of all 500 planes it would be more
    assert not list(folder.iterdir())
    if close != "viewer":
        viewer.layers.clear()  # nothing of the dock listens any more
        viewer.theme = "light"


def test_layer_renamed_and_deleted_while_running(viewer, dock, plus_one, finish):
    layer = viewer.add_image(noisy_image((10, 64, 64)), name="cells", scale=(1, 2, 2))
    dock.direct_button.click()
    layer.name = "renamed"
    viewer.layers.clear()
    finish(dock)
    np.testing.assert_array_equal(viewer.layers["cells direct"].scale, (1, 2, 2))


def test_results_are_not_taken_for_the_next_input(viewer, dock, plus_one, direct):
    viewer.add_image(noisy_image(), name="cells")
    direct()
    direct()
    assert [layer.name for layer in viewer.layers] == ["cells", "cells direct", "cells direct [1]"]


# Models.


def test_a_saved_model_is_loaded_and_does_the_same_after_predicting(viewer, dock, direct, denoiser, finish, tmp_path):
    viewer.add_image(noisy_image(), name="cells")
    direct()
    path = tmp_path / "model.safetensors"
    denoiser.save(path)
    dock.load_file(path)
    assert "Loaded" in finish(dock)
    assert dock.model.name == "model"
    direct()
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, viewer.layers["cells direct [1]"].data)


def test_a_result_is_saved_by_napari_and_opens_again(viewer, dock, direct, denoiser, tmp_path, npe2pm):
    viewer.add_image(noisy_image((5, 64, 64)), name="cells")
    direct()
    result = viewer.layers["cells direct"]
    with npe2pm.tmp_plugin(package="napari"):
        (path,) = result.save(str(tmp_path / "result.tif"))
        (again,) = viewer.open(path, plugin="napari")
    np.testing.assert_array_equal(again.data, result.data)


def test_a_file_that_is_no_model_is_refused(dock, finish, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_text("no model")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    dock.load_button.click()
    assert "model.safetensors" in finish(dock)
    assert notes("error") == [dock.status.text()]
    assert not MODELS.all


# The command.


def test_denoise_now_opens_the_dock_and_takes_the_newest_model(viewer, denoiser, qtbot, finish):
    MODELS.add("newest", denoiser)
    viewer.add_image(noisy_image(), name="cells")
    denoise_now(viewer)
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")[1]
    finish(dock)
    assert viewer.layers["cells direct"].metadata["napari_direct_denoiser"]["model"] == "newest"


def test_denoise_now_says_what_is_missing(viewer, dock):
    viewer.add_image(noisy_image())
    denoise_now(viewer)
    assert "Expected a model, found none" in dock.status.text()
    assert notes("error") == [dock.status.text()]


def test_the_command_is_in_the_menu_the_palette_and_on_a_key(viewer, dock, denoiser, finish):
    from napari._app_model import get_app_model

    app = get_app_model()
    command = f"{PLUGIN}.denoise_now"
    assert command in [
        item.command.id for item in app.menus.get_menu("napari/layers/filter") if hasattr(item, "command")
    ]
    viewer.add_image(noisy_image(), name="cells")
    app.commands.execute_command(command).result()
    finish(dock)
    assert "cells direct" in viewer.layers
    from napari.utils.key_bindings import coerce_keybinding

    viewer.keymap[coerce_keybinding(SHORTCUT)](viewer)
    finish(dock)
    assert "cells direct [1]" in viewer.layers


# The dock by itself.


def test_every_control_is_explained(dock):
    controls = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    found = [child for kind in controls for child in dock.findChildren(kind)]
    inner = [child for child in found if isinstance(child.parent(), QAbstractSpinBox | QComboBox)]
    assert len(found) > len(inner)
    assert not [child for child in found if child not in inner and not child.toolTip()]


def test_the_dock_is_narrow_and_lets_go_of_everything(viewer, dock, denoiser):
    long = viewer.add_image(noisy_image(), name="a very long name of a layer, as files have them " * 3)
    assert dock.minimumSizeHint().width() <= 360
    assert dock.layer_choice.currentText() == long.name
    dock.parent().destroyOnClose()
    assert not dock._models


def test_the_dock_opens_without_torch():
    code = (
        "import sys, napari_direct_denoiser._napari.denoise.widget, napari_direct_denoiser._napari.denoise.denoise_now;"
        "assert not {'torch', 'zarr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
