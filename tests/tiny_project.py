"""A project on the tiny model (tests/tiny.py) with forty raw rows, and the real scripts called in this process."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
CONFIG = """\
run_name: tiny
model:
  name: {model}
  max_seq_len: 128
tuning:
  mode: lora
  lora: {{r: 4, alpha: 8}}
data:
  raw_path: raw
train:
  max_steps: 4
  learning_rate: 0.01
  batch_size: 2
  effective_batch_size: 4
  logging_steps: 1
  bf16: false
  eval_strategy: steps
  eval_steps: 2
  save_strategy: steps
  save_steps: 2
eval:
  max_new_tokens: 6
  limit: 3
  training_rows: 2
  bootstrap_samples: 100
infer:
  max_new_tokens: 6
"""


def make_project(folder: Path, model: Path) -> Path:
    """Write `config.yaml` and `raw/sums.jsonl` into a folder; return the folder."""
    (folder / "raw").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(model=model), encoding="utf-8")
    rows = [
        {"question": f"What is {i} and {i + 1}?", "answer": f"Step 1: add them. Answer: {2 * i + 1}."}
        for i in range(40)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "raw" / "sums.jsonl").write_text(lines, encoding="utf-8")
    return folder


def make_processed_project(folder: Path, model: Path) -> Path:
    """The same with its splits, made by the real script."""
    make_project(folder, model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("process_data") == 0
    return folder


@functools.cache
def script(name: str) -> ModuleType:
    """A script as a module; nothing can import one by its name."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *options: str, settings: tuple[str, ...] = ()) -> int:
    """Run a script with config.yaml of the current folder; return its exit code."""
    given = [part for setting in settings for part in ("--set", setting)]
    return script(name).main(["--config", "config.yaml", *options, *given])


def rows_of(path: str | Path) -> list[dict]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
