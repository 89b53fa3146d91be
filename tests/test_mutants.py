"""The list of wrong changes speaks of the code as it is: `make mutants` runs it, this only reads it."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch):
    """tools/mutants.py, which belongs to no package."""
    monkeypatch.syspath_prepend(TOOLS)
    yield __import__("mutants")
    sys.modules.pop("mutants")


def test_every_mutant_changes_one_place_and_its_tests_are_there(tool):
    listed = tool.mutants(tool.LIST)
    assert len(listed) >= 150
    assert [mutant for mutant in listed if tool.is_stale(mutant)] == []
    assert all((tool.REPOSITORY / test).is_file() for mutant in listed for test in mutant.tests)
    assert len({tool.digest(mutant) for mutant in listed}) == len(listed), "one stands there twice"
