"""The demo's images side by side in napari: on screen, or as a picture of the window.

``python -m napari_direct_denoiser._napari.demo_view FOLDER`` shows the files of the demo, and with ``--picture`` before
the folder writes the picture. It is a process of its own: Qt ends its process if it finds no screen or no OpenGL.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtGui import QImage

from ..data.files import replacing
from ..data.io import read_image
from ..demo import IMAGES, PICTURE

if TYPE_CHECKING:
    from napari import Viewer
    from numpy.typing import NDArray


def side_by_side(images: dict[str, NDArray[Any]]) -> Viewer:
    """Open a viewer with one layer per image, from left to right, all with the same contrast limits.

    Parameters
    ----------
    images
        Images of one shape by the name of their layer; the limits are those of the last one.
    """
    import napari

    viewer = napari.Viewer(title="napari-direct-denoiser: demo")
    low, high = np.percentile(list(images.values())[-1], (0.1, 99.9))
    for name, image in images.items():
        layer = viewer.add_image(image, name=name, contrast_limits=(float(low), float(high)))
        if hasattr(layer, "name_overlay"):  # since napari 0.9
            layer.name_overlay.visible = True
    # napari 0.9 deprecates `viewer.grid`; before, there is no other.
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    grid.shape = (1, len(images))
    grid.spacing = 0.02
    grid.enabled = True
    grid.stride = -1 if _place_of_first(grid, viewer) else 1  # older versions begin with the last layer
    viewer.reset_view()
    return viewer


def show(images: dict[str, NDArray[Any]]) -> None:
    """Open the images side by side and come back when the window is closed."""
    import napari

    side_by_side(images)
    napari.run()


def save_picture(images: dict[str, NDArray[Any]], path: Path) -> None:
    """Write a PNG of the whole napari window with the images side by side."""
    viewer = side_by_side(images)
    try:
        viewer.window.resize(1500, 760)
        viewer.reset_view()
        picture = viewer.screenshot(canvas_only=False, flash=False)  # RGBA
    finally:
        viewer.close()
    height, width = picture.shape[:2]
    image = QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
    with replacing(path) as draft:
        if not image.save(str(draft), "PNG"):
            raise OSError(f"Qt could not write {path.name}")


def _place_of_first(grid: Any, viewer: Viewer) -> int:
    """Column in which the grid puts the first layer."""
    layers: Any = viewer.layers if hasattr(viewer, "canvas") else len(viewer.layers)
    return int(grid.position(0, layers)[1])


if __name__ == "__main__":
    folder = Path(sys.argv[-1])
    found = {words: read_image(folder / f"{name}.tif").data for name, words in IMAGES.items()}
    if "--picture" in sys.argv:
        save_picture(found, folder / PICTURE)
    else:
        show(found)
