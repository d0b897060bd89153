"""What the package is made of, what is in its wheel and archive, and that it needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_direct_denoiser import load

ROOT = Path(__file__).parents[1]
PACKAGE = "napari_direct_denoiser"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUFFIXES = {".py", ".typed", ".yaml", ".safetensors"}
"""Of the files of the package."""


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]


def test_every_dependency_has_its_reason_and_licence() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line)[1:-1] for line in page.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in rows} == set().union(*map(names, groups))
    assert all(len(row) == 3 and all(row) for row in rows)


def test_python_versions_of_the_classifiers_are_those_of_the_workflow() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    listed = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)}
    assert listed == set(re.findall(r'python(?:-version)?: "(3\.\d+)"', workflow))
    assert PROJECT["requires-python"] == f">={min(listed, key=lambda each: int(each[2:]))}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def sources() -> set[str]:
    """Files of the package, without what Python and tools leave beside them."""
    folder = ROOT / "src"
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if not name.endswith("/")}
    (info,) = {name.split("/")[0] for name in found if ".dist-info/" in name}
    about = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert found == sources() | {f"{info}/{name}" for name in about}
    assert {Path(name).suffix for name in sources()} <= SUFFIXES
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/napari.yaml"} < found
    assert any(name.startswith(f"{PACKAGE}/weights/") for name in found)


def test_the_source_archive_holds_sources_tests_and_documents_and_no_data(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        found = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    tops = {name.partition("/")[0] for name in found}
    folders = {"src", "tests", "benchmarks", "docs", "examples", "scripts"}
    files = {
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "mkdocs.yml",
        "napari.yaml",
    }
    assert tops - folders - files == {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {f"src/{name}" for name in sources()} <= found
    waste = re.compile(r"__pycache__|\.pyc$|\.tiff?$|\.np[yz]$|\.zarr|(^|/)\.(venv|mypy|ruff|pytest|hypothesis)")
    assert not sorted(filter(waste.search, found))


OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    raise AssertionError("the network was asked for")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
from importlib.util import find_spec
if find_spec("napari"):
    import napari_direct_denoiser._napari.train.widget
    import napari_direct_denoiser._napari.denoise.widget
    import napari_direct_denoiser._napari.compare.widget
    from napari_direct_denoiser._napari.sample_data import simulated_filaments
    simulated_filaments()
assert "torch" not in sys.modules, "the docks open with torch, slowly"
import numpy as np
import napari_direct_denoiser.cli
from napari_direct_denoiser import load, train
from napari_direct_denoiser.training import calibrate, mean_or_direct, validation
from napari_direct_denoiser.data.synthetic import simulate

calibrate._PIXELS, calibrate._SIDE, mean_or_direct._SAMPLES, mean_or_direct._SIDE = 1000, 64, 2, 64
validation._PATCHES = 2
noisy = simulate(planes=2, size=64, seed=0).noisy
train(noisy, noise="poisson:2,100,3", max_steps=1, device="cpu").save("m.safetensors")
np.save("noisy.npy", noisy)
np.save("denoised.npy", load("m.safetensors", "cpu").denoise(noisy))
try:
    socket.create_connection(("localhost", 1))
except AssertionError:
    print("offline")
"""


@pytest.mark.slow
def test_opens_the_docks_without_torch_and_trains_and_denoises_without_a_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("offline\n")
    expected = load(tmp_path / "m.safetensors", "cpu").denoise(np.load(tmp_path / "noisy.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "denoised.npy"), expected)  # here as in that process
