"""Each check passes on equal figures and fails on the nearest unequal ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_parts import make_work

from sftlib.bench.honesty import Outcome, faults_of_check, faults_of_outcome, faults_of_run

CHECKED = {"rows": 4, "supervised": 40, "loss": 2.5009}
RAN = {"rows": 10, "supervised": 100}


def test_what_is_equal_has_no_faults(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    assert faults_of_check(work, CHECKED) == []
    assert faults_of_run(work, RAN) == []
    assert faults_of_outcome(work, Outcome(500, 2.009), Outcome(500, 2.0)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": 3}, "rows of the first batch: 3, 4 expected"),
        ({"supervised": 41}, "supervised tokens of the first batch: 41, 40 expected"),
        ({"loss": 2.5011}, "its loss of the first batch is 2.5011, ours 2.5000"),
        ({"loss": 2.4989}, "its loss of the first batch is 2.4989, ours 2.5000"),
        ({"loss": float("nan")}, "its loss of the first batch is nan, ours 2.5000"),
    ],
)
def test_another_first_batch_is_a_fault(tmp_path: Path, changed: dict, said: str) -> None:
    assert faults_of_check(make_work(tmp_path), CHECKED | changed) == [said]


def test_a_report_that_says_nothing_is_a_fault(tmp_path: Path) -> None:
    assert len(faults_of_check(make_work(tmp_path), {})) == 3
    assert len(faults_of_run(make_work(tmp_path), {})) == 2


def test_a_batch_larger_than_the_rows_is_all_of_them(tmp_path: Path) -> None:
    assert faults_of_check(make_work(tmp_path, batch=16), CHECKED | {"rows": 10}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"rows": 9}, "rows: 9, 10 expected"), ({"supervised": 99}, "supervised tokens an epoch: 99, 100 expected")],
)
def test_other_rows_are_a_fault(tmp_path: Path, changed: dict, said: str) -> None:
    assert faults_of_run(make_work(tmp_path), RAN | changed) == [said]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (Outcome(500, 2.0), Outcome(499, 2.0), "weights of the adapter: 499, 500 expected"),
        (Outcome(500, 2.0), Outcome(500, 3.0), "it learned nothing: 3.0000 on unseen rows, 3.0000 before"),
        (Outcome(500, 2.011), Outcome(500, 2.0), "ours is worse on unseen rows: 2.0110, its 2.0000"),
        (Outcome(500, float("nan")), Outcome(500, 2.0), "ours is worse on unseen rows: nan, its 2.0000"),
    ],
)
def test_an_outcome_that_is_none_is_a_fault(tmp_path: Path, ours: Outcome, theirs: Outcome, said: str) -> None:
    assert faults_of_outcome(make_work(tmp_path), ours, theirs) == [said]
