"""What a command starts from, and what it says when that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.config import DataSection
from sftlib.errors import DataError, ModelError
from sftlib.files import point_link, write_json
from sftlib.run import RunFolder
from sftlib.run.inputs import TunedFolder, find_split, find_tuned


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(name: str, when: str) -> RunFolder:
    run = RunFolder(Path("outputs"), name)
    write_json(run.adapter / "adapter_config.json", {})
    write_json(run.stamp, {})
    write_json(run.summary, {"finished_at": when})
    return run


def test_split_of_the_processed_folder_or_the_one_that_is_named():
    data = DataSection(processed_dir="data/processed")
    with pytest.raises(DataError) as caught:
        find_split(data, "test")
    assert caught.value.where == "data/processed/test.jsonl"
    assert "make process" in caught.value.cure
    Path("data/processed").mkdir(parents=True)
    Path("data/processed/test.jsonl").touch()
    Path("mine.jsonl").touch()
    assert find_split(data, "test") == Path("data/processed/test.jsonl")
    assert find_split(data.model_copy(update={"test_path": "mine.jsonl"}), "test") == Path("mine.jsonl")
    with pytest.raises(DataError):
        find_split(data, "val")


def test_nothing_trained_is_an_error_that_names_the_target():
    with pytest.raises(ModelError) as caught:
        find_tuned(Path("outputs"))
    assert "make train" in caught.value.cure


def test_the_newest_a_named_one_or_a_folder():
    old, new = finished("old", "2026-01-01T00:00:00"), finished("new", "2026-01-02T00:00:00")
    assert find_tuned(Path("outputs")).folder == new.adapter
    assert find_tuned(Path("outputs"), run="old").folder == old.adapter
    assert find_tuned(Path("outputs"), run="old").run.path.resolve() == old.path.resolve()
    point_link("adapters/last", old.adapter)
    assert find_tuned(Path("outputs")).folder == Path("adapters/last")
    assert find_tuned(Path("outputs")).run.name == "old"
    write_json(Path("elsewhere/config.json"), {})
    assert find_tuned(Path("outputs"), adapter="elsewhere") == TunedFolder(Path("elsewhere"), None)


def test_a_missing_or_empty_folder_never_falls_back():
    finished("new", "2026-01-02T00:00:00")
    Path("empty").mkdir()
    for adapter, says in (("none", "no such folder"), ("empty", "no tuned model")):
        with pytest.raises(ModelError, match=says):
            find_tuned(Path("outputs"), adapter=adapter)
    with pytest.raises(ModelError, match="no finished run other"):
        find_tuned(Path("outputs"), run="other")
