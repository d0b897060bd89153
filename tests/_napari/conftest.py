"""Fixtures of the docks: a viewer with the plugin in it."""

from __future__ import annotations

import os

os.environ["NAPARI_CONFIG"] = ""  # read when napari is imported: the tests write no settings

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QFileDialog, QMessageBox

import napari_direct_denoiser._napari as docks
from napari_direct_denoiser._napari.shared.session import MODELS, SECONDS_PER_STEP
from napari_direct_denoiser._napari.train import recovery

PLUGIN = "napari-direct-denoiser"


@pytest.fixture(scope="module", autouse=True)
def with_small_networks(small_networks) -> None:
    """The docks train and denoise with small networks."""


@pytest.fixture(autouse=True)
def no_models() -> Iterator[None]:
    MODELS.clear()
    SECONDS_PER_STEP.clear()  # or estimates would depend on the tests before
    yield
    MODELS.clear()


@pytest.fixture(autouse=True)
def recovery_folder(tmp_path_factory, monkeypatch) -> Path:
    """Recovery files are written to a folder of the test, not to that of the user."""
    folder = tmp_path_factory.mktemp("data") / "recovery"
    monkeypatch.setattr(recovery, "recovery_folder", lambda: folder)
    return folder


@pytest.fixture
def viewer(window_viewer):
    """A viewer with a window; folders and modules whose tests need none have `light_viewer` in its place."""
    return window_viewer


@pytest.fixture
def window_viewer(make_napari_viewer_proxy, npe2pm):
    """A viewer with a window, in which this plugin, and no other, is installed."""
    with npe2pm.tmp_plugin(manifest=str(Path(docks.__file__).parents[1] / "napari.yaml")):
        yield make_napari_viewer_proxy()


@pytest.fixture
def light_viewer(qapp) -> PublicOnlyProxy:
    """A viewer without a window, for what needs none: it opens in a tenth of the time."""
    return PublicOnlyProxy(ViewerModel())


@pytest.fixture
def in_light_viewer(light_viewer, qtbot):
    """Open a dock in the viewer without a window."""
    opened = []

    def open_dock(make):
        dock = make(light_viewer)
        qtbot.addWidget(dock)
        opened.append(dock)
        return dock

    yield open_dock
    for dock in opened:
        dock.close_down()
    assert QThreadPool.globalInstance().waitForDone(20_000)


@pytest.fixture
def viewer_as_marked(request) -> Any:
    """A viewer with a window for a test that is marked so, otherwise one without."""
    return request.getfixturevalue("window_viewer" if request.node.get_closest_marker("window") else "light_viewer")


@pytest.fixture
def open_as_marked(request, viewer_as_marked):
    """Open a dock in that viewer, by its name or its class."""

    def open_dock(name, make):
        if request.node.get_closest_marker("window"):
            return viewer_as_marked.window.add_plugin_dock_widget(PLUGIN, name)[1]
        return request.getfixturevalue("in_light_viewer")(make)

    return open_dock


@pytest.fixture
def train_dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]


@pytest.fixture
def denoise_dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise")[1]


@pytest.fixture
def finish(qtbot):
    """Wait until the run of a dock has ended, and give its last words."""

    def wait(dock, timeout: int = 60_000) -> str:
        qtbot.waitUntil(lambda: not dock.job.running, timeout=timeout)
        return dock.status.text()

    return wait


@pytest.fixture
def file_dialog(monkeypatch):
    """Answer the file dialog with a path, and the question whether to replace the file."""

    def answer(path, replace: bool | None = None) -> list[str]:
        asked: list[str] = []
        button = QMessageBox.StandardButton.Yes if replace else QMessageBox.StandardButton.No

        def question(parent, title, words):
            assert replace is not None, words
            asked.append(words)
            return button

        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return answer
