"""The import rule of ARCHITECTURE.md, read from the source: arrows point down, along the table alone."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "anydose"
SOURCES = sorted(PACKAGE.rglob("*.py"))

TABLE_ROW = re.compile(r"^\| \d \| (?P<rooms>[^|]+) \| [^|]+ \| (?P<allowed>[^|]+) \|$", re.MULTILINE)


def allowed_imports() -> dict[str, set[str]]:
    """Room -> the rooms it may import, read from the table in ARCHITECTURE.md; 'all' is every room."""
    rows = TABLE_ROW.findall((REPOSITORY / "ARCHITECTURE.md").read_text())
    rooms = {room: allowed for names, allowed in rows for room in re.findall(r"`([\w.]+)/?`", names)}
    assert len(rooms) > 10, "ARCHITECTURE.md: the table of rooms was not found"
    return {
        room: set(rooms) if allowed.strip() == "all" else set(re.findall(r"`([\w.]+)/?`", allowed))
        for room, allowed in rooms.items()
    }


ALLOWED = allowed_imports()
WITHOUT_TORCH = ("case", "score", "io")
HEAVY = {"torch", "einops", "safetensors", "diffusers", "monai", "transformers", "torchvision"}
ORACLES = {"SimpleITK", "highdicom", "rt_utils", "pymedphys", "skimage", "pytest", "hypothesis"}
FOREIGN = {
    "diffusers": {"model/codec/wan.py"},
    "monai": {"model/network/maisi.py", "model/codec/maisi.py", "model/network/baselines.py"},
}
FRONT_DOOR = {"anydose.__version__", "anydose.save"}  # what `result.save(folder)` opens lies above the result
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "misc"}


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module that a file of the package imports anywhere in it, by its absolute dotted name."""
    return set(imports(path.read_text(), ("anydose", *path.relative_to(PACKAGE).parent.parts)))


def imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, allowed: str) -> bool:
    return module == allowed or module.startswith(allowed + ".")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = unit_of(path)
    if room == "__init__":
        return
    assert room in ALLOWED, f"{room} has no row in ARCHITECTURE.md's table of rooms"
    for name in imported(path):
        if not within(name, "anydose") or name in FRONT_DOOR:
            continue
        ours = name.removeprefix("anydose").removeprefix(".")
        assert any(within(ours, u) for u in ({room} | ALLOWED[room])), f"{path.name} imports {name}"


def test_rooms_have_no_circle() -> None:
    """graphlib raises CycleError, which names the circle."""
    lower = {room: {a.split(".")[0] for a in allowed} - {room} for room, allowed in ALLOWED.items()}
    TopologicalSorter(lower).prepare()


def test_files_have_no_circle() -> None:
    """No file imports, at its top or inside a function, a file that leads back to it."""
    modules = {module_of(path): path for path in SOURCES}
    graph = {module: files_behind(path, modules) - {module} for module, path in modules.items()}
    TopologicalSorter(graph).prepare()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def files_behind(path: Path, modules: dict[str, Path]) -> set[str]:
    """The package's files that the imports of `path` name: a module, or the module that holds a name."""
    found = {name if name in modules else name.rpartition(".")[0] for name in imported(path)}
    return found & modules.keys()


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if unit_of(p) in WITHOUT_TORCH], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_converting_and_scoring_never_import_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & HEAVY


def test_oracles_stay_in_the_tests_and_foreign_networks_in_their_file() -> None:
    for path in SOURCES:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & ORACLES, f"{path} imports an oracle of the tests"
        assert all(str(path.relative_to(PACKAGE)) in FOREIGN[root] for root in roots & FOREIGN.keys()), path


def test_every_way_to_write_an_import_is_seen() -> None:
    source = """
def f():
    import anydose.io.nifti as n
    from . import grid
    from ..score import dvh
    from anydose import predict
"""
    found = set(imports(source, ("anydose", "case")))
    assert found == {"anydose.io.nifti", "anydose.case.grid", "anydose.score.dvh", "anydose.predict"}


def test_every_module_has_a_name_of_its_own() -> None:
    for path in SOURCES:
        parts = {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}
        assert not parts & NAMELESS, f"{path}: a helper lives with its owner"


def test_no_file_is_longer_than_350_lines() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_torchvision_is_neither_installed_nor_asked_for() -> None:
    """PyPI's torchvision beside this torch fails on import and takes other packages down with it."""
    assert "torchvision" not in {d.metadata["Name"].lower() for d in distributions()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    pulls_it_in = ("torchvision", "lpips", "timm", "open_clip", "open-clip", "portpy")
    assert not [w for w in wanted if w.lower().startswith(pulls_it_in) or "[image]" in w]
