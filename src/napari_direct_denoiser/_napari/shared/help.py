"""The "?" beside a section, which opens its page of the documentation in the browser."""

from __future__ import annotations

from importlib.metadata import metadata

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

from .open_dock import PLUGIN

PAGES = {
    "train": "docks/#train",
    "noise": "how-to/choose-a-noise-model/",
    "settings": "losses/",
    "denoise": "docks/#denoise",
    "error": "how-to/error-bars/",
    "samples": "explanation/direct-pass/",
    "cluster": "cluster/",
    "compare": "docks/#compare",
}
"""Page of each section."""
_SIZE = 20, 26  # as high as a row of a form, pixels


def page_url(section: str) -> str:
    """Address of the page of a section, from the address of the documentation in the metadata of the package."""
    urls = dict(each.split(", ", 1) for each in metadata(PLUGIN).get_all("Project-URL") or [])
    return f"{urls['Documentation'].rstrip('/')}/en/latest/{PAGES[section]}"


def help_button(section: str) -> QToolButton:
    """Make the button that opens the page of a section."""
    button = QToolButton()
    button.setText("?")
    button.setAutoRaise(True)
    button.setFixedSize(*_SIZE)
    button.setToolTip("Open the page on this section in the browser.")
    button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(page_url(section))))
    return button


def with_help(widget: QWidget, section: str) -> QHBoxLayout:
    """Put the button of a section beside its first row."""
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(2)
    row.addWidget(widget, 1)
    row.addWidget(help_button(section), 0, Qt.AlignmentFlag.AlignTop)
    return row
