"""Raw files of growing size hold what they say, and a run counts what it prepared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_project import make_project, rows_of

from sftlib.bench.campaign import campaign
from sftlib.bench.large import Large
from sftlib.bench.plan import Plan
from sftlib.bench.workloads import read_work
from sftlib.build_bench_rows import prepare_large
from sftlib.config.loader import load_config


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Large:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    (made,) = prepare_large(load_config("config.yaml"), Plan("large", ["raw"], rows=120), tmp_path / "bench")
    return made


def test_the_files_hold_their_rows_and_no_row_twice(work: Large) -> None:
    assert work.sizes == [1, 12, 120]
    for size in work.sizes:
        rows = rows_of(Path(work.folder) / f"rows-{size}.jsonl")
        assert (len(rows), len({row["user"] for row in rows})) == (size, size)
        config = load_config(Path(work.folder) / f"rows-{size}.yaml")
        assert (config.data.raw_path, config.data.processed_dir) == (
            f"{work.folder}/rows-{size}.jsonl",
            "data/processed",
        )


def test_a_run_is_the_whole_of_make_prepare_and_its_second_start_does_nothing(work: Large, tmp_path: Path) -> None:
    work.write()
    assert read_work(Path(work.folder)) == work
    (entrant,) = work.entrants()[-1:]
    (ran,) = campaign(work, [entrant], 1, tmp_path / "runs")[entrant.name].runs
    assert (ran.report["rows"], work.faults_of_run(ran.report)) == (120, [])
    assert work.further(ran.report)["rows_per_second"] == 120 / ran.report["seconds"]
    assert 0 < ran.report["again"] < ran.report["seconds"]
    assert work.faults_of_run(ran.report | {"rows": 119}) == ["rows: 119, 120 expected"]
    broken = dataclasses.replace(entrant, arguments=["--config", "none.yaml"])
    assert "There is no config" in campaign(work, [broken], 1, tmp_path / "runs")[broken.name].error
