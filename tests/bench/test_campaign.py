"""Everyone is checked first, then all train in turn; who drops out is named and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

from bench_parts import make_ours, make_peer, make_work

from sftlib.bench.campaign import campaign, take_outcomes, write_adapters


def diary(folder: Path) -> list[str]:
    return (folder / "diary.txt").read_text().splitlines()


def test_runs_alternate_after_the_checks(tmp_path: Path) -> None:
    peers = [make_peer(tmp_path, name) for name in ("a", "b")]
    standings = campaign(make_work(tmp_path), peers, 2, tmp_path)
    assert diary(tmp_path) == ["a check", "b check", "a run", "b run", "a run", "b run"]
    assert [len(one.runs) for one in standings.values()] == [2, 2]
    assert standings["b"].found == {"first_loss": 2.5}
    assert all(one.is_in for one in standings.values())


def test_who_cannot_run_or_is_no_comparison_is_left_out_and_named(tmp_path: Path, capsys) -> None:
    peers = [
        make_peer(tmp_path, "a", fails=True),
        make_peer(tmp_path, "b", report={"loss": 2.6}),
        make_peer(tmp_path, "c", report={"rows": 4}),  # right in the check, wrong in the run
        make_peer(tmp_path, "d"),
    ]
    standings = campaign(make_work(tmp_path), peers, 2, tmp_path)
    assert diary(tmp_path) == ["a check", "b check", "c check", "d check", "c run", "d run", "d run"]
    assert standings["a"].error.startswith("ImportError: no kernels here")
    assert standings["b"].faults == ["its loss of the first batch is 2.6000, ours 2.5000"]
    assert standings["c"].faults == ["rows: 4, 10 expected"]
    assert [len(one.runs) for one in standings.values()] == [0, 0, 0, 2]
    said = capsys.readouterr().err
    for words in ("a cannot run here: ImportError", "b is no comparison: its loss", "c is no comparison: rows: 4"):
        assert f"warning: {words}" in said


def test_the_outcomes_are_compared_with_ours(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    standings = campaign(work, [make_ours(tmp_path), *(make_peer(tmp_path, name) for name in "ab")], 1, tmp_path)
    assert standings["sft-play"].found == {"first_loss": 2.5}  # it is what the others are checked against
    write_adapters(standings, tmp_path)
    assert json.loads((tmp_path / "adapters.json").read_text()) == {
        "sft-play": str(tmp_path / "round-1" / "sft-play" / "run" / "adapter"), "a": "at/a", "b": "at/b",
    }  # fmt: skip
    outcomes = {"sft-play": [500, 2.0], "a": [500, 2.1], "b": [500, 1.9]}
    found = {name: {"trainable": n, "unseen_loss": loss} for name, (n, loss) in outcomes.items()}
    (tmp_path / "outcomes.json").write_text(json.dumps(found))
    take_outcomes(standings, work)
    assert standings["a"].found == {"first_loss": 2.5, "trainable": 500, "unseen_loss": 2.1}
    assert [one.faults for one in standings.values()] == [
        [], [], ["ours is worse on unseen rows: 2.0000, its 1.9000"]
    ]  # fmt: skip
