"""The blocklist: the rows it lists, by path, name or end of a path, and no others."""

from __future__ import annotations

import pytest

from sftlib.chat.blocklist import Blocklist, add_to_blocklist
from sftlib.errors import DataError


def blocklist(tmp_path, text: str) -> Blocklist:
    (tmp_path / "blocked.txt").write_text(text, encoding="utf-8")
    return Blocklist.read(tmp_path / "blocked.txt")


@pytest.mark.parametrize(
    ("entry", "source", "has"),
    [
        ("data/raw/faq.jsonl:17", "data/raw/faq.jsonl:17", True),
        ("faq.jsonl:17", "data/raw/faq.jsonl:17", True),
        ("raw/faq.jsonl:17", "data/raw/faq.jsonl:17", True),
        ("./faq.jsonl:17", "faq.jsonl:17", True),
        ("faq.jsonl:17#2", "data/raw/faq.jsonl:17", True),
        ("faq.jsonl:17   # spike at step 40", "data/raw/faq.jsonl:17", True),
        ("hf:org/name:train:17", "hf:org/name:train:17", True),
        ("faq.jsonl:17", "data/raw/faq.jsonl:117", False),
        ("faq.jsonl:17", "data/raw/faq.jsonl:1", False),
        ("faq.jsonl:17", "data/raw/myfaq.jsonl:17", False),
        ("old/faq.jsonl:17", "data/raw/faq.jsonl:17", False),
        ("old/raw/faq.jsonl:17", "raw/faq.jsonl:17", False),
        ("# faq.jsonl:17", "faq.jsonl:17", False),
    ],
)
def test_which_rows(tmp_path, entry, source, has):
    assert blocklist(tmp_path, f"# comment\n\n{entry}\n").has(source) == has


def test_entries_that_meet_no_row_are_told(tmp_path):
    found = blocklist(tmp_path, "a.jsonl:1\nb.jsonl:2\na.jsonl:3\n")
    assert found.has("raw/a.jsonl:3")
    assert not found.has("raw/a.jsonl:2")
    assert found.unmet() == ["a.jsonl:1", "b.jsonl:2"]


def test_what_is_no_source(tmp_path):
    with pytest.raises(DataError, match="no source of a row") as caught:
        blocklist(tmp_path, "faq.jsonl:1\nfaq.jsonl\n")
    assert caught.value.where.endswith("blocked.txt:2")


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="no such blocklist"):
        Blocklist.read(tmp_path / "nowhere.txt")


A, B = "data/raw/faq.jsonl:17", "data/raw/faq.jsonl:4"


def test_each_source_that_is_added_has_its_reason_before_it(tmp_path):
    path = tmp_path / "data" / "blocklist.txt"
    assert add_to_blocklist(path, {A: "loss 7.4 a token,\n usual are 1.2", B: "named by hand"}) == [A, B]
    assert path.read_text() == f"# loss 7.4 a token, usual are 1.2\n{A}\n# named by hand\n{B}\n"
    assert all(Blocklist.read(path).has(source) for source in (A, B))


def test_no_row_is_added_twice_and_no_line_is_lost(tmp_path):
    path = tmp_path / "blocklist.txt"
    path.write_text("# mine\n  faq.jsonl:17  # by its name\nother.jsonl:1")  # without a line end
    assert add_to_blocklist(path, {A: "again", B: "new"}) == [B]
    assert add_to_blocklist(path, {A: "again", B: "again"}) == []
    assert path.read_text() == f"# mine\n  faq.jsonl:17  # by its name\nother.jsonl:1\n# new\n{B}\n"


def test_of_nothing_new_there_is_no_file(tmp_path):
    assert add_to_blocklist(tmp_path / "blocklist.txt", {}) == []
    assert add_to_blocklist(tmp_path / "blocklist.txt", {"somebody's own name": "why"}) == []
    assert list(tmp_path.iterdir()) == []
