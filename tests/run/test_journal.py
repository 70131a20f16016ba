"""Lines with steps: a torn one is passed over, and none is there twice after a resume."""

from __future__ import annotations

import json
from pathlib import Path

from sftlib.run.journal import cut_back, entries


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    whole = [{"step": 1, "text": "é"}, {"step": 2, "text": "漢"}]
    lines = [json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in whole]
    for cut in range(len(lines[1])):
        path.write_bytes(lines[0] + lines[1][:cut])
        assert list(entries(path)) == whole[:1], cut
    path.write_bytes(b"".join(lines))
    assert list(entries(path)) == whole


def test_it_is_cut_back_to_a_step_and_keeps_its_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    path.write_text('{"step":1}\n{"step": 2}\n{"step":  3}\n{"st')
    cut_back(path, 2)
    assert path.read_text() == '{"step":1}\n{"step": 2}\n'
    cut_back(path, 0)
    assert path.read_text() == ""


def test_where_there_is_no_file_none_is_made(tmp_path: Path) -> None:
    cut_back(tmp_path / "spikes.jsonl", 0)
    assert list(entries(tmp_path / "spikes.jsonl")) == []
    assert list(tmp_path.iterdir()) == []
