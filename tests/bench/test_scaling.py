"""Three sizes of our own training: half of the rows, all of them, and half of them twice as long."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import make_project, rows_of

from sftlib.bench.plan import Plan
from sftlib.build_bench_training import prepare_sizes
from sftlib.config.loader import load_config
from sftlib.errors import DataError


def test_the_sizes_are_what_they_are_called(tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    work = prepare_sizes(load_config("config.yaml"), Plan("scaling", ["raw"], rows=8), tmp_path / "bench")
    few, many, long = (rows_of(tmp_path / "bench" / f"{name}.jsonl") for name in ("1x", "2x-rows", "2x-length"))
    assert many[:4] == few
    assert len(many) == len({row["user"] for row in many}) == 8
    assert [row["user"] for row in long] == [f"{row['user']}\n{row['user']}" for row in few]
    assert [one["rows"] for one in work.sizes.values()] == [4, 8, 4]
    assert work.sizes["2x-length"]["supervised"] > 1.5 * work.sizes["1x"]["supervised"]
    for entrant, name in zip(work.entrants(), ("1x", "2x-rows", "2x-length"), strict=True):
        config = load_config(entrant.command(work, tmp_path, check=False)[3])
        assert config.data.train_path == str(tmp_path / "bench" / f"{name}.jsonl")
        size = work.sizes[name]
        report = {"rows": size["rows"], "supervised": size["supervised"], "seconds": 2.0}
        assert work.faults_of_run(report) == []
        assert work.further(report) == {"tokens": size["tokens"], "tokens_per_second": size["tokens"] / 2}
    assert work.faults_of_run({"rows": 4, "supervised": 1}) == ["supervised tokens: 1, those of a size expected"]


def test_one_row_cannot_be_halved(tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", tiny_model))
    with pytest.raises(DataError, match="nothing to halve"):
        prepare_sizes(load_config("config.yaml"), Plan("scaling", ["raw"], rows=1), tmp_path / "bench")
