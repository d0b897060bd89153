"""The documentation is sound: cheap checks; `make docs` builds it strictly, as CI does."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def site() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return settings


def pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(entry)]


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(pages_of(site()["nav"])) == PAGES


def test_what_the_site_is_made_with_exists() -> None:
    settings = site()
    assert [name for name in settings["hooks"] if not (ROOT / name).is_file()] == []
    assert [name for name in settings["extra_css"] if not (DOCS / name).is_file()] == []


def test_every_marker_is_one_that_the_hooks_replace() -> None:
    tree = ast.parse((DOCS / "hooks.py").read_text(encoding="utf-8"))
    table = next(
        node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "GENERATED"
    )
    assert isinstance(table.value, ast.Dict)
    known = {ast.literal_eval(key) for key in table.value.keys if key is not None}
    markers = {name for page in PAGES for name in re.findall(r"<!-- generated: (.+) -->", (DOCS / page).read_text())}
    assert markers == known


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_python_reference_exist(page: str) -> None:
    import importlib

    for name in re.findall(r"^::: ([\w.]+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), f"{page}: {name} is gone"


def test_equations_are_numbered_as_they_are_cited() -> None:
    text = (DOCS / "explanation" / "method.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"\\tag\{(\d)\}", text)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {int(number) for number in re.findall(r"eq\. (\d)", text)} <= set(numbers)
