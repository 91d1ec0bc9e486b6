"""SECURITY.md: each test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text()
FILES = sorted(set(re.findall(r"`(?:tests/)?(test_\w+\.py)", PAGE)))
IN_FILES = sorted(set(re.findall(r"`(?:tests/)?(test_\w+\.py)::(test_\w+)`", PAGE)))
NAMES = sorted(set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})…?`", PAGE)))
"""Tests that stand alone, with or without the word `test` before them."""


def names_in(*files: str) -> set[str]:
    sources = [(ROOT / "tests" / file).read_text() for file in files]
    return set(re.findall(r"def (test_\w+)\(", "\n".join(sources)))


def test_it_names_tests() -> None:
    assert len(FILES) > 15 and len(IN_FILES) > 5 and len(NAMES) > 15


@pytest.mark.parametrize("file", FILES)
def test_the_file_is_there(file: str) -> None:
    assert (ROOT / "tests" / file).is_file()


@pytest.mark.parametrize(("file", "name"), IN_FILES)
def test_the_test_is_in_its_file(file: str, name: str) -> None:
    assert name in names_in(file)


@pytest.mark.parametrize("name", NAMES)
def test_the_test_is_there(name: str) -> None:
    known = names_in(*FILES)
    assert name in known or f"test_{name}" in known
