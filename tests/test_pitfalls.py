"""docs/PITFALLS.md: every promise has a test, and every test that is named there exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "PITFALLS.md").read_text(encoding="utf-8")
HEADINGS = [  # of the page with the promises, which is no part of this repository
    "It must start as documented", "The config is the truth", "What is trained", "It stops", "Memory", "Data",
    "Truncation", "Resume", "Numbers", "Adapters", "Merge", "Caches", "Offline and versions", "Backends", "Inference",
]  # fmt: skip


def rows_of(page: str) -> dict[str, str]:
    """Promise -> what is said to show it."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", page, re.M)
    return {promise: shown for promise, shown in rows if promise not in ("Promise", "---")}


@functools.cache
def names_in(file: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


ROWS = rows_of(PAGE)


def test_every_section_has_rows() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.M) == HEADINGS
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        assert rows_of(section), section.splitlines()[0]
    assert len(ROWS) == len(re.findall(r"^\| (?!Promise |---)", PAGE, re.M)), "a promise stands there twice"


@pytest.mark.parametrize("promise", list(ROWS))
def test_a_promise_has_tests_and_they_exist(promise: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", ROWS[promise])
    assert named, "no test shows it"
    assert re.sub(r"`[\w/]+\.py::test_\w+`|, ", "", ROWS[promise]) == ""
    for file, name in named:
        assert (TESTS / file).is_file(), file
        assert name in names_in(TESTS / file), f"{file}::{name}"
