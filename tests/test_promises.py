"""Promises of docs/PITFALLS.md that only the whole chain can show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_project import call, make_project

from sftlib.files import read_json


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose answers are all alike, processed."""
    folder = make_project(tmp_path / "project", tiny_model)
    rows = [{"question": f"What is {i} and {i + 1}?", "answer": "Add the two."} for i in range(40)]
    (folder / "raw" / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.chdir(folder)
    assert call("process_data") == 0
    return folder


def test_after_a_short_tune_the_model_stops_and_the_evaluation_says_so(project, capsys):
    settings = (
        "train.max_steps=40", "train.eval_strategy=no", "train.save_strategy=no", "train.load_best_model_at_end=no",
        "tuning.lora.r=16", "train.learning_rate=0.03", "eval.max_new_tokens=30", "eval.limit=null",
    )  # fmt: skip
    assert call("train", settings=settings) == 0
    assert call("eval", settings=settings) == 0
    metrics = read_json("outputs/metrics.json")
    assert metrics["tuned"]["stop_rate"] >= 0.95
    assert metrics["base"]["stop_rate"] < 0.5
    assert "stop rate" in capsys.readouterr().out


def test_rows_without_a_trained_token_are_refused_when_too_many(project, capsys):
    """Cut at 12 tokens, every row is its question alone."""
    settings = ("model.max_seq_len=12", "data.truncation=truncate")
    assert call("train", settings=settings) == 3
    said = capsys.readouterr().err
    assert "32 of 32 rows of the train split have nothing to train on." in said
    assert "data.max_rejected" in said
    assert not Path("outputs/tiny").exists()


def test_where_no_row_fits_nothing_is_trained(project, capsys):
    assert call("train", settings=("model.max_seq_len=12",)) == 3
    assert "No row of the train split fits: all 32 are longer than 12 tokens." in capsys.readouterr().err
