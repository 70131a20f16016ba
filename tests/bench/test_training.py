"""What everyone is told; and each check passes on equal figures and fails on the nearest unequal ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench_parts import make_work

from sftlib.bench.training import PACK
from sftlib.bench.workloads import read_work

CHECKED = {"rows": 4, "supervised": 40, "loss": 2.5009}
RAN = {"rows": 10, "supervised": 100}


def outcome(trainable: int, unseen_loss: float) -> dict[str, Any]:
    return {"trainable": trainable, "unseen_loss": unseen_loss}


def test_what_is_equal_has_no_faults(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    assert work.faults_of_check(CHECKED) == []
    assert work.faults_of_run(RAN) == []
    assert work.faults_of_outcome(outcome(500, 2.009), outcome(500, 2.0)) == []


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
    assert make_work(tmp_path).faults_of_check(CHECKED | changed) == [said]


def test_a_report_that_says_nothing_is_a_fault(tmp_path: Path) -> None:
    assert len(make_work(tmp_path).faults_of_check({})) == 3
    assert len(make_work(tmp_path).faults_of_run({})) == 2


def test_a_batch_larger_than_the_rows_is_all_of_them(tmp_path: Path) -> None:
    assert make_work(tmp_path, batch=16).faults_of_check(CHECKED | {"rows": 10}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"rows": 9}, "rows: 9, 10 expected"), ({"supervised": 99}, "supervised tokens an epoch: 99, 100 expected")],
)
def test_other_rows_are_a_fault(tmp_path: Path, changed: dict, said: str) -> None:
    assert make_work(tmp_path).faults_of_run(RAN | changed) == [said]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (outcome(500, 2.0), outcome(499, 2.0), "weights of the adapter: 499, 500 expected"),
        (outcome(500, 2.0), outcome(500, 3.0), "it learned nothing: 3.0000 on unseen rows, 3.0000 before"),
        (outcome(500, 2.011), outcome(500, 2.0), "ours is worse on unseen rows: 2.0110, its 2.0000"),
        (outcome(500, float("nan")), outcome(500, 2.0), "ours is worse on unseen rows: nan, its 2.0000"),
    ],
)
def test_an_outcome_that_is_none_is_a_fault(tmp_path: Path, ours: dict, theirs: dict, said: str) -> None:
    assert make_work(tmp_path).faults_of_outcome(ours, theirs) == [said]


def test_a_job_holds_what_everyone_trains_with(tmp_path: Path) -> None:
    job = make_work(tmp_path).job(tmp_path / "run", check=False, options={"packing": True, "max_length": PACK})
    assert json.loads(json.dumps(job)) == {
        "learning_rate": 0.001, "seed": 7, "bf16": True, "kind": "Training", "check": False,
        "config": str(tmp_path / "config.yaml"), "quantization": {}, "folder": str(tmp_path / "run"),
        "report": str(tmp_path / "run" / "report.json"), "model": "models/m", "rows": str(tmp_path / "rows.jsonl"),
        "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj"]},
        "per_device_train_batch_size": 4, "num_train_epochs": 1.0, "max_length": 64,
        "options": {"packing": True, "max_length": 48},
    }  # fmt: skip


def test_a_check_sees_the_first_batch_alone(tmp_path: Path) -> None:
    job = make_work(tmp_path).job(tmp_path / "run", check=True, options={})
    assert job["check"] is True
    assert job["rows"] == str(tmp_path / "first.jsonl")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    work.write()
    assert read_work(tmp_path) == work


def test_in_4_bits_a_check_computes_in_float32(tmp_path: Path) -> None:
    work = make_work(tmp_path, quantization={"load_in_4bit": True})
    told = [work.job(tmp_path, check=check, options={})["quantization"] for check in (True, False)]
    assert told == [
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float32"},
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
    ]


def test_speed_is_tokens_of_all_epochs_over_seconds(tmp_path: Path) -> None:
    assert make_work(tmp_path, epochs=2.0).further({"seconds": 4.0}) == {"tokens_per_second": 150.0}
