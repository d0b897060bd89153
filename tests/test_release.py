"""A release: what a tag needs, and the notes that come from the changelog."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = '[project]\nversion = "0.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

- later

## [0.2.0] - 2026-01-01

### Added

- a thing

## [0.1.0]

- before
"""


def notes(tag: str, folder: Path) -> str:
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "scripts" / "release_notes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: str = module.notes(tag, folder)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_the_notes_are_the_section_of_the_version(project: Path) -> None:
    assert notes("v0.2.0", project) == "### Added\n\n- a thing"


def test_a_tag_of_another_version_is_refused(project: Path) -> None:
    with pytest.raises(SystemExit, match=r"Expected the tag v0\.2\.0, .*, found v0\.3\.0"):
        notes("v0.3.0", project)


def test_a_version_without_a_section_is_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text("## [Unreleased]\n\n- all\n")
    with pytest.raises(SystemExit, match=r"Expected a section ## \[0\.2\.0\]"):
        notes("v0.2.0", project)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_and_issue_forms_can_be_read(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "workflows":
        assert content["jobs"]
        assert content["permissions"]
    elif path.name != "config.yml":
        assert content.keys() >= {"name", "description", "body"}
