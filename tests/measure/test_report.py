"""The three files and the screen, from a small report made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib.measure.evaluation import EvaluationReport, Question, compare, score_answers
from sftlib.measure.generate import Answer
from sftlib.measure.report import metrics, show_report, write_report


@pytest.fixture
def report() -> EvaluationReport:
    questions = [
        Question("P1", "In the east.", "Where does the sun rise?", "raw.jsonl:1"),
        Question("P2", "`x`\n```py\n1\n```", "Code, please | <b>", "raw.jsonl:2"),
    ]
    base = score_answers(questions, [Answer("west", 1, False), Answer("", 9, False)], seconds=1.5)
    tuned = score_answers(questions, [Answer("In the east.", 5, True), Answer("```py\n1\n```", 7, True)], seconds=1.0)
    systems = {"base": base, "tuned": tuned}
    return EvaluationReport("test", questions, systems, compare(systems, 200, 0), {"seed": 0})


def test_metrics(report):
    content = metrics(report)
    assert content["base"]["stop_rate"] == 0.0
    assert content["tuned"]["stop_rate"] == 1.0
    assert content["base"]["empty_answers"] == 1
    assert content["difference"]["stop_rate"] == {"difference": 1.0, "low": 1.0, "high": 1.0}
    assert content["settings"] == {"seed": 0}
    assert set(content["conventions"]) >= {"rouge", "sari", "exact_match"}
    json.dumps(content, allow_nan=False)


def test_files(report, tmp_path: Path):
    folders = [tmp_path / "outputs", tmp_path / "outputs/run/eval/test"]
    write_report(report, folders)
    assert json.loads((folders[0] / "metrics.json").read_text()) == metrics(report)
    rows = [json.loads(line) for line in (folders[0] / "samples.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["raw.jsonl:1", "raw.jsonl:2"]
    assert rows[0]["base"]["text"] == "west"
    assert rows[0]["tuned"] == {
        "text": "In the east.", "tokens": 5, "stopped": True,
        "scores": {name: scores[0] for name, scores in report.systems["tuned"].by_row.items()},
    }  # fmt: skip
    for name in ("metrics.json", "samples.jsonl", "samples.md"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_markdown_keeps_every_answer_under_its_name(report, tmp_path: Path):
    write_report(report, [tmp_path])
    text = (tmp_path / "samples.md").read_text()
    assert "**base** (ROUGE-L 0.00)\n\n```text\nwest\n```" in text
    assert "**tuned** (ROUGE-L 1.00)\n\n```text\nIn the east.\n```" in text
    assert "````text\n```py\n1\n```\n````" in text  # a fence within is no fence of ours
    assert "| stop rate | 0.000 | 1.000 | +1 [+1, +1] |" in text


def test_markdown_says_when_it_is_not_all(tmp_path: Path):
    questions = [Question("P", "a b", "q", f"x:{i}") for i in range(60)]
    systems = {"base": score_answers(questions, [Answer("a", 1, True)] * 60)}
    write_report(EvaluationReport("val", questions, systems, {}), [tmp_path])
    text = (tmp_path / "samples.md").read_text()
    assert "The first 50 of 60 rows" in text
    assert "## 50. x:49" in text
    assert "x:50" not in text
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 60


def test_screen(report, capsys):
    show_report(report, answers=1)
    shown = capsys.readouterr()
    assert "ROUGE-L" in shown.out
    assert "difference [95 %]" in shown.out
    assert "     base  west" in shown.out
    assert "    tuned  In the east." in shown.out
    assert "Code, please" not in shown.out  # only one was asked for
    assert "base: 1 of 2 answers are empty" in shown.err


def test_screen_clips_long_answers(capsys):
    questions = [Question("P", "a b", "q", "x:1")]
    systems = {"base": score_answers(questions, [Answer("word " * 400, 400, False)])}
    show_report(EvaluationReport("val", questions, systems, {}))
    out = capsys.readouterr().out
    assert "word ..." in out
    assert out.count("word") < 100
    assert "difference" not in out


def test_a_missing_metric_is_a_dash_and_a_remark(capsys):
    questions = [Question("P", "a b", None, "x:1")]
    systems = {"base": score_answers(questions, [Answer("a", 1, True)])}
    report = EvaluationReport("val", questions, systems, {})
    show_report(report)
    shown = capsys.readouterr()
    assert [line.split()[-1] for line in shown.out.splitlines() if line.startswith("SARI")] == ["-"]
    assert "base, SARI (0-100): 1 of 1 rows left out" in shown.err
    assert metrics(report)["base"]["sari"] is None
