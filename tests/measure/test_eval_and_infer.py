"""eval.py and infer.py as they are called: options, what is checked before torch, what is written where.

The assembly is replaced by a small one around the tiny speaker; the real one is run by tests/e2e.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import sftlib
from sftlib.files import write_json
from sftlib.measure import batch_files, chat_session, evaluation, lines, report, responder
from sftlib.run import RunFolder

CONFIG = "eval: {max_new_tokens: 6, batch_size: 2}\ninfer: {max_new_tokens: 6}\n"


def script(root: Path, name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", root / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a config, a test split of six rows and one finished run, as current folder."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    Path("data/processed").mkdir(parents=True)
    rows = [{"system": "", "user": f"What is {i}?", "assistant": "a number", "source": f"raw:{i}"} for i in range(6)]
    Path("data/processed/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = RunFolder(Path("outputs"), "first")
    write_json(run.adapter / "adapter_config.json", {})
    write_json(run.stamp, {})
    write_json(run.summary, {"finished_at": "2026-01-01T00:00:00"})
    return tmp_path


@pytest.fixture
def build(speaker, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A small assembly; `asked` keeps what the scripts asked of it."""
    from sftlib.chat.stored import read_split

    asked: list[tuple] = []

    def evaluate(config, split, path, tuned, systems):
        asked.append((split, path, tuned, list(systems), config.eval))
        pairs = [(system, speaker) for system in systems]
        return evaluation.evaluate_systems(pairs, read_split(path), config.eval, name=split, seed=config.seed)

    def load_responder(config, tuned, seed=None):
        asked.append((tuned, seed))
        return responder.Responder(speaker, config.infer, seed)

    module = ModuleType("sftlib.build_speaking")
    for room in (batch_files, chat_session, lines, report, responder):
        vars(module).update({name: value for name, value in vars(room).items() if not name.startswith("_")})
    module.evaluate, module.load_responder, module.asked = evaluate, load_responder, asked
    monkeypatch.setitem(sys.modules, "sftlib.build_speaking", module)
    monkeypatch.setattr(sftlib, "build_speaking", module, raising=False)
    return module


def test_eval_measures_the_newest_run_beside_the_base(root, project, build, capsys):
    assert script(root, "eval").main(["--config", "config.yaml"]) == 0
    [(split, path, tuned, systems, _)] = build.asked
    assert (split, path, systems) == ("test", Path("data/processed/test.jsonl"), ["base", "tuned"])
    assert tuned == Path("outputs/first/adapter")
    metrics = json.loads(Path("outputs/metrics.json").read_text())
    assert metrics["rows"] == 6
    assert metrics["difference"]["rougeL"]["difference"] == 0  # here both are one model
    assert json.loads(Path("outputs/first/eval/test/metrics.json").read_text()) == metrics
    assert len(Path("outputs/samples.jsonl").read_text().splitlines()) == 6
    shown = capsys.readouterr()
    assert "ROUGE-L" in shown.out
    assert "outputs/first/eval/test/samples.md" in shown.err


def test_eval_options_reach_the_config(root, project, build):
    Path("schema.json").write_text('{"type": "object"}')
    options = ["--limit", "2", "--schema", "schema.json", "--regex", 'a "quoted" .*', "--tuned-only", "--run", "first"]
    assert script(root, "eval").main(["--config", "config.yaml", *options]) == 0
    [(_, _, _, systems, section)] = build.asked
    assert systems == ["tuned"]
    assert (section.limit, section.json_schema, section.regex) == (2, "schema.json", 'a "quoted" .*')
    assert json.loads(Path("outputs/metrics.json").read_text())["tuned"]["valid_json"] == 0.0


def test_eval_of_the_base_needs_no_run(root, project, build):
    RunFolder(Path("outputs"), "first").summary.unlink()
    assert script(root, "eval").main(["--config", "config.yaml", "--base"]) == 0
    assert build.asked[0][2:4] == (None, ["base"])
    assert not Path("outputs/first/eval").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--split", "val"], 3, "make process"),
        (["--adapter", "nowhere"], 6, "no such folder"),
        (["--run", "other"], 6, "no finished run other"),
        (["--limit", "0"], 2, "eval.limit"),
    ],
)
def test_eval_says_what_is_missing_before_it_loads_anything(root, project, capsys, options, code, says):
    assert script(root, "eval").main(["--config", "config.yaml", *options]) == code  # there is no build to import here
    assert says in capsys.readouterr().err


def test_infer_single_prints_the_answer_alone(root, project, build, speaker, capsys):
    assert script(root, "infer").main(["--config", "config.yaml", "--prompt", "What is 4?"]) == 0
    section = build.load_responder.__globals__["responder"]
    from sftlib.config import InferSection

    answer = section.Responder(speaker, InferSection(max_new_tokens=6)).answer(
        [{"role": "user", "content": "What is 4?"}], lambda _: None
    )
    assert capsys.readouterr().out == answer.text + "\n"
    assert build.asked == [(Path("outputs/first/adapter"), 42)]


def test_infer_batch(root, project, build):
    Path("in.txt").write_text("What is 1?\nWhat is 2?\n")
    options = ["--config", "config.yaml", "--input_file", "in.txt", "--output_file", "new/out.jsonl", "--base"]
    assert script(root, "infer").main(options) == 0
    rows = [json.loads(line) for line in Path("new/out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["What is 1?", "What is 2?"]
    assert build.asked == [(None, 42)]


def test_infer_interactive_reads_a_pipe(root, project, build, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 1?\n/system Be brief.\nWhat is 2?\n"))
    assert script(root, "infer").main(["--config", "config.yaml"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") >= 2
    assert "you>" not in shown.out
    assert "(under this system message from now on)" in shown.err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--mode", "single"], 2, "needs --prompt"),
        (["--mode", "batch", "--input_file", "in.txt"], 2, "needs --output_file"),
        (["--prompt", "a", "--input_file", "in.txt"], 2, "--input_file is for --mode batch"),
        (["--input_file", "in.txt", "--output_file", "out.txt"], 3, "no such file"),
        (["--prompt", "a", "--adapter", "nowhere"], 6, "no such folder"),
    ],
)
def test_infer_says_what_is_wrong_before_it_loads_anything(root, project, capsys, options, code, says):
    assert script(root, "infer").main(["--config", "config.yaml", *options]) == code
    assert says in capsys.readouterr().err
