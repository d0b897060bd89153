"""What README.md and docs/ show: all blocks of the README and all Python of docs/ run; links, headings, files exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.main import get_command
from typer.testing import CliRunner

import napari_direct_denoiser.denoiser
from napari_direct_denoiser import Denoiser, TrainSettings, load, train
from napari_direct_denoiser.cli import app
from napari_direct_denoiser.data.synthetic import simulate

pytestmark = pytest.mark.usefixtures("small_networks")
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
MODULE = "-m napari_direct_denoiser "
BRIEF = {"train": ["--max-steps", "2", "--device", "cpu"]}
"""Options that make the commands of the documents short."""


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, such as ``python``, also those inside lists."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def lines(document: Path) -> list[str]:
    return [line for block in blocks(document, "sh") for line in block.splitlines() if line.strip()]


def command_lines() -> list[tuple[str, str]]:
    """Calls of `direct-denoiser`: document, line."""
    return [(path.name, line) for path in DOCUMENTS for line in lines(path) if line.startswith("direct-denoiser ")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file that was trained for a step."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    stack = simulate(planes=2, size=64, seed=1).noisy
    train(stack, noise="poisson:2,100,3", max_steps=1, device="cpu").save(path)
    return path.read_bytes()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents name, where trainings are short. The camera is that of `simulate`."""
    train = napari_direct_denoiser.denoiser.train
    continued = Denoiser.continued

    def train_briefly(*images: Any, **settings: Any) -> Denoiser:
        return train(*images, **settings, max_steps=2, device="cpu")

    def continue_briefly(self: Denoiser, *images: Any, **settings: Any) -> Denoiser:
        return continued(self, *images, **settings, max_steps=2, device="cpu")

    monkeypatch.setattr(napari_direct_denoiser.denoiser, "train", train_briefly)
    monkeypatch.setattr(Denoiser, "continued", continue_briefly)
    monkeypatch.setattr("napari_direct_denoiser.noise.calibration._PAIRS", 10_000)
    monkeypatch.chdir(tmp_path)
    images = simulate(planes=2, size=64, seed=1)
    rng, scene = np.random.default_rng(0), np.tile(np.linspace(100, 140, 64), (8, 64, 1))
    frames = (100 + 2 * rng.poisson((scene - 100) / 2) + rng.normal(0, 3, scene.shape)).astype(np.float32)
    (tmp_path / "raw").mkdir()
    for name, image in {
        "stack": images.noisy,
        "new": images.noisy,
        "truth": images.truth,
        "clean": images.truth,
        "calibration": frames,
        "static_frames": frames,
        "raw/one": images.noisy,
        "raw/two": images.noisy,
    }.items():
        tifffile.imwrite(f"{name}.tif", image, imagej=True, metadata={"axes": "TYX"})
    return tmp_path


@pytest.fixture
def scheduler() -> Iterator[str]:
    """Address of a dask cluster in this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def run(line: str, model: bytes) -> None:
    """Run a call of the command line in this process; a model that is not there is put there first."""
    _, command, *arguments = shlex.split(line, comments=True)
    named = dict(pairwise(arguments)).get("--model", "model.safetensors")
    if command != "train" and not Path(named).exists():
        Path(named).write_bytes(model)
    done = CliRunner().invoke(app, [command, *arguments, *BRIEF.get(command, [])])
    assert done.exit_code == 0, f"{line}\n{done.stderr}"


@pytest.mark.slow
def test_the_commands_of_the_readme_run(desk: Path, model: bytes, scheduler: str) -> None:
    commands = [line for line in lines(README) if line.startswith("direct-denoiser ") or MODULE in line]
    for line in commands:
        if MODULE in line:  # torchrun starts several of these; one process is enough here
            line = "direct-denoiser " + line.partition(MODULE)[2]
        if line.startswith("direct-denoiser denoise stack.zarr") and not Path("stack.zarr").exists():
            run("direct-denoiser denoise stack.tif --model model.safetensors --output stack.zarr", model)
        run(line.replace("--workers 4", f"--overwrite --scheduler {scheduler}"), model)
    assert load("model.safetensors", device="cpu").provenance.steps == 2
    assert {path.name for path in desk.iterdir()} >= {
        "denoised.tif",
        "mean.tif",
        "compared",
        "camera.npz",
        "denoised.zarr",
    }


def test_the_python_example_runs(desk: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks(README, "python")), "README.md", "exec"), names)
    stack = names["stack"]
    assert names["direct"].shape == stack.shape
    assert names["mean"].shape == stack.shape[1:]
    assert names["samples"].shape == (10, *stack.shape[1:])
    assert load("model.safetensors", device="cpu").provenance.steps == 2


def test_the_other_lines_of_the_readme_are_right() -> None:
    """Installation is not tried here: its names are compared with those of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in lines(README):
        program, *arguments = shlex.split(line, comments=True)
        if program == "make":
            assert set(arguments) <= set(targets), line
        elif program == "pip":
            name, _, extras = arguments[-1].rstrip("]").partition("[")
            assert arguments[0] == "install"
            assert name in (".", project["name"]), line
            assert set(filter(None, extras.split(","))) <= project["optional-dependencies"].keys(), line
        elif program == "python":
            exec(arguments[arguments.index("-c") + 1], {})
        else:
            assert program in ("direct-denoiser", "torchrun", "conda"), f"nothing checks the line {line}"


PYTHON_PAGES = [path for path in DOCUMENTS if path.parent != ROOT and blocks(path, "python")]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda path: path.name)
def test_the_python_of_the_docs_runs(page: Path, desk: Path, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "model.safetensors").write_bytes(model)
    run("direct-denoiser denoise stack.tif --model model.safetensors --output stack.zarr", model)
    names: dict[str, Any] = {"stack": tifffile.imread("stack.tif")}
    short = {"preset": "quick", "max_steps": 4, "device": "cpu", "noise": "poisson:2,100,3"}
    monkeypatch.setattr("napari_direct_denoiser.config.TrainSettings", lambda **settings: TrainSettings(**short))
    for block in blocks(page, "python"):
        exec(compile(block.replace(">= 1000", ">= 1"), page.name, "exec"), names)


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_commands_are_understood(document: str, line: str) -> None:
    _, command, *arguments = shlex.split(line, comments=True)
    COMMANDS[command].make_context(command, arguments)  # parses, and raises UsageError; runs nothing


def test_the_readme_shows_every_command_but_the_demo() -> None:
    shown = {line.split()[1] for line in lines(README) if line.startswith("direct-denoiser ")}
    assert shown == COMMANDS.keys() - {"demo"}


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as mkdocs and GitHub make them."""
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = []
    for link in links:
        name, _, anchor = link.partition("#")
        path = document.parent / name if name else document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            missing.append(link)
    named = set(re.findall(r"(?<![\w/.])(?:tests|benchmarks|scripts|docs|examples|src)/[\w/.-]*\w", text))
    missing += [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{document.name} names files or headings that are not there: {sorted(missing)}"
