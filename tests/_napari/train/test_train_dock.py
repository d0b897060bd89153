"""The Train dock as a whole, and beside other docks."""

from __future__ import annotations

import pytest
from napari._app_model import get_app_model
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit
from stand_in import noisy_image

from napari_direct_denoiser._napari.compare.widget import CompareWidget
from napari_direct_denoiser._napari.shared.open_dock import open_dock
from napari_direct_denoiser._napari.shared.session import MODELS
from napari_direct_denoiser._napari.train.widget import TrainWidget

PLUGIN = "napari-direct-denoiser"
pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(viewer_as_marked):
    return viewer_as_marked


@pytest.fixture
def dock(open_as_marked):
    return open_as_marked("Train", TrainWidget)


def test_minutes_and_memory_are_estimated_beforehand(viewer, dock, rng):
    viewer.add_image(noisy_image(rng))
    dock.advanced["device"].value = "cpu"
    assert dock.ready.text() == "About 5 min, 0.4 GB of memory."
    dock.form["max_minutes"].value = 0.5
    assert dock.ready.text() == "About 30 s, 0.4 GB of memory."
    dock.form["max_minutes"].value = 0
    dock.form["preset"].value = "paper"
    assert "days, 1.9 GB" in dock.ready.text()


@pytest.mark.window
def test_two_docks_share_models_and_nothing_else(viewer, dock, engine, finish, qtbot, rng):
    other = TrainWidget(viewer)
    viewer.window.add_dock_widget(other, name="other")
    viewer.add_image(noisy_image(rng), name="first")
    viewer.add_image(noisy_image(rng), name="second")
    dock.layer_choice.setCurrentText("first")
    dock.form["max_minutes"].value = 3
    dock.noise.form["noise"].value = "gaussian"
    dock.advanced["structured"].value = True
    assert other.layer_choice.currentText() == "second"
    assert other.settings() != dock.settings()
    assert other.settings().max_minutes is None
    engine(steps=2)
    dock.train_button.click()
    finish(dock)
    assert other.models.choice.count() == 1
    engine(steps=2)
    other.train_button.click()
    finish(other)
    assert [model.name for model in MODELS.all] == ["first, quick, l2", "second, quick, l2"]
    assert dock.models.model is MODELS.all[0]  # its own, whatever the other did
    assert other.models.model is MODELS.all[1]
    other.parent().destroyOnClose()
    dock.layer_choice.setCurrentText("second")
    assert dock.train_button.isEnabled()


def test_every_control_is_explained(dock):
    controls = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    found = [child for kind in controls for child in dock.findChildren(kind)]
    inner = [child for child in found if isinstance(child.parent(), QAbstractSpinBox | QComboBox)]
    silent = [child for child in found if child not in inner and not child.toolTip()]
    assert len(found) > len(inner)
    assert not silent


def test_dock_is_no_wider_than_a_small_screen_allows(viewer, dock, rng):
    viewer.add_image(noisy_image(rng), name="a name that is far too long for any dock " * 3)
    for kind in ("auto", "poisson", "gaussian", "calibration", "file"):
        dock.noise.form["noise"].value = kind
        assert dock.minimumSizeHint().width() <= 400


@pytest.mark.window
def test_denoise_stack_denoises_the_layer_with_the_model_in_the_denoise_dock(viewer, dock, finish, qtbot, rng):
    viewer.add_image(noisy_image(rng), name="cells", axis_labels=("t", "y", "x"))
    assert not dock.models.denoise_button.isEnabled()
    dock.advanced["max_steps"].value = 1
    dock.train_button.click()
    assert not dock.models.denoise_button.isEnabled()
    finish(dock)
    other = viewer.add_image(noisy_image(rng, (64, 64)), name="other")
    dock.layer_choice.setCurrentText("cells")
    dock.models.denoise_button.click()
    denoise = open_dock(viewer, "Denoise")
    finish(denoise)
    assert denoise.model is dock.models.model
    result = viewer.layers["cells direct"]
    assert result.data.shape == (2, 64, 64)
    assert other in viewer.layers


@pytest.mark.window
def test_compare_is_asked_of_the_compare_dock(viewer, dock, engine, finish, rng, monkeypatch):
    asked = []
    monkeypatch.setattr(CompareWidget, "compare_layer", lambda compare, layer, model: asked.append((layer, model)))
    cells = viewer.add_image(noisy_image(rng), name="cells")
    assert not dock.models.compare_button.isEnabled()
    engine(steps=2)
    dock.train_button.click()
    finish(dock)
    viewer.add_image(noisy_image(rng), name="other")
    dock.layer_choice.setCurrentText("cells")
    dock.models.compare_button.click()
    assert asked == [(cells, MODELS.all[0])]


@pytest.mark.window
def test_the_menu_and_the_buttons_open_the_same_docks(viewer, dock):
    commands = get_app_model().commands
    commands.execute_command(f"{PLUGIN}.compare").result()
    assert "Compare (Direct Denoiser)" in viewer.window.dock_widgets
    assert type(open_dock(viewer, "Compare")) is CompareWidget
    assert open_dock(viewer, "Train") is dock
    denoise = open_dock(viewer, "Denoise")
    commands.execute_command(f"{PLUGIN}.denoise").result()  # shows or hides it
    assert open_dock(viewer, "Denoise") is denoise
    assert len(viewer.window.dock_widgets) == 3


@pytest.mark.window
def test_docks_are_tabs_of_each_other(viewer, qtbot):
    viewer.window.add_dock_widget(QLineEdit(), name="another plugin")
    docks = {}
    for name in ("Train", "Denoise", "Compare"):
        widget, _ = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        docks[name] = widget
        qtbot.wait(20)
    window = docks["Train"].parent()
    assert set(window.tabifiedDockWidgets(docks["Train"])) == {docks["Denoise"], docks["Compare"]}
    docks["Denoise"].setFloating(True)
    docks["Denoise"].setFloating(False)
    docks["Denoise"].destroyOnClose()
    again, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")
    qtbot.wait(20)
    assert again in window.tabifiedDockWidgets(docks["Train"])
