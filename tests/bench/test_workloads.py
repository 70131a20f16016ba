"""What is written down is read back as the same kind; each workload has a preparer, and its table a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_parts import make_work

from sftlib import build_bench
from sftlib.bench import workloads
from sftlib.bench.plan import Plan
from sftlib.bench.preparation import Preparation
from sftlib.bench.starting import Starting
from sftlib.files import sha256_file, write_json


def test_comparisons_are_read_back_in_their_order(tmp_path: Path) -> None:
    works = [
        Starting(folder=str(tmp_path / "b"), device="d", model="m", rows=3),
        make_work(tmp_path / "a"),
        Preparation(folder=str(tmp_path / "c"), label="l", device="d", model="m", max_length=64, counts=[{"rows": 5}]),
    ]
    for work in works:
        work.write()
    write_json(tmp_path / "contests.json", [work.folder for work in works])
    assert workloads.read_contests(tmp_path) == works


def test_every_workload_can_be_prepared_and_every_job_of_ours_done() -> None:
    assert set(build_bench.PREPARERS) == set(workloads.WORKLOADS) == set(workloads.TITLES)
    assert set(build_bench.PERFORMERS) <= set(workloads.KINDS)


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (Plan("train"), "train"),
        (Plan("train", mode="qlora"), "train-qlora"),
        (Plan("train", ["data/sample"]), "train-sample"),
        (Plan("prepare", ["a/gsm8k_train.jsonl", "b.csv"]), "prepare-gsm8k_train-b"),
    ],
)
def test_a_table_is_named_after_what_is_not_usual(plan: Plan, name: str) -> None:
    assert workloads.table_name(plan) == name


def test_rows_of_the_package_are_the_usual_ones_wherever_they_lie(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "faq.jsonl"
    path.write_text("rows")
    assert workloads.table_name(Plan("train", [str(path)])) == "train-faq"
    monkeypatch.setattr(workloads, "FAQ_SHA256", sha256_file(path))
    assert workloads.table_name(Plan("train", [str(path)])) == "train"
