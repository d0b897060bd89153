"""The import rule and the limits of size, read from the source: a failure names file, line and rule.

`CONTRIBUTING.md` shows the same map in words. A new room of the package gets a place in `LAYERS`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

PACKAGE = "napari_direct_denoiser"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE
_HERE = "tests/test_house.py"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"config", "progress"}),
    frozenset({"presets"}),
    frozenset({"system", "cuda_graphs", "calibration", "losses"}),
    frozenset({"data", "networks"}),
    frozenset({"noise"}),
    frozenset({"normalization"}),
    frozenset({"co_model"}),
    frozenset({"risk"}),
    frozenset({"training", "prediction"}),
    frozenset({"evaluation"}),
    frozenset({"checkpoint"}),
    frozenset({"denoiser"}),
    frozenset({"demo", "export"}),
    frozenset({"cli", "_napari"}),
    frozenset({"", "__main__"}),  # the package itself, which only names what is public, and runs the command line
)
"""Rooms (modules or folders of the package), lowest layer first.

A module imports from its own room and from lower layers, never from its own layer's other rooms or from above.
"""

DOCKS = frozenset({"train", "denoise", "compare"})
VIEWER = frozenset({"napari", "qtpy", "magicgui", "superqt", "pyqtgraph"})

MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 60

TOO_LONG: dict[str, int] = {}
"""Modules ("a/b.py") and functions ("a/b.py:function") that are over the limit today, with their lines.

To be emptied: nothing is added, and an entry that is no longer needed fails.
"""


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another."""

    source: str
    """Importing module without the package's name, such as ``prediction.tiling``."""
    target: str
    line: int
    typing_only: bool
    """Stands under ``if TYPE_CHECKING``. Imports inside functions are not: they run."""

    def breaks(self, rule: str) -> str:
        kind = "import for types only" if self.typing_only else "import"
        return f"{_shown(self.source)}:{self.line}: {kind} of {self.target or PACKAGE}: {rule}"


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _shown(module: str) -> str:
    return MODULES[module].relative_to(ROOT.parents[1]).as_posix()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), MODULES[module].name)


def _room(module: str) -> str:
    return module.partition(".")[0]


def _rooms() -> set[str]:
    return {_room(module) for module in MODULES}


def _layer(module: str) -> int:
    return next((number for number, rooms in enumerate(LAYERS) if _room(module) in rooms), -1)


def _dock(module: str) -> str:
    """Folder inside `_napari` that a module lies in; empty for all others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "_napari" and len(parts) > 1 and MODULES[module].parent.name != "_napari" else ""


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _statements(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below ``node``, and whether they stand under ``if TYPE_CHECKING``."""
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                here = typing_only or (_is_type_checking(node) and field == "body")
                yield child, here
                yield from _statements(child, here)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """Full dotted name that ``from ... import`` starts at."""
    if not node.level:
        return node.module or ""
    package = f"{PACKAGE}.{module}".rstrip(".").split(".")
    above = node.level - (MODULES[module].name == "__init__.py")
    return ".".join([*package[: len(package) - above], *([node.module] if node.module else [])])


def _imported(module: str, node: ast.AST) -> list[str]:
    """Full dotted names of what one import statement imports: modules, and names in them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(module, node)
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


@cache
def imports() -> tuple[Import, ...]:
    """All imports between modules of the package."""
    found = []
    for module in MODULES:
        for node, typing_only in _statements(_tree(module)):
            for name in _imported(module, node):
                if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
                    continue
                inside = name.removeprefix(PACKAGE).removeprefix(".")
                target = inside if inside in MODULES else inside.rpartition(".")[0]
                if target != module:
                    found.append(Import(module, target, node.lineno, typing_only))  # type: ignore[attr-defined]
    return tuple(found)


def _none(broken: list[str]) -> None:
    if broken:
        pytest.fail("\n".join(["", *broken]), pytrace=False)


def test_every_module_has_a_place_in_the_layers() -> None:
    layers = frozenset[str]().union(*LAYERS)
    _none([f"{_shown(module)}:1: give this a place in LAYERS" for module in MODULES if _room(module) not in layers])
    _none([f"{_HERE}: LAYERS names {room}, which is gone: remove it" for room in layers - _rooms()])


def test_the_map_in_contributing_shows_every_room() -> None:
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = [f"`{room}.py`" if (ROOT / f"{room}.py").exists() else f"`{room}/`" for room in _rooms() if room]
    _none([f"CONTRIBUTING.md: the map lacks {room}: add what it does" for room in shown if room not in text])


@pytest.mark.parametrize("typing_only", [False, True], ids=["running", "types"])
def test_imports_go_downward_only(typing_only: bool) -> None:
    rule = "import from lower layers only: " + " < ".join(",".join(sorted(rooms)) or PACKAGE for rooms in LAYERS)
    broken = [
        each.breaks(rule)
        for each in imports()
        if each.typing_only == typing_only
        and _room(each.source) != _room(each.target)
        and _layer(each.target) >= _layer(each.source)
    ]
    _none(broken)


@pytest.mark.parametrize("typing_only", [False, True], ids=["running", "types-too"])
def test_no_import_circle(typing_only: bool) -> None:
    kept = [each for each in imports() if typing_only or not each.typing_only]
    graph = {module: {each.target for each in kept if each.source == module} for module in MODULES}
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # each imports the one after it
    steps = [next(each for each in kept if (each.source, each.target) == step) for step in pairwise(circle)]
    _none([each.breaks("no import circle") for each in steps])


def test_no_dock_imports_another() -> None:
    broken = []
    for each in imports():
        source, target = _dock(each.source), _dock(each.target)
        if target in DOCKS - {source} and source:
            broken.append(each.breaks(f"{source} may import from shared and the core, not from the dock {target}"))
    _none(broken)


def _identifiers(node: ast.AST) -> Iterator[str]:
    """Names in code that a node uses; texts are none, except a module's name that is imported by it."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        for argument in node.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield from argument.value.split(".")


def test_the_core_names_no_viewer() -> None:
    broken = []
    for module in MODULES:
        if _room(module) == "_napari":
            continue
        for node, _ in _statements(_tree(module)):
            names = list(_identifiers(node))
            for name in _imported(module, node):
                names += name.split(".")
            for name in (VIEWER | {"_napari"}) & set(names):
                line = node.lineno  # type: ignore[attr-defined]
                broken.append(f"{_shown(module)}:{line}: the core must not name {name}: move this into _napari")
    _none(broken)


def test_importing_the_core_loads_no_viewer() -> None:
    names = [f"{PACKAGE}.{module}".rstrip(".") for module in MODULES if _room(module) != "_napari"]
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    loaded = {{each.partition(".")[0] for each in sys.modules}} & {set(VIEWER)!r}
    if loaded:
        sys.exit(f"importing {{name}} loads {{', '.join(sorted(loaded))}}: the core must do without")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    _none([done.stderr] if done.returncode else [])


def test_durations_are_measured_by_clocks_that_never_jump() -> None:
    """A computer sets its time of day by the network, and twice a year: time left and budgets depend on none of it."""
    _none(
        [
            f"{_shown(module)}:{node.lineno} asks for the time of day: use time.monotonic or time.perf_counter"
            for module in MODULES
            for node in ast.walk(_tree(module))
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.time"
        ]
    )


def _functions(module: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and number of lines of every function."""
    for node, _ in _statements(_tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_and_functions_are_short() -> None:
    broken, long = [], set()
    for module, path in MODULES.items():
        key = path.relative_to(ROOT).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        parts = [(key, "module", 1, lines, MAX_MODULE_LINES)]
        parts += [
            (f"{key}:{name}", f"function {name}", first, count, MAX_FUNCTION_LINES)
            for name, first, count in _functions(module)
        ]
        for key, words, first, count, limit in parts:
            if count > limit:
                long.add(key)
                if count > TOO_LONG.get(key, limit):
                    broken.append(f"{_shown(module)}:{first}: {words} has {count} lines, more than {limit}: divide it")
    broken += [f"{_HERE}: TOO_LONG names {key}, which is short now: remove it" for key in TOO_LONG.keys() - long]
    _none(broken)
