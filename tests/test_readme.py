"""What README.md and docs/ show: the Python example runs, commands are understood, files and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tifffile
from typer.main import get_command

import napari_direct_denoiser.denoiser
from napari_direct_denoiser import Denoiser, load
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.synthetic import simulate

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, such as ``python``."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def command_lines() -> list[tuple[str, str]]:
    """Calls of `direct-denoiser`: document, line."""
    return [
        (document.name, line)
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for line in block.splitlines()
        if line.startswith("direct-denoiser ")
    ]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = "\n".join(blocks(ROOT / "README.md", "python"))
    train = napari_direct_denoiser.denoiser.train

    def train_briefly(*images: Any, **settings: Any) -> Denoiser:
        return train(*images, **settings, max_steps=2, device="cpu")

    monkeypatch.setattr(napari_direct_denoiser.denoiser, "train", train_briefly)
    monkeypatch.chdir(tmp_path)
    stack = simulate(planes=2, size=64, seed=1).noisy
    tifffile.imwrite("stack.tif", stack)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["direct"].shape == stack.shape
    assert names["mean"].shape == stack.shape[1:]
    assert names["samples"].shape == (10, *stack.shape[1:])
    assert load("model.safetensors", device="cpu").provenance.steps == 2


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_commands_are_understood(document: str, line: str) -> None:
    _, command, *arguments = shlex.split(line, comments=True)
    COMMANDS[command].make_context(command, arguments)  # parses, and raises UsageError; runs nothing


def test_the_readme_shows_every_command_but_the_demo() -> None:
    shown = {line.split()[1] for document, line in command_lines() if document == "README.md"}
    assert shown == COMMANDS.keys() - {"demo"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link}
    missing = [link for link in links if not (document.parent / link).exists()]
    named = set(re.findall(r"(?<![\w/.])(?:tests|benchmarks|scripts|docs|src)/[\w/.-]*\w", text))
    missing += [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{document.name} names files that are not there: {sorted(missing)}"
