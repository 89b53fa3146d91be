"""The import rule of ARCHITECTURE.md, read from the source: arrows point down, along the table alone."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "anydose"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# unit -> what of ours it may import (a module means that module alone); itself is always allowed
ALLOWED: dict[str, set[str]] = {
    "case": set(),
    "diffusion": set(),
    "score": {"case"},
    "io": {"case"},
    "model": {"case", "diffusion"},
    "train": {"model", "diffusion", "score", "io.store", "case"},
    "predict": {"model", "diffusion", "score", "io", "case"},
    "evaluate": {"predict", "model", "io", "score", "case"},
    "ablation": {"evaluate", "train", "predict", "model", "io"},
    "transfer": {"transfer_page", "evaluate", "train", "predict", "model", "io", "case"},
    "transfer_page": set(),
    "complete": {"deliver", "predict", "model", "io", "score", "case"},
    "bench_model": {"complete", "predict", "model", "io", "score", "case"},
    "bench_trust": {"deliver", "predict", "model", "io", "score", "case"},
    "bench_io": {"io", "case"},
    "bench": {
        "bench_io",
        "bench_model",
        "bench_scard",
        "bench_score",
        "bench_trust",
        "predict",
        "model",
        "io",
        "score",
        "case",
    },
    "bench_score": {"io", "score", "case"},
    "bench_scard": {"train", "predict", "model", "diffusion", "io", "score", "case"},
    "deliver": {"predict", "model", "io", "score", "case"},
    "card": {"model", "io"},
    "chart": set(),
    "simulate": {"simulate_draw", "io", "case"},
    "simulate_draw": {"case"},
    "planner": set(),  # runs in the planner's own Python
    "serve": {"predict", "io", "score", "case"},
}
TOP = ("cli", "cli_prior", "recipes", "__init__", "__main__")  # may use everything
WITHOUT_TORCH = ("case", "score", "io")
HEAVY = {"torch", "einops", "safetensors", "diffusers", "monai", "transformers", "torchvision"}
ORACLES = {"SimpleITK", "highdicom", "rt_utils", "pymedphys", "skimage", "pytest", "hypothesis"}
FOREIGN = {"diffusers": {"wan_codec.py"}, "monai": {"maisi.py", "maisi_codec.py", "baselines.py"}}
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
    unit = unit_of(path)
    if unit in TOP or unit.startswith("cli_"):
        return
    assert unit in ALLOWED, f"{unit} has no row in the import rule: give it one here and in ARCHITECTURE.md"
    for name in imported(path):
        if not within(name, "anydose") or name == "anydose.__version__":
            continue
        ours = name.removeprefix("anydose").removeprefix(".")
        assert any(within(ours, u) for u in ({unit} | ALLOWED[unit])), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if unit_of(p) in WITHOUT_TORCH], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_converting_and_scoring_never_import_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & HEAVY


def test_oracles_stay_in_the_tests_and_foreign_networks_in_their_file() -> None:
    for path in SOURCES:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & ORACLES, f"{path} imports an oracle of the tests"
        assert all(path.name in FOREIGN[root] for root in roots & FOREIGN.keys()), path


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
