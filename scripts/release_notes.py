"""Print the section of CHANGELOG.md that belongs to a release, for its notes.

    python scripts/release_notes.py v0.2.0

Ends with an error if the tag is not the version in pyproject.toml, or the changelog has no such section.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(tag: str, root: Path = ROOT) -> str:
    """Give the section of the changelog for a tag such as ``v0.2.0``; `SystemExit` if something does not fit."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"Expected the tag v{version}, the version in pyproject.toml, found {tag}: change one of them")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, re.DOTALL | re.MULTILINE)
    if section is None or not section[1].strip():
        sys.exit(f"Expected a section ## [{version}] in CHANGELOG.md, found none: rename Unreleased")
    return section[1].strip()


if __name__ == "__main__":
    print(notes(sys.argv[1]))
