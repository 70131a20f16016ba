"""One line a record, in two files, never a step twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_training import llama, make_rows

from sftlib.learn.fitting import fit
from sftlib.learn.records import COLUMNS, Records, truncate_records
from sftlib.run.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path, "run")
    run.path.mkdir()
    return run


def state(step: int, epoch: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(is_world_process_zero=True, global_step=step, epoch=epoch)


def lines(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def table(run: RunFolder) -> list[dict[str, str]]:
    with open(run.train_log, newline="") as stream:
        return list(csv.DictReader(stream))


def test_records_of_training_and_evaluation(run: RunFolder) -> None:
    records = Records(run)
    records.on_train_begin(None, state(0), None)
    records.on_log(None, state(5, 0.51239), None, {"loss": 1.5, "grad_norm": 0.5, "learning_rate": 1e-4, "epoch": 0.5})
    records.on_log(None, state(5, 0.51239), None, {"eval_loss": 1.25, "eval_rougeL": 0.5, "eval_runtime": 3.0})
    records.on_log(
        None, state(9, 1.0), None, {"train_runtime": 9.0, "train_loss": 1.4}
    )  # transformers' summary: no record
    assert lines(run) == [
        {"step": 5, "epoch": 0.5124, "loss": 1.5, "learning_rate": 1e-4, "grad_norm": 0.5},
        {"step": 5, "epoch": 0.5124, "eval_loss": 1.25, "eval_rougeL": 0.5},
    ]
    assert run.train_log.read_text().splitlines() == [
        "step,epoch,loss,learning_rate,grad_norm,tokens_per_second,supervised_tokens,memory_gib,peak_memory_gib,eval_loss,eval_rougeL",
        "5,0.5124,1.5,0.0001,0.5,,,,,,",
        "5,0.5124,,,,,,,,1.25,0.5",
    ]


def test_a_norm_that_json_cannot_say_is_null(run: RunFolder) -> None:
    records = Records(run)
    records.on_log(None, state(1), None, {"loss": 1.5, "grad_norm": float("inf")})
    assert lines(run) == [{"step": 1, "epoch": 0.0, "loss": 1.5, "grad_norm": None}]


def test_a_resumed_run_cuts_what_lies_beyond_its_checkpoint(run: RunFolder) -> None:
    records = Records(run)
    records.on_train_begin(None, state(0), None)
    for step in (2, 4, 6):
        records.on_log(None, state(step), None, {"loss": 10.0 + step})
    with open(run.metrics, "a") as stream:
        stream.write('{"step": 8, "lo')  # torn by a kill
    records.on_train_begin(None, state(4), None)
    records.on_log(None, state(6), None, {"loss": 26.0})
    assert [(record["step"], record["loss"]) for record in lines(run)] == [(2, 12.0), (4, 14.0), (6, 26.0)]
    assert [(row["step"], row["loss"]) for row in table(run)] == [("2", "12.0"), ("4", "14.0"), ("6", "26.0")]


def test_a_fresh_start_leaves_only_the_header(run: RunFolder) -> None:
    truncate_records(run, 0)
    assert run.metrics.read_text() == ""
    assert run.train_log.read_text() == ",".join(COLUMNS) + "\n"


def test_other_processes_write_nothing(run: RunFolder) -> None:
    other = SimpleNamespace(is_world_process_zero=False, global_step=1, epoch=0.0)
    Records(run).on_train_begin(None, other, None)
    Records(run).on_log(None, other, None, {"loss": 1.0})
    assert list(run.path.iterdir()) == []


def test_a_whole_training_is_recorded(make_trainer) -> None:
    train = {"batch_size": 4, "epochs": 2.0, "logging_steps": 2, "eval_strategy": "epoch"}
    trainer = make_trainer(llama(), make_rows(12), train=train, eval_set=make_rows(3))
    report = fit(trainer)
    records = lines(trainer.run)
    assert [(record["step"], "loss" in record) for record in records] == [
        (2, True),
        (3, False),
        (4, True),
        (6, True),
        (6, False),
    ]
    trained = [record for record in records if "loss" in record]
    for record in trained:
        assert list(record) == [column for column in COLUMNS if not column.startswith("eval_")]
        assert record["tokens_per_second"] > 0
    assert report.last_loss == trained[-1]["loss"]
    per_epoch = sum(sum(label != -100 for label in example.labels) for example in make_rows(12).examples)
    assert sum(record["supervised_tokens"] for record in trained) * 2 == pytest.approx(2 * per_epoch)
    times = json.loads(trainer.run.time_metrics.read_text())
    assert times == report.times
    assert (times["steps"], times["supervised_tokens"], times["resumed_from_step"]) == (6, 2 * per_epoch, 0)
    assert times["tokens"] == 2 * sum(make_rows(12).lengths)  # padding is not counted
    assert 0 < times["seconds_in_steps"] < times["wall_seconds"]
    rounded = 0.0005 / times["seconds_in_steps"]  # it is written in milliseconds, and these steps take few
    expected = times["tokens"] / times["seconds_in_steps"]
    assert times["tokens_per_second"] == pytest.approx(expected, rel=0.01 + rounded)
    assert times["peak_memory_gib"] > 0.05


def test_memory_is_left_out_when_not_asked_for(make_trainer) -> None:
    from sftlib.config.schema import LoggingSection

    trainer = make_trainer(llama(), make_rows(8), logging=LoggingSection(backend="none", gpu_stats=False))
    fit(trainer)
    assert not {"memory_gib", "peak_memory_gib"} & set(lines(trainer.run)[0])
