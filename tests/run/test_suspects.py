"""Rows that are called corrupt, with the reason; sound ones are not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sftlib.files import json_line
from sftlib.run.folder import RunFolder
from sftlib.run.suspects import rows_of_run, suspects


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path, "first")
    run.path.mkdir()
    return run


def write_steps(run: RunFolder, bad: dict[str, float]) -> None:
    """Three passes over 60 rows with losses around 1.5 and the bad ones, four rows a step."""
    draw = random.Random(0)
    rows = [(f"a:{n}", draw.gauss(1.5, 0.3), draw.randrange(4, 60)) for n in range(60)]
    rows += [(source, loss, 24) for source, loss in bad.items()]
    lines, step = [], 0
    for _ in range(3):
        draw.shuffle(rows)
        for at in range(0, len(rows), 4):
            step += 1
            seen = rows[at : at + 4]
            loss = sum(nll * tokens for _, nll, tokens in seen) / sum(tokens for *_, tokens in seen)
            lines.append(json_line({"step": step, "loss": loss, "grad_norm": 1.0, "rows": [list(r) for r in seen]}))
    run.seen.write_text("".join(lines))


def test_rows_far_above_all_others_stand_out_without_a_spike(run: RunFolder) -> None:
    write_steps(run, {"bad:1": 6.5, "bad:2": 5.5})
    rows, limit = rows_of_run(run)
    assert [row.source for row in rows if row.excess > limit] == ["bad:1", "bad:2"]
    found = suspects(run)
    assert list(found) == ["bad:1", "bad:2"]
    assert found["bad:1"].startswith("loss 6.5 a token, usual are 1.")
    assert found["bad:1"].endswith(", seen 3 times in the run first")


def test_among_sound_rows_none_stands_out(run: RunFolder) -> None:
    write_steps(run, {})
    assert suspects(run) == {}


def test_where_all_are_alike_a_little_more_is_no_outlier(run: RunFolder) -> None:
    rows = [[f"a:{n}", 1.5 if n == 8 else 1.0, 90] for n in range(9)]
    line = {"step": 1, "loss": 1.0, "grad_norm": 1.0, "rows": rows}
    run.seen.write_text(json_line(line))
    assert suspects(run) == {}


def test_what_a_spike_blames_is_named_with_its_step(run: RunFolder) -> None:
    run.seen.write_text("")
    rows = [{"source": "a:1", "loss": 7.42, "tokens": 9, "blamed": True, "text": "x"}]
    rows += [{"source": "a:2", "loss": 1.0, "tokens": 9, "blamed": False, "text": "y"}]
    above = {"loss": {"value": 3.1, "usual": 1.21, "limit": 1.8}}
    run.spikes.write_text(json_line({"step": 37, "above": above, "rows": rows}))
    assert suspects(run) == {"a:1": "loss 7.42 a token, usual are 1.21, in step 37 of the run first"}


def test_a_run_that_saw_nothing_has_no_rows(run: RunFolder) -> None:
    assert rows_of_run(run)[0] == []
    assert suspects(run) == {}
