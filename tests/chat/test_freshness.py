"""Freshness: splits of other data, settings or code are told from those of now, and hand-made ones from ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat.conftest import run_process

from sftlib.chat import freshness
from sftlib.chat.freshness import look
from sftlib.config.schema import DataSection

SETS = {"faq": {"path": "faq.jsonl", "system": ["a", "b"]}, "code": {"path": "more", "columns": {"user": "question"}}}


def qa(start: int, count: int) -> list[dict]:
    return [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(start, start + count)]


@pytest.fixture
def made(raw):
    """Two data sets, processed; looking at them with other settings."""
    raw("faq.jsonl", qa(0, 20))
    raw("more/a.jsonl", qa(100, 20))
    raw("blocked.txt", "faq.jsonl:3\n")
    run_process(datasets=SETS, blocklist="blocked.txt")

    def now(seed: int = 42, **settings):
        return look(DataSection(**{"datasets": SETS, "blocklist": "blocked.txt", **settings}), seed, "out")

    return now


def test_nothing_changed(made):
    assert made().is_current
    assert made() == freshness.Freshness()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 7}, ["seed was 42 and is 7"]),
        (
            {"split": {"train": 0.7, "val": 0.2, "test": 0.1}},
            ["data.split.train was 0.8 and is 0.7", "data.split.val was 0.1 and is 0.2"],
        ),
        ({"near_duplicates": None}, ["data.near_duplicates was 0.8 and is null", "the code of this project changed"]),
        ({"group_by": "x"}, ["data.group_by was null and is x"]),
        ({"max_rejected": 0.5}, ["data.max_rejected was 0.05 and is 0.5"]),
        (
            {"datasets": {**SETS, "faq": {"path": "faq.jsonl", "system": "a"}}},
            ["data.datasets.faq.system was a, b and is a"],
        ),
        (
            {"datasets": {"faq": SETS["faq"], "code": {**SETS["code"], "system_mode": "replace"}}},
            ["data.datasets.code.system_mode was only_if_missing and is replace"],
        ),
        (
            {"datasets": {"faq": SETS["faq"], "code": {"path": "more"}}},
            ["data.datasets.code.columns was {'user': 'question'} and is {}"],
        ),
        ({"datasets": {"code": SETS["code"], "faq": SETS["faq"]}}, ["data.datasets was faq, code and is code, faq"]),
    ],
)
def test_settings(made, settings, said):
    assert made(**settings).changes == said


@pytest.mark.parametrize("settings", [{"processed_dir": "x"}, {"loss_on": "all"}, {"style": {"rule": "x"}}])
def test_settings_that_do_not_matter_here(made, settings):
    assert made(**settings).is_current


def test_a_data_set_more(made, raw):
    raw("third.jsonl", qa(200, 5))
    found = made(datasets={**SETS, "third": {"path": "third.jsonl"}})
    assert found.changes[0] == "data.datasets was faq, code and is faq, code, third"
    assert found.changes[-1] == "third.jsonl is new"
    assert made(datasets={"faq": SETS["faq"]}).changes[-1] == "more/a.jsonl is read no more"


def test_raw_files(made, raw):
    raw("faq.jsonl", qa(0, 21))
    raw("more/b.jsonl", qa(300, 2))
    assert made().changes == made().raw_changes == ["faq.jsonl changed", "more/b.jsonl is new"]
    Path("more/a.jsonl").unlink()
    assert made().changes == ["faq.jsonl changed", "more/a.jsonl is read no more", "more/b.jsonl is new"]


def test_other_files_are_no_change_of_the_files(made, raw):
    raw("other.jsonl", qa(0, 20))
    found = made(datasets={"faq": {"path": "other.jsonl"}, "code": SETS["code"]})
    assert "data.datasets.faq.path was faq.jsonl and is other.jsonl" in found.changes
    assert not found.raw_changes


def test_the_rows_of_the_blocklist(made, raw):
    raw("blocked.txt", "faq.jsonl:4\n")
    assert made().changes == ["the rows of data.blocklist changed"]
    assert not made().raw_changes


def test_our_code(made, monkeypatch):
    monkeypatch.setattr(freshness, "_code_version", lambda **_: "another")
    assert made().changes == ["the code of this project changed"]


def test_every_module_that_decides_is_part_of_the_code():
    """What processing imports of its room, and what that imports; the report only counts."""
    import ast

    def imported(name: str) -> set[str]:
        tree = ast.parse((freshness.ROOM / f"{name}.py").read_text(encoding="utf-8"))
        return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}

    found, waiting = set(), ["processing"]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in ("report", "freshness", "stored"):
            found.add(name)
            waiting += imported(name)
    assert found == set(freshness.CODE)


def test_edited_and_missing_splits(made):
    path = Path("out/train.jsonl")
    path.write_text(path.read_text().replace("It is", "That is"))
    Path("out/val.jsonl").unlink()
    found = made()
    assert found.edited == ["out/train.jsonl"]
    assert found.missing == ["out/val.jsonl"]
    assert not found.changes
    assert not found.is_current


@pytest.mark.parametrize("report", [None, "{}", "[]", "no json", '{"key": 3, "splits": {}}'])
def test_splits_without_a_report_are_somebody_elses(made, report):
    Path("out/report.json").unlink()
    if report is not None:
        Path("out/report.json").write_text(report)
    assert made().edited == ["out/train.jsonl", "out/val.jsonl", "out/test.jsonl"]


def test_without_the_raw_data(made):
    Path("faq.jsonl").unlink()
    found = made()
    assert not found.has_raw
    assert not found.raw_changes
    assert found.changes == ["There is no file or folder 'faq.jsonl'"]
    assert not found.edited


def test_no_row_is_parsed(made, monkeypatch):
    monkeypatch.setattr("sftlib.chat.readers.parse_json", lambda text: {} if "{" in text else None)
    assert made().is_current  # the kind of a file is told by its first lines; none of its rows is read
