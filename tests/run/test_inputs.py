"""What a command starts from, and what it says when that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.config import DataSection
from sftlib.errors import DataError, ModelError
from sftlib.files import point_link, write_json
from sftlib.run import RunFolder
from sftlib.run.inputs import TunedFolder, find_merged, find_split, find_tuned, place_for_merged


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


def test_the_newest_run_of_another_folder_is_not_taken():
    """A project has its own train.output_dir; adapters/last points at the newest run of all."""
    run = finished("new", "2026-01-02T00:00:00")
    point_link("adapters/last", run.adapter)
    with pytest.raises(ModelError, match="No run is finished yet"):
        find_tuned(Path("my-project/output"))


def test_a_merged_model_lies_in_the_folder_of_its_run():
    old, new = finished("old", "2026-01-01T00:00:00"), finished("new", "2026-01-02T00:00:00")
    outputs = Path("outputs")
    assert place_for_merged(outputs, find_tuned(outputs), "fp16") == Path("outputs/new/merged")
    assert place_for_merged(outputs, find_tuned(outputs, run="old"), "bf16") == Path("outputs/old/merged-bf16")
    write_json(Path("elsewhere/adapter_config.json"), {})
    foreign = find_tuned(outputs, adapter="elsewhere")
    assert place_for_merged(outputs, foreign, "fp16") == Path("outputs/merged")
    with pytest.raises(ModelError) as caught:
        find_merged(outputs)
    assert caught.value.cure == "make merge"
    write_json(new.path / "merged-bf16/config.json", {})
    assert find_merged(outputs) == Path("outputs/new/merged-bf16")
    write_json(new.path / "merged/config.json", {})
    assert find_merged(outputs) == Path("outputs/new/merged")
    write_json(old.path / "merged-bf16/config.json", {})
    assert find_merged(outputs, "old") == Path("outputs/old/merged-bf16")


def test_a_missing_or_empty_folder_never_falls_back():
    finished("new", "2026-01-02T00:00:00")
    Path("empty").mkdir()
    for adapter, says in (("none", "no such folder"), ("empty", "no tuned model")):
        with pytest.raises(ModelError, match=says):
            find_tuned(Path("outputs"), adapter=adapter)
    with pytest.raises(ModelError, match="no finished run other"):
        find_tuned(Path("outputs"), run="other")
