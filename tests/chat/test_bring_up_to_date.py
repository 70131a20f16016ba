"""Splits are made where they are missing or old, never over what somebody edited, and what is done is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.build_data import bring_up_to_date, require_current
from sftlib.config import load_config
from sftlib.errors import DataError

SETS = "data:\n  datasets:\n    faq: {path: faq.jsonl}\n"


@pytest.fixture
def project(raw):
    raw("faq.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(20)])
    raw("sets.yaml", SETS)
    raw("one.yaml", "data:\n  raw_path: faq.jsonl\n")
    return raw


def train() -> str:
    return Path("data/processed/train.jsonl").read_text()


@pytest.mark.parametrize("file", ["sets.yaml", "one.yaml"])
def test_what_is_missing_is_made_once(project, file, capsys):
    config = load_config(file)
    with pytest.raises(DataError, match=r"not those of now: data/processed/train\.jsonl"):
        require_current(config)
    assert bring_up_to_date(config)
    assert "The splits are made from the raw data." in capsys.readouterr().err
    require_current(config)
    assert not bring_up_to_date(config)
    assert capsys.readouterr().err == ""
    Path("data/processed/val.jsonl").unlink()
    assert bring_up_to_date(config) == (file == "sets.yaml")  # of a raw path somebody may want fewer splits


def test_old_splits_of_data_sets_are_made_anew(project, capsys):
    bring_up_to_date(load_config("sets.yaml"))
    other = load_config("sets.yaml", ["data.split.val=0.2", "data.split.train=0.7"])
    with pytest.raises(DataError, match=r"data.split.train was 0.8 and is 0.7"):
        require_current(other)
    assert bring_up_to_date(other)
    assert "data.split.val was 0.1 and is 0.2" in capsys.readouterr().err
    assert len(train().splitlines()) == 14


def test_those_of_a_raw_path_are_left_and_it_is_said_when_the_rows_changed(project, capsys):
    bring_up_to_date(load_config("one.yaml"))
    other = load_config("one.yaml", ["data.split.val=0.2", "data.split.train=0.7"])
    require_current(other)
    capsys.readouterr()
    assert not bring_up_to_date(other)
    assert capsys.readouterr().err == ""
    project("faq.jsonl", [{"question": "Who?", "answer": "I."}] * 3)
    assert not bring_up_to_date(other)
    assert "faq.jsonl changed since the splits were made" in capsys.readouterr().err


def test_what_was_edited_is_kept_loudly(project, capsys):
    bring_up_to_date(load_config("sets.yaml"))
    edited = train().replace("It is", "That is")
    Path("data/processed/train.jsonl").write_text(edited)
    project("faq.jsonl", [{"question": "Who?", "answer": "I."}] * 3)
    assert not bring_up_to_date(load_config("sets.yaml"))
    assert train() == edited
    said = capsys.readouterr().err
    assert "Used as edited by hand: data/processed/train.jsonl" in said
    Path("data/processed/test.jsonl").unlink()
    assert not bring_up_to_date(load_config("one.yaml"))
    assert train() == edited


def test_without_raw_data_the_splits_are_used(project):
    bring_up_to_date(load_config("sets.yaml"))
    Path("faq.jsonl").unlink()
    require_current(load_config("sets.yaml"))
    assert not bring_up_to_date(load_config("sets.yaml"))


def test_another_folder(project):
    assert bring_up_to_date(load_config("sets.yaml"), into="elsewhere")
    assert Path("elsewhere/train.jsonl").is_file()
    assert not Path("data").exists()


def test_splits_that_the_config_names_are_the_users(project):
    config = load_config("sets.yaml", ["data.train_path=mine.jsonl"])
    require_current(config)
    assert not bring_up_to_date(config)
