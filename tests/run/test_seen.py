"""Rows compared by their losses: with their steps, and counted down where they have few tokens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sftlib.errors import ModelError
from sftlib.files import json_line
from sftlib.run.folder import RunFolder
from sftlib.run.seen import SeenRow, SeenStep, excess, find_seen, read_seen, rows_by_excess, times_seen, worst_first


def step(number: int, *rows: tuple[str, float | None, int], loss: float | None = 1.0) -> SeenStep:
    return SeenStep(number, loss, 0.5, tuple(SeenRow(*row) for row in rows))


def test_a_line_and_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r")
    run.path.mkdir()
    steps = [step(1, ("a:1", 2.0, 3)), SeenStep(2, None, None, (SeenRow("b:2", None, 4),))]
    run.seen.write_text("".join(json_line(one.to_dict()) for one in steps))
    assert (
        run.seen.read_text().splitlines()[0] == '{"step": 1, "loss": 1.0, "grad_norm": 0.5, "rows": [["a:1", 2.0, 3]]}'
    )
    assert list(read_seen(run)) == steps


def test_a_mean_over_few_tokens_says_little() -> None:
    # (loss - 1) x tokens / (tokens + 8)
    assert excess(SeenRow("short", 6.0, 2), 1.0) == pytest.approx(1.0)
    assert excess(SeenRow("corrupt", 6.0, 24), 1.0) == pytest.approx(3.75)
    assert excess(SeenRow("hard", 2.0, 792), 1.0) == pytest.approx(0.99)
    rows = [SeenRow("hard", 2.0, 792), SeenRow("short", 6.0, 2), SeenRow("lost", None, 5), SeenRow("corrupt", 6.0, 24)]
    assert [row.source for row in worst_first(rows, 1.0)] == ["lost", "corrupt", "short", "hard"]


def test_the_times_that_a_row_was_seen() -> None:
    steps = [
        step(1, ("a:1", 3.0, 8), ("a:2", 1.0, 8), loss=2.0),
        step(2, ("a:3", 1.0, 8)),
        step(3, ("a:2", 0.5, 8), ("a:4", 0.4, 8), ("a:1", 0.2, 8), loss=0.4),
    ]
    sights, count = times_seen(steps, lambda source: source == "a:1")
    assert count == 3
    assert [(s.step, s.row.loss, s.loss, s.place, s.rows) for s in sights] == [(1, 3.0, 2.0, 1, 2), (3, 0.2, 0.4, 3, 3)]
    assert times_seen(steps, lambda source: False) == ([], 3)
    assert times_seen([], lambda source: True) == ([], 0)


def test_rows_of_a_run_are_compared_with_the_steps_around_them() -> None:
    """Seen early, when every loss is high, is no fault of a row."""
    early = [step(n, (f"early:{n}", 6.0, 40), loss=6.0) for n in range(1, 4)]
    late = [step(n, (f"late:{n}", 1.0, 40), loss=1.0) for n in range(4, 40)]
    bad = [step(40, ("bad:1", 5.0, 40), loss=1.0), step(41, ("bad:1", 4.0, 40), loss=1.0)]
    found = rows_by_excess([*early, *late, *bad])
    assert (found[0].source, found[1].excess) == ("bad:1", 0.0)
    assert (found[0].times, found[0].tokens, found[0].loss, found[0].usual) == (2, 40, 4.5, 1.0)
    assert found[0].excess == pytest.approx(3.5 * 40 / 48)
    assert len(found) == 40


def test_a_loss_that_is_not_finite_makes_a_row_the_worst() -> None:
    found = rows_by_excess([step(1, ("a:1", 9.0, 40), ("a:2", None, 1), loss=None)])
    assert [row.source for row in found] == ["a:2", "a:1"]
    assert found[0].loss == math.inf


def test_the_run_that_trained_last(tmp_path: Path) -> None:
    import os

    assert find_seen(tmp_path) is None
    for age, name in enumerate(["new", "old"]):
        run = RunFolder(tmp_path, name)
        run.path.mkdir()
        run.seen.write_text("")
        os.utime(run.seen, (1000 - age, 1000 - age))
    assert find_seen(tmp_path).name == "new"
    assert find_seen(tmp_path, "old").name == "old"
    with pytest.raises(ModelError, match="The run other has no losses of rows") as caught:
        find_seen(tmp_path, "other")
    assert caught.value.expected == "one of: new, old"
