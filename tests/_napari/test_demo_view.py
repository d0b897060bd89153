"""The demo's window: noisy, HDN mean and direct from left to right, equally bright."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QImage

from napari_direct_denoiser._napari.demo_view import save_picture, side_by_side
from napari_direct_denoiser.errors import DenoiserError


def test_images_stand_side_by_side_under_the_same_limits(make_napari_viewer_proxy, monkeypatch, rng):
    viewer = make_napari_viewer_proxy()
    monkeypatch.setattr("napari.Viewer", lambda **_: viewer)
    images = {name: rng.normal(100, 10, (2, 32, 32)) for name in ("noisy", "HDN mean (N=50)", "direct")}
    assert side_by_side(images) is viewer
    layers = list(viewer.layers)
    assert [layer.name for layer in layers] == list(images)
    for layer, image in zip(layers, images.values(), strict=True):
        np.testing.assert_array_equal(layer.data, image)
        assert layer.contrast_limits == layers[0].contrast_limits
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    assert grid.enabled
    held = viewer.layers if hasattr(viewer, "canvas") else len(layers)
    assert [tuple(grid.position(index, held)) for index in range(3)] == [(0, 0), (0, 1), (0, 2)]


def test_the_picture_of_the_window_is_written_whole_or_not_at_all(make_napari_viewer, monkeypatch, rng, tmp_path):
    images = {name: rng.normal(100, 10, (2, 32, 32)) for name in ("noisy", "direct")}
    path = tmp_path / "picture.png"
    monkeypatch.setattr("napari.Viewer", lambda **_: make_napari_viewer(show=True))
    save_picture(images, path)
    written = QImage(str(path))
    assert written.width() > 600
    assert len({written.pixelColor(x, written.height() // 2).name() for x in range(written.width())}) > 10
    monkeypatch.setattr(QImage, "save", lambda *_: False)
    path.write_text("older")
    with pytest.raises(DenoiserError, match=r"picture\.png could not be written"):
        save_picture(images, path)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    assert path.read_text() == "older"
