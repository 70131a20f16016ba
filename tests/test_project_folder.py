"""A project in a folder of its own: every command by its CONFIG, everything in the folder, nothing of another one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from tiny_project import script

from sftlib.config import load_config, projects
from sftlib.errors import ModelError, UsageError
from sftlib.files import ROOT
from sftlib.run.inputs import find_tuned

SMALL = (
    "train.max_steps=2", "train.batch_size=2", "train.effective_batch_size=4", "train.learning_rate=0.01",
    "train.bf16=false", "model.max_seq_len=128", "eval.max_new_tokens=4", "eval.limit=2", "eval.training_rows=1",
    "eval.bootstrap_samples=100", "infer.max_new_tokens=4", "run_name=first",
)  # fmt: skip


def call(name: str, *options: str) -> int:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return script(name).main(["--config", "my-project/train.yaml", *options, *settings])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A place where `my-project` was made, processed and trained."""
    place = tmp_path_factory.mktemp("projects")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert script("init_project").main(["my-project"]) == 0
        base = Path("my-project/base.yaml")
        base.write_text(base.read_text().replace("name: auto", f"name: {tiny_model}"), encoding="utf-8")
        rows = [{"question": f"What is {i} and {i + 1}?", "answer": f"It is {2 * i + 1}."} for i in range(40)]
        Path("my-project/raw/sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert call("process_data") == 0
        assert call("train") == 0
    return place


@pytest.fixture
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_everything_lies_in_the_folder(place):
    assert sorted(path.name for path in place.iterdir()) == ["adapters", "my-project"]  # the link to the newest adapter
    project = Path("my-project")
    for made in ("processed/train.jsonl", "processed/report.json", "output/first/adapter/adapter_config.json",
                 "output/tb/first", "output/.cache"):  # fmt: skip
        assert (project / made).exists(), made
    source = json.loads((project / "processed/train.jsonl").read_text().splitlines()[0])
    assert source["source"].startswith("my-project/raw/sums.jsonl:")


def test_results_are_found_in_the_folder_and_merged_there(place, capsys):
    assert call("eval", "--split", "test") == 0
    assert Path("my-project/output/first/eval/test/metrics.json").is_file()
    assert Path("my-project/output/metrics.json").is_file()
    assert call("infer", "--prompt", "What is 1 and 2?") == 0
    assert call("merge_lora", "--prompts", "1") == 0
    assert Path("my-project/output/first/merged-bf16/merge_report.json").is_file()
    assert call("merge_lora", "--run", "first", "--dtype", "fp16", "--prompts", "1") == 0
    assert Path("my-project/output/first/merged/merge_report.json").is_file()
    assert call("merge_lora", "--test") == 0
    assert call("merge_lora", "--run", "first", "--test") == 0
    capsys.readouterr()
    assert call("merge_lora", "--run", "second", "--test") != 0
    assert "make merge RUN=second" in capsys.readouterr().err


def test_another_project_does_not_take_this_ones_adapter(place, capsys):
    """adapters/last points at the newest run of all."""
    assert Path("adapters/last").resolve() == Path("my-project/output/first/adapter").resolve()
    assert find_tuned(Path("my-project/output")).run.name == "first"
    with pytest.raises(ModelError, match="No run is finished yet"):
        find_tuned(Path("other/output"))


def test_the_curves_of_a_project(place, capsys):
    asked = script("tensorboard_server").main(["open", "--config", "my-project/train.yaml"])
    assert asked == 2  # none runs
    assert "my-project/output/tb" in capsys.readouterr().err


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_made(empty, capsys):
    assert script("init_project").main(["my-project"]) == 0
    made = sorted(path.relative_to(empty).as_posix() for path in empty.rglob("*"))
    assert made == [
        "my-project", "my-project/base.yaml", "my-project/data.yaml", "my-project/output", "my-project/prepared",
        "my-project/processed", "my-project/raw", "my-project/train.yaml",
    ]  # fmt: skip
    said = capsys.readouterr()
    assert "make train CONFIG=my-project/train.yaml" in said.out
    config = load_config("my-project/train.yaml")
    assert config.data.datasets["mine"].path == "my-project/raw"
    assert (config.data.processed_dir, config.data.prepared_dir) == ("my-project/processed", "my-project/prepared")
    assert config.train.output_dir == "my-project/output"
    assert config.tuning.lora.target_modules == "all-linear"


def test_what_stands_in_comments_is_a_config_too(empty):
    """The second data set, with its marks taken away."""
    projects.make_project("my-project")
    path = Path("my-project/data.yaml")
    path.write_text(re.sub(r"(?m)^    # ", "    ", path.read_text()), encoding="utf-8")
    config = load_config("my-project/train.yaml")
    assert config.data.datasets["faq"].path == "hf:org/name"
    assert config.data.datasets["faq"].columns == {"user": "question", "assistant": "answer"}
    assert config.data.datasets["faq"].weight == 2


def test_nothing_is_written_over(empty):
    Path("mine").mkdir()
    Path("mine/notes").write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError, match="something by this name already"):
        projects.make_project("mine")
    assert os.listdir("mine") == ["notes"]
    Path("file").touch()
    with pytest.raises(UsageError, match="something by this name already"):
        projects.make_project("file")
    Path("empty").mkdir()
    assert projects.make_project("empty") == Path("empty")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/abs", "-x", "a b", ".hidden", "données", "configs", "outputs"]
)
def test_a_bad_name_is_told_with_the_rule(empty, name):
    with pytest.raises(UsageError) as caught:
        projects.make_project(name)
    assert "a letter or digit first" in caught.value.expected
    assert list(empty.iterdir()) == []


def test_from_inside_this_project_the_base_is_a_short_way(empty, monkeypatch):
    monkeypatch.setattr(projects, "ROOT", empty)
    (empty / "configs").mkdir()
    projects.make_project("my-project")
    assert "include: ../configs/config_base.yaml" in Path("my-project/base.yaml").read_text()
    assert (ROOT / "configs" / "config_base.yaml").is_file()
