"""The command in File > IO Utilities writes the newest model for other software."""

from __future__ import annotations

import zipfile

import numpy as np
import onnx
import pytest
from napari._app_model import get_app_model
from napari.utils.notifications import notification_manager

from napari_direct_denoiser import Denoiser, TrainSettings
from napari_direct_denoiser._napari.shared.session import MODELS

COMMAND = "napari-direct-denoiser.export_model"


@pytest.fixture(scope="module")
def untrained():
    image = np.random.default_rng(0).poisson(20, (1, 64, 64)).astype(np.float32)
    return Denoiser.for_images(image, TrainSettings(noise="gaussian:4", device="cpu"))


@pytest.fixture
def last_words(qtbot):
    """Run the command, and give its notification."""

    def run() -> str:
        notification_manager.records.clear()
        get_app_model().commands.execute_command(COMMAND).result()
        qtbot.waitUntil(lambda: bool(notification_manager.records), timeout=60_000)
        return notification_manager.records[-1].message

    return run


def test_writes_the_newest_model(viewer, untrained, file_dialog, last_words, tmp_path):
    menu = get_app_model().menus.get_menu("napari/file/io_utilities")
    assert COMMAND in {item.command.id for item in menu}
    assert last_words().startswith("Expected a model, found none")
    MODELS.add("a model", untrained)
    file_dialog(tmp_path / "model.onnx")
    assert last_words() == "Wrote model.onnx"
    assert onnx.load(tmp_path / "model.onnx").graph.output[0].name == "denoised"
    file_dialog(tmp_path / "model")
    assert last_words() == "Wrote model.zip"
    assert "rdf.yaml" in zipfile.ZipFile(tmp_path / "model.zip").namelist()
    file_dialog(tmp_path / "absent" / "model.zip")
    assert "does not exist: create it first" in last_words()
