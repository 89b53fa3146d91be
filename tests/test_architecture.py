"""The journeys of ARCHITECTURE.md go through files that are there, each once but where the text says so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "anydose"


def journeys() -> dict[str, str]:
    """Title -> text of each journey."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.partition("\n## Six journeys\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### (.*)$", section, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_are_six():
    assert len(journeys()) == 6


@pytest.mark.parametrize("title", journeys())
def test_a_journey_s_files_are_there_and_come_once(title):
    passed: set[str] = set()
    for file, then in re.findall(r"`([\w/]+\.py)`([^`]{0,20})", journeys()[title]):
        assert (PACKAGE / file).is_file(), file
        assert file not in passed or then.startswith(" again, by plan"), f"{file} twice"
        passed.add(file)
    assert len(passed) >= 2


def test_every_file_that_the_text_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for file in re.findall(r"`([\w/]+\.py)`", text):
        places = (PACKAGE / file, ROOT / file)
        assert any(place.is_file() for place in places), file
