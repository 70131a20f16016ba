"""What the tests of the bench share: a small piece of work, and peers that only write their report."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftlib.bench.entrants import Entrant
from sftlib.bench.training import Training, make_train
from sftlib.files import read_json, write_json

PEER = """\
import json, sys
job = json.load(open(sys.argv[1]))
told = job["options"]
open(told["diary"], "a").write(told["name"] + (" check" if job["check"] else " run") + "\\n")
if told.get("fails") or job.get("max_length", 0) > told.get("longest", 10**9):
    raise ImportError("no kernels here")
report = {"rows": 4 if job["check"] else 10, "supervised": 40 if job["check"] else 100, "versions": {"torch": "2"}}
report |= {"loss": 2.5} if job["check"] else {"seconds": told["seconds"], "steps": 3, "adapter": "at/" + told["name"]}
json.dump(report | told.get("report", {}), open(job["report"], "w"))
"""
OURS = """\
import hashlib, json, os, sys
settings = dict(word.split("=") for word in sys.argv if "=" in word)
run = os.path.join(settings["train.output_dir"], settings["run_name"])
os.makedirs(run)
def write(name, value):
    json.dump(value, open(os.path.join(run, name), "w"))
rows = open(os.path.join(os.path.dirname(sys.argv[sys.argv.index("--config") + 1]), "train.jsonl"), "rb").read()
write("time_metrics.json", {"supervised_tokens": 100, "wall_seconds": 1.0, "steps": 3, "peak_memory_gib": 0.5})
write("backend.json", {"versions": {"torch": "2", "transformers": "5", "peft": "0"}})
write("stamp.json", {"data": {"train": hashlib.sha256(rows).hexdigest()}})
"""
TOLD = {  # of every training
    "model": "models/m", "settings": {"learning_rate": 0.001, "seed": 7, "bf16": True},
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj"]}, "quantization": {},
    "batch": 4, "epochs": 1.0, "max_length": 64, "pack_length": 48, "rows": 10, "tokens": 300, "supervised": 100,
    "device": "a CPU",
}  # fmt: skip


def make_work(folder: Path, **changed: Any) -> Training:
    """Ten rows in steps of four; 100 supervised tokens, 40 of them in the first batch."""
    work = Training(
        folder=str(folder), **TOLD, first_supervised=40, trainable=500, first_loss=2.5, unseen=5, unseen_loss=3.0
    )
    return dataclasses.replace(work, **changed)


def make_ours(folder: Path) -> Entrant:
    """A stand-in for scripts/train.py on ten rows."""
    (folder / "train.jsonl").write_text('{"user": "1"}\n' * 10)
    script = folder / "train.py"
    script.write_text(OURS)
    return dataclasses.replace(make_train("OURS"), runner=script)


def make_peer(folder: Path, name: str, **told: Any) -> Entrant:
    """A peer that writes down that it was called, and reports what it is told to."""
    script = folder / "peer.py"
    script.write_text(PEER)
    options = {"name": name, "diary": str(folder / "diary.txt"), "seconds": 2.0} | told
    return Entrant(name, name.upper(), script, "elsewhere", options, Path(sys.executable))


def report_of_job(job: dict[str, Any], perform: Callable[[dict[str, Any]], None], runner: Path | None) -> dict:
    """What ours (`perform`, no runner) or a peer reports of a job in this process."""
    if runner is None:
        perform(job)
    else:
        path = Path(job["report"]).with_name("job.json")
        write_json(path, job)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["runner", str(path)])
            runpy.run_path(str(runner), run_name="__main__")
    return read_json(Path(job["report"]))
