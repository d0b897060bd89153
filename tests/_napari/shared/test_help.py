"""Each "?" opens a page that the documentation has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qtpy.QtGui import QDesktopServices

from napari_direct_denoiser._napari.shared.help import PAGES, help_button, page_url

pytestmark = pytest.mark.gui

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("section", PAGES)
def test_the_page_of_a_section_exists(section):
    page, _, anchor = PAGES[section].partition("#")
    text = (DOCS / f"{page.rstrip('/')}.md").read_text(encoding="utf-8")
    headings = [re.sub(r"\W+", "-", title.strip().lower()) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    assert not anchor or anchor in headings


def test_the_button_opens_it_in_the_browser(qtbot, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    button = help_button("noise")
    qtbot.addWidget(button)
    button.click()
    assert opened == [page_url("noise")]
    assert opened[0].startswith("https://")
