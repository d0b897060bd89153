"""What the manifest gives to napari: commands, preferences, a reader of models and a writer of OME-Zarr."""

from __future__ import annotations

from importlib.metadata import metadata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.settings import _clear_plugin_settings_cache, get_plugin_settings
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from npe2.cli import app as npe2
from qtpy.QtWidgets import QFileDialog
from safetensors.numpy import save_file
from typer.testing import CliRunner

import napari_direct_denoiser
from napari_direct_denoiser import DenoiserError, SettingError, TrainSettings
from napari_direct_denoiser._napari.open_model import model_reader
from napari_direct_denoiser._napari.shared import workers
from napari_direct_denoiser._napari.shared.open_dock import open_dock
from napari_direct_denoiser._napari.shared.preferences import Preferences, preferences
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser.config import Device
from napari_direct_denoiser.data.io import open_image
from napari_direct_denoiser.denoiser import Denoiser

pytestmark = pytest.mark.gui

PLUGIN = "napari-direct-denoiser"
MANIFEST = Path(napari_direct_denoiser.__file__).parent / "napari.yaml"


@pytest.fixture(autouse=True)
def fresh():
    """No preferences and no notifications of the tests before."""
    _clear_plugin_settings_cache()
    notification_manager.records.clear()
    yield
    _clear_plugin_settings_cache()


@pytest.fixture
def errors():
    return lambda: [note.message for note in notification_manager.records if str(note.severity) == "error"]


@pytest.fixture(scope="module")
def untrained():
    image = np.random.default_rng(0).poisson(20, (2, 64, 64)).astype(np.float32)
    return Denoiser.for_images(image, TrainSettings(noise="gaussian:4", device="cpu"))


def test_npe2_finds_the_manifest_valid_and_all_that_it_names():
    done = CliRunner().invoke(npe2, ["validate", "--imports", str(MANIFEST)])
    assert done.exit_code == 0, done.output
    known = metadata(PLUGIN)
    assert "Framework :: napari" in known.get_all("Classifier")
    assert known["Description-Content-Type"] == "text/markdown"  # the page on the hub


def test_no_key_is_bound_and_the_commands_of_the_palette_start(viewer, untrained, finish, errors, monkeypatch):
    assert not PluginManifest.from_file(MANIFEST).contributions.keybindings
    app = get_app_model()
    palette = {item.command.id: item.command for item in app.menus.get_menu(app.menus.COMMAND_PALETTE_ID)}
    titles = {name: palette[f"{PLUGIN}.{name}"].title for name in ("train_now", "denoise_now", "compare_now")}
    assert titles == {
        "train_now": "Train on the selected layer (Direct Denoiser)",
        "denoise_now": "Denoise now (Direct Denoiser)",
        "compare_now": "Compare HDN with the direct pass (Direct Denoiser)",
    }
    for name in ("open_model", "write_ome_zarr"):  # napari calls them with a path: not for people
        assert palette[f"{PLUGIN}.{name}"].enablement.eval({}) is False
    # They start on the selected layer.
    rng = np.random.default_rng(0)
    for name in ("cells", "others"):
        viewer.add_image(rng.poisson(20, (2, 64, 64)).astype(np.float32), name=name)
    app.commands.execute_command(f"{PLUGIN}.compare_now").result()
    assert "Expected a model, found none" in errors().pop()
    viewer.layers.selection.active = viewer.layers["cells"]
    asked = []

    def refuse(images, settings, axes, noise):
        asked.append(images[0])
        raise DenoiserError("no training in this test")

    monkeypatch.setattr(workers, "make_denoiser", refuse)
    app.commands.execute_command(f"{PLUGIN}.train_now").result()
    train = open_dock(viewer, "Train")
    assert finish(train) == "no training in this test"
    np.testing.assert_array_equal(asked[0], viewer.layers["cells"].data)
    MODELS.add("a model", untrained)
    compare = open_dock(viewer, "Compare")
    compare.layer_choice.setCurrentText("others")
    app.commands.execute_command(f"{PLUGIN}.compare_now").result()
    assert compare.layer_choice.currentText() == "cells"
    assert compare.job.running
    compare.job.stop()
    finish(compare)


def test_docks_begin_with_the_preferences(viewer, tmp_path, monkeypatch):
    assert preferences() == Preferences()
    properties = PluginManifest.from_file(MANIFEST).contributions.configurations["docks"].properties
    assert properties["device"].enum == list(get_args(Device))
    assert {name: each.default for name, each in properties.items()} == vars(Preferences())
    assert all(each.description for each in properties.values())
    chosen = get_plugin_settings(PLUGIN).docks
    chosen.device, chosen.minutes, chosen.models_folder = "cpu", 2.5, str(tmp_path)
    began: list[str] = []
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *given: (began.append(given[2]), ("", ""))[1])
    train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    assert train.settings().max_minutes == 2.5
    assert train.settings().device == "cpu"
    train.load()
    chosen.models_folder = str(tmp_path / "nowhere")
    viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")[1].load()
    assert began == [str(tmp_path), ""]
    assert "nowhere" in notification_manager.records[-1].message


def test_a_model_that_is_opened_is_chosen_in_the_denoise_dock(viewer, untrained, tmp_path, errors):
    path = tmp_path / "cells.safetensors"
    untrained.save(path)
    MODELS.add("another", untrained)
    assert viewer.open(path, plugin=PLUGIN) == []
    dock = open_dock(viewer, "Denoise")
    assert dock.model.name == "cells"
    assert "Loaded “cells”" in dock.status.text()
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, foreign)
    assert viewer.open(foreign, plugin=PLUGIN) == []
    assert "not one of a Direct Denoiser" in errors().pop()
    assert "not one of a Direct Denoiser" in dock.status.text()
    assert dock.model.name == "cells"


def test_without_a_viewer_a_foreign_file_is_an_error(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, foreign)
    with pytest.raises(DenoiserError, match="not one of a Direct Denoiser"):
        model_reader(str(foreign))(str(foreign))


def test_a_layer_is_saved_as_ome_zarr_with_axes_units_and_place(viewer, tmp_path):
    image = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50)
    layer = viewer.add_image(
        image, scale=(2, 0.1, 0.1), translate=(0, 3, 4), units=("s", "um", "um"), axis_labels=("t", "y", "x")
    )
    path = tmp_path / "cells.ome.zarr"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    found = open_image(path)
    np.testing.assert_array_equal(np.asarray(found.data), image)
    assert found.axes == "TYX"
    size = found.metadata
    assert (size["scale"], size["translation"]) == ((2, 0.1, 0.1), (0, 3, 4))
    assert size["units"] == ("second", "micrometer", "micrometer")
    # Colours, and a folder that is no zarr, are refused.
    layer = viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True)
    with pytest.raises(DenoiserError, match="RGB"):
        layer.save(str(tmp_path / "photo.zarr"), plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == [path]
    grey = viewer.add_image(np.zeros((8, 9), np.uint8))
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(SettingError, match="mine"):
        grey.save(str(tmp_path / "mine.zarr"), plugin=PLUGIN)
