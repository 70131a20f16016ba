"""process_data.py and style_prompt.py as a person runs them: exit codes, messages, keys that arrive, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat.conftest import jsonl

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CONFIG = "seed: 1\ndata:\n  raw_path: raw\n  processed_dir: done\n  style_dir: styled\n"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True)


@pytest.fixture
def project(raw):
    """A config, and twenty raw rows."""
    raw("c.yaml", CONFIG)
    raw("raw/faq.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(20)])
    return raw


def test_process_then_style(project):
    done = run("process_data.py", "--config", "c.yaml")
    assert done.returncode == 0, done.stderr
    assert "question/answer" in done.stdout
    assert len(jsonl("done/train.jsonl")) == 16
    done = run("style_prompt.py", "--config", "c.yaml", "--style", "Be brief.")
    assert done.returncode == 0, done.stderr
    assert {row["system"] for row in jsonl("styled/train.jsonl")} == {"Be brief."}


def test_options_and_keys_arrive(project):
    project("other.csv", "frage;antwort\n" + "".join(f"Frage {i}?;Antwort {i}\n" for i in range(10)))
    done = run(
        "process_data.py", "--config", "c.yaml", "--raw_path", "other.csv", "raw", "--out_dir", "elsewhere",
        "--set", "data.columns.user=frage", "--set", "data.columns.assistant=antwort", "--set", "data.max_rejected=0.7",
        "--set", "data.split.train=0.5", "--set", "data.split.val=0.5", "--set", "data.split.test=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(Path("elsewhere/report.json").read_text())
    assert {name: split["rows"] for name, split in report["splits"].items()} == {"train": 5, "val": 5, "test": 0}
    assert report["rejected"] == {"unknown shape": 20}
    assert report["seed"] == 1


def test_style_options_arrive(project):
    assert run("process_data.py", "--config", "c.yaml").returncode == 0
    done = run(
        "style_prompt.py",
        "--config",
        "c.yaml",
        "--style",
        "Rule.",
        "--mode",
        "prepend",
        "--set",
        "data.style.role=user",
    )
    assert done.returncode == 0, done.stderr
    assert all(row["user"].startswith("Rule.\n\nWhat") for row in jsonl("styled/val.jsonl"))


@pytest.mark.parametrize(
    ("script", "arguments", "code", "said"),
    [
        ("process_data.py", ["--raw_path", "nowhere"], 3, "cp data/sample/*.jsonl data/raw/"),
        ("process_data.py", ["--raw_path", "c.yaml"], 3, "No rows can be made out"),
        ("process_data.py", ["--out_dir", "c.yaml/x"], 4, "cannot be read or written"),
        ("style_prompt.py", ["--style", "x"], 3, "make process"),
        ("style_prompt.py", [], 2, "make style STYLE="),
    ],
)
def test_mistakes_end_with_words_and_their_exit_code(project, script, arguments, code, said):
    done = run(script, "--config", "c.yaml", *arguments)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_no_torch_and_help_at_once(project):
    probe = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import process_data\n"
        "code = process_data.main(['--config', 'c.yaml'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)\n"
        "raise SystemExit(code or str(heavy) if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for script in ("process_data.py", "style_prompt.py"):
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            assert run(script, "--help").returncode == 0
            seconds.append(time.monotonic() - started)
        assert min(seconds) < 0.5
