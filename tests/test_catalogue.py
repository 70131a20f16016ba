"""Every code has an entry, is raised by the right kind of error, and is seen by a test; the page says what is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftlib import errors
from sftlib.errors import DataError, SftError
from sftlib.errors.catalogue import CATALOGUE, ENTRIES, KINDS, code_of, page

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"\bE[2-7]\d\d\b")


def raised() -> Iterator[tuple[str, str, str]]:
    """(kind of error, code, file) of every error that is made with a code."""
    for path in (ROOT / "scripts").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                for given in call.keywords:
                    if given.arg == "code" and isinstance(given.value, ast.Constant):
                        yield ast.unparse(call.func), given.value.value, str(path.relative_to(ROOT))


def test_codes_are_unique_and_tell_the_kind() -> None:
    assert len(CATALOGUE) == len(ENTRIES)
    assert list(CATALOGUE) == sorted(CATALOGUE)
    for entry in ENTRIES:
        assert CODE.fullmatch(entry.code)
        assert entry.exit_code in KINDS
        assert all(text.endswith(".") or "make " in text or "CUDA" in text for text in (entry.cause, entry.cure))


def test_every_code_is_raised_by_an_error_of_its_kind() -> None:
    found = list(raised())
    for kind, code, path in found:
        assert getattr(errors, kind).exit_code == CATALOGUE[code].exit_code, (path, code)
    assert {code for _, code, _ in found} == {code for code in CATALOGUE if not code.endswith("00")}


def test_every_code_is_seen_by_a_test() -> None:
    others = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
    seen = {code for path in others for code in CODE.findall(path.read_text(encoding="utf-8"))}
    assert set(CATALOGUE) - seen == set()


def test_every_kind_is_in_the_page() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, SftError):
            assert name in KINDS[kind.exit_code][0]
    assert all(f"### {code}: " in page() for code in CATALOGUE)


def test_a_code_that_nobody_knows_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="E999"):
        DataError("It is wrong.", code="E999")


def test_a_code_is_shown_with_where_it_is_explained() -> None:
    assert str(DataError("It is wrong.", code="E303")).splitlines()[-1] == "Code:     E303, see docs/ERRORS.md"
    assert code_of(DataError("It is wrong.", code="E303")) == "E303"
