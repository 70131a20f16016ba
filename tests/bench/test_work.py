"""What peers are told is what was settled, and their own options come on top."""

from __future__ import annotations

import json
from pathlib import Path

from bench_parts import make_work

from sftlib.bench.work import PACK, read_work


def test_a_job_holds_what_everyone_trains_with(tmp_path: Path) -> None:
    job = make_work(tmp_path).job(tmp_path / "run", check=False, options={"packing": True, "max_length": PACK})
    assert json.loads(json.dumps(job)) == {
        "learning_rate": 0.001, "seed": 7, "bf16": True, "check": False, "folder": str(tmp_path / "run"),
        "report": str(tmp_path / "run" / "report.json"), "model": "models/m", "rows": str(tmp_path / "rows.jsonl"),
        "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj"]},
        "per_device_train_batch_size": 4, "num_train_epochs": 1.0, "max_length": 64,
        "options": {"packing": True, "max_length": 48},
    }  # fmt: skip


def test_a_check_sees_the_first_batch_alone(tmp_path: Path) -> None:
    job = make_work(tmp_path).job(tmp_path / "run", check=True, options={})
    assert job["check"] is True
    assert job["rows"] == str(tmp_path / "first.jsonl")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    work.write()
    assert read_work(tmp_path) == work
