"""Commands of ours, timed from outside; one that fails is an error, and the first step is what a run recorded."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tiny_project import make_project, rows_of

from sftlib.bench.campaign import campaign
from sftlib.bench.plan import Plan
from sftlib.bench.starting import HELP_SECONDS, Starting
from sftlib.build_bench_training import prepare_starting
from sftlib.config.loader import load_config
from sftlib.files import ROOT


def make_starting(folder: Path) -> Starting:
    return Starting(folder=str(folder), device="a CPU", model="models/m", rows=3)


def test_every_script_is_there() -> None:
    names = [entrant.name for entrant in make_starting(Path("/f")).entrants()]
    assert names[-2:] == ["check", "train"]
    assert set(names[:-2]) == {f"help-{path.stem}" for path in (ROOT / "scripts").glob("*.py")}


def test_help_is_timed_and_a_failure_is_named(tmp_path: Path) -> None:
    work = make_starting(tmp_path)
    entrants = {entrant.name: entrant for entrant in work.entrants()}
    broken = dataclasses.replace(entrants["help-stop"], name="broken", arguments=["--no-such-option"])
    standings = campaign(work, [entrants["help-train"], broken], 1, tmp_path)
    (ran,) = standings["help-train"].runs
    assert 0 < ran.process_seconds < 10 * HELP_SECONDS
    assert standings["broken"].runs == []
    assert "unrecognized arguments" in standings["broken"].error


def test_the_first_step_is_the_last_record_of_a_run_of_one(tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    folder = tmp_path / "bench"
    (work,) = prepare_starting(load_config("config.yaml"), Plan("startup", ["raw"], rows=5), folder)
    train = work.entrants()[-1]
    command = train.command(work, folder / "round-1" / "train", check=False)
    config = load_config(folder / "config.yaml", command[command.index("--set") + 1 :])
    assert (config.run_name, config.train.max_steps, config.train.eval_strategy) == ("round-1", 1, "no")
    assert work.rows == len(rows_of(config.data.train_path)) == 5
    records = Path(config.train.output_dir) / "round-1" / "metrics.jsonl"
    records.parent.mkdir(parents=True)
    records.touch()
    os.utime(records, (1007.5, 1007.5))
    assert train.report(work, folder / "round-1" / "train", 1000.0)["until_step"] == 7.5
