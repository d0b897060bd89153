"""The models of the Denoise dock, the command Denoise now and its key, and the dock by itself."""

from __future__ import annotations

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QFileDialog, QLineEdit

from napari_direct_denoiser._napari.denoise.denoise_now import SHORTCUT, bind_shortcut, denoise_now
from napari_direct_denoiser._napari.shared.open_dock import open_dock
from napari_direct_denoiser._napari.shared.session import MODELS

pytestmark = [pytest.mark.gui, pytest.mark.window]

PLUGIN = "napari-direct-denoiser"
KEY = coerce_keybinding(SHORTCUT)


@pytest.fixture(autouse=True)
def free_key():
    """The key is not bound before a test and after it."""
    ViewerModel.class_keymap.pop(KEY, None)
    yield
    ViewerModel.class_keymap.pop(KEY, None)


@pytest.fixture
def press(viewer):
    """Press the key in the canvas, as a person does."""
    modifiers = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier

    def press_key():
        (canvas,) = [widget for widget in QApplication.allWidgets() if type(widget).__name__ == "CanvasBackendDesktop"]
        QTest.keyClick(canvas, Qt.Key.Key_D, modifiers)

    return press_key


# Models.


def test_a_saved_model_is_loaded_and_gives_the_same_result(
    viewer, dock, direct, denoiser, finish, tmp_path, monkeypatch, notes, make_noisy
):
    viewer.add_image(make_noisy(), name="cells")
    direct()
    path = tmp_path / "model.safetensors"
    denoiser.save(path)
    dock.load_file(path)
    assert "Loaded" in finish(dock)
    assert dock.model_choice.currentText() == "model"
    direct()
    np.testing.assert_array_equal(viewer.layers["cells direct"].data, viewer.layers["cells direct [1]"].data)
    path.write_text("no model")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    dock.load_button.click()
    assert "model.safetensors" in finish(dock)
    assert notes("error") == [dock.status.text()]
    assert len(MODELS.all) == 2


def test_another_dock_starts_the_direct_pass_on_all_planes_of_a_layer(viewer, dock, plus_one, finish, make_noisy):
    first, other = MODELS.all[0], MODELS.add("another", plus_one)
    cells = viewer.add_image(make_noisy(), name="cells")
    viewer.add_image(make_noisy((64, 64)), name="others")
    dock.where["planes"].value = "in view"
    dock.denoise_layer(cells, first)
    assert dock.model_choice.model is first is not other
    finish(dock)
    result = viewer.layers["cells direct"]
    np.testing.assert_allclose(result.data, cells.data + 1, rtol=1e-6)
    assert result.metadata["napari_direct_denoiser"]["model"] == "a model"


# The command.


def test_denoise_now_opens_the_dock_and_takes_the_newest_model(viewer, untrained, finish, notes, make_noisy):
    viewer.add_image(make_noisy(), name="cells")
    denoise_now(viewer)
    dock = open_dock(viewer, "Denoise")
    assert "Expected a model, found none" in dock.status.text()
    assert notes("error") == [dock.status.text()]
    MODELS.add("a model", untrained)
    MODELS.add("newest", untrained)
    dock.model_choice.setCurrentText("a model")
    denoise_now(viewer)
    finish(dock)
    assert viewer.layers["cells direct"].metadata["napari_direct_denoiser"]["model"] == "newest"


def test_the_command_is_in_the_menu_the_palette_and_on_a_key(viewer, dock, plus_one, finish, press, make_noisy):
    app = get_app_model()
    command = f"{PLUGIN}.denoise_now"
    assert command in [
        item.command.id for item in app.menus.get_menu("napari/layers/filter") if hasattr(item, "command")
    ]
    viewer.add_image(make_noisy(), name="cells")
    app.commands.execute_command(command).result()
    finish(dock)
    assert "cells direct" in viewer.layers
    assert "Control+Shift+D" in dock.direct_button.toolTip()
    press()
    finish(dock)
    assert "cells direct [1]" in viewer.layers
    pressed = []
    viewer.bind_key(SHORTCUT, pressed.append)  # a key that the user binds afterwards
    press()
    assert len(pressed) == 1
    assert not dock.job.running


def test_a_key_that_the_user_has_bound_is_left_alone(viewer, plus_one, press, make_noisy):
    pressed = []
    viewer.add_image(make_noisy(), name="cells")
    viewer.bind_key(SHORTCUT, pressed.append)
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")[1]
    assert "Shift" not in dock.direct_button.toolTip()
    press()
    assert len(pressed) == 1
    assert not dock.job.running
    assert len(viewer.layers) == 1


def test_a_key_bound_for_all_viewers_is_left_alone(qapp):
    pressed = []
    viewer = ViewerModel()
    assert bind_shortcut(viewer)
    assert bind_shortcut(viewer)  # the dock was opened again
    ViewerModel.bind_key(SHORTCUT, pressed.append, overwrite=True)  # as the preferences do
    assert not bind_shortcut(viewer)
    assert ViewerModel.class_keymap[KEY] == pressed.append


# The dock by itself.


def test_the_dock_explains_its_controls_is_narrow_and_lets_go_of_the_models(viewer, dock, denoiser, make_noisy):
    controls = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    found = [child for kind in controls for child in dock.findChildren(kind)]
    inner = [child for child in found if isinstance(child.parent(), QAbstractSpinBox | QComboBox)]
    assert len(found) > len(inner)
    assert not [child for child in found if child not in inner and not child.toolTip()]
    long = viewer.add_image(make_noisy(), name="a very long name of a layer, as files have them " * 3)
    assert dock.minimumSizeHint().width() <= 360
    assert dock.layer_choice.currentText() == long.name
    dock.parent().destroyOnClose()
    assert dock.model_choice.model is None
