"""`make templates` on a tiny model: what it prints, without torch, and what it does not read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sftlib.files import ROOT

SCRIPT = ROOT / "scripts" / "templates.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_every_template_and_how_it_fits(tiny_model: Path):
    done = run("--set", f"model.name={tiny_model}")
    assert done.returncode == 0, done.stderr
    for path in (ROOT / "chat_templates").glob("*.jinja"):
        assert f"chat_templates/{path.name}\n  for " in done.stdout
        assert f"\n{path.name} " in done.stdout
    assert "source     the chat template of microsoft/phi-4." in done.stdout
    assert "data.template_path: auto takes the model's own." in done.stdout
    assert "Take auto: " in done.stdout


def test_the_template_that_the_config_names(tiny_model: Path):
    model = f"model.name={tiny_model}"
    done = run("--set", model, "--set", "data.template_path=chat_templates/default.jinja")
    assert "The config names chat_templates/default.jinja: near; the text of the model's own but for" in done.stdout
    done = run("--set", model, "--set", "data.template_path=none.jinja")
    assert done.returncode == 6
    assert "There is no such chat template" in done.stderr


def test_the_list_needs_no_model_and_an_encoder_decoder_has_none():
    assert run("--list", "--set", "model.name=no-such-model").returncode == 0
    done = run("--set", "model.name=x/y", "--set", "model.type=seq2seq")
    assert done.returncode == 2
    assert "no chat template" in done.stderr


def test_no_torch_is_loaded(tiny_model: Path):
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        f"sys.argv = ['x', '--set', 'model.name={tiny_model}']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "print('heavy:', *sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy:", done.stderr
