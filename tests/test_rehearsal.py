"""The dress rehearsal: all stages by their real scripts, and nothing of the user's read by mistake or written over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny_project import call, make_project

from sftlib import build_rehearsal
from sftlib.config import load_config
from sftlib.errors import DataError

STAGES = ["process", "check", "train", "eval", "infer", "merge"]


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with results that a rehearsal must not touch."""
    make_project(tmp_path / "project", tiny_model)
    monkeypatch.chdir(tmp_path / "project")
    for name in ("data/processed/train.jsonl", "outputs/metrics.json", "outputs/rehearsal/summary.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("mine")
    Path("adapters").mkdir()
    Path("adapters/last").symlink_to("../outputs/mine/adapter")
    return tmp_path / "project"


def contents(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, and what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = path.read_text(encoding="utf-8")
    return found


def test_all_stages_run_offline_and_leave_nothing(project: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(  # in every stage: a connection, or a look-up of a name, is written down
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        f"        open({str(spy / 'sockets')!r}, 'a').write(f'{{event}} {{args}}')\n"
        "sys.addaudithook(hook)\n"
        f"open({str(spy / 'began')!r}, 'a').write('x')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(spy))
    before = contents(project)
    assert call("rehearse") == 0
    assert contents(project) == before
    assert not Path("outputs/.rehearsal").exists()
    assert (spy / "began").read_text() == "x" * 6
    assert not (spy / "sockets").exists()
    shown = capsys.readouterr()
    table = shown.out.splitlines()
    assert [line.split()[0] for line in table if "make " in line] == STAGES
    assert "make train CONFIG=config.yaml" in shown.out
    assert "make eval-test CONFIG=config.yaml" in shown.out


def test_a_failing_stage_is_named_with_its_words_and_kept(project: Path, capsys) -> None:
    Path("raw/sums.jsonl").write_text('{"frage": "2+2?", "antwort": "The answer is 4."}\n' * 30, encoding="utf-8")
    assert call("rehearse", settings=("tuning.mode=full",)) == 3
    said = capsys.readouterr().err
    assert "fails at the stage `process`, which stands for `make process`" in said
    assert "data.columns: {user: frage, assistant: antwort}" in said
    assert Path("outputs/.rehearsal/process.log").is_file()
    assert "data.columns" in Path("outputs/.rehearsal/process.log").read_text(encoding="utf-8")


def test_data_that_cannot_be_read_is_said_before_any_stage(project: Path) -> None:
    shutil.rmtree("raw")
    with pytest.raises(DataError, match="There is no file or folder 'raw'"):
        build_rehearsal.prepare(load_config("config.yaml"))


def test_settings_are_the_user_s_where_a_cpu_can_follow(project: Path, capsys) -> None:
    Path("mine.jinja").write_text("Q: {{ user }}\nA: {{ assistant }}", encoding="utf-8")
    Path("schema.json").write_text("{}")
    asked = [
        "tuning.mode=qlora", "tuning.backend=unsloth", "tuning.backend_fallback=false", "tuning.lora.r=3",
        "train.optim=paged_adamw_8bit", "model.attn_implementation=flash_attention_2", "train.weight_decay=0.5",
        "logging.backend=[wandb, tensorboard]", "data.template_path=mine.jinja", "eval.json_schema=schema.json",
        "data.columns={user: question}", "train.batch_size=16", "train.effective_batch_size=64",
        "infer.system=Be brief.",
        "train.max_minutes=600", "data.split={train: 0.6, val: 0.2, test: 0.2}",
    ]  # fmt: skip
    rehearsal = build_rehearsal.prepare(load_config("config.yaml", asked))
    config = load_config(rehearsal.folder / "config.yaml")
    assert (config.tuning.mode, config.tuning.backend, config.tuning.backend_fallback) == ("qlora", "unsloth", True)
    assert (config.tuning.lora.r, config.train.weight_decay, config.data.split.test) == (3, 0.5, 0.2)
    assert config.data.columns == {"user": "question"}
    assert config.infer.system == "Be brief."
    assert config.model.max_seq_len == 128
    assert (config.train.batch_size, config.train.grad_accum, config.train.max_steps) == (2, 2, 4)
    assert (config.train.optim, config.model.attn_implementation) == ("paged_adamw_8bit", "sdpa")
    assert config.train.max_minutes is None
    assert config.logging.backend == "tensorboard"
    assert config.data.template_path == str(project / "mine.jinja")
    assert config.eval.json_schema == str(project / "schema.json")
    assert "flash_attention_2 needs a GPU and is not rehearsed" in capsys.readouterr().err
    assert [stage.name for stage in rehearsal.stages] == STAGES
    assert len((rehearsal.folder / "raw/sample.jsonl").read_text(encoding="utf-8").splitlines()) == 40
    rehearsal.clean_up()


def test_splits_that_the_config_names_are_rehearsed_as_they_are(project: Path) -> None:
    row = '{"input": "<|im_start|>user\\nx<|im_end|>\\n", "target": "y<|im_end|>"}\n'
    for name in ("train", "val"):
        Path(f"{name}.jsonl").write_text(row * 500, encoding="utf-8")
    shutil.rmtree("raw")
    asked = [
        "data.train_path=train.jsonl",
        "data.val_path=val.jsonl",
        "tuning.mode=full",
        "data.split={train: 1, val: 0, test: 0}",
    ]
    rehearsal = build_rehearsal.prepare(load_config("config.yaml", asked))
    assert [stage.name for stage in rehearsal.stages] == ["check", "train", "eval", "infer"]  # nothing to merge
    assert rehearsal.stages[2].options == ("--split", "val")
    config = load_config(rehearsal.folder / "config.yaml")
    assert config.data.train_path == "given/train.jsonl"
    assert (rehearsal.folder / "given/train.jsonl").read_text(encoding="utf-8") == row * 120
    rehearsal.clean_up()


def test_a_missing_split_is_said(project: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        build_rehearsal.prepare(load_config("config.yaml", ["data.train_path=nowhere.jsonl"]))
