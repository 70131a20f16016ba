"""Sources and reasons, each source once, whatever stood in the file before."""

from __future__ import annotations

from pathlib import Path

from sftlib.run.blocklist import add_to_blocklist

A, B = "data/raw/faq.jsonl:17", "data/raw/faq.jsonl:4"


def test_each_source_has_its_reason_before_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "blocklist.txt"
    assert add_to_blocklist(path, {A: "loss 7.4 a token,\n usual are 1.2", B: "named by hand"}) == [A, B]
    assert path.read_text() == f"# loss 7.4 a token, usual are 1.2\n{A}\n# named by hand\n{B}\n"


def test_no_line_is_doubled_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "blocklist.txt"
    path.write_text(f"# mine\n  {A} \nother.jsonl:1")  # without a line end
    assert add_to_blocklist(path, {A: "again", B: "new"}) == [B]
    assert add_to_blocklist(path, {A: "again", B: "again"}) == []
    assert path.read_text() == f"# mine\n  {A} \nother.jsonl:1\n# new\n{B}\n"


def test_of_nothing_there_is_no_file(tmp_path: Path) -> None:
    assert add_to_blocklist(tmp_path / "blocklist.txt", {}) == []
    assert list(tmp_path.iterdir()) == []
