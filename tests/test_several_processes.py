"""Two processes on a CPU train as one does: DDP and FSDP2, by the real scripts/train.py (tests/forking.py).

What is compared is everything a person sees: the losses and counts of every record, the evaluations, the saved weights.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forking import Child, Forge
from safetensors.torch import load_file
from tiny import make_model
from tiny_project import call, make_processed_project, rows_of

from sftlib.files import read_json
from sftlib.run.seen import DIGITS

# 32 rows, 12 a step: the last step of an epoch has 8, which two processes with micro-batches of 3 cannot share evenly;
# nor the 4 rows of an evaluation.
SETTINGS = ("train.max_steps=null", "train.epochs=2", "train.batch_size=3", "train.effective_batch_size=12",
            "eval.training_rows=0")  # fmt: skip
HALF = ("train.bf16=true", "train.batch_size=2")  # of which 12 and 8 are multiples: equal micro-batches round equally
FULL = ("tuning.mode=full", "train.learning_rate=0.001")
PACKED = ("train.packing=true",)
SAME = ("step", "loss", "eval_loss", "grad_norm", "learning_rate", "supervised_tokens")
KINDS = ("ddp", "fsdp2")
TOLERANCE = 2e-6  # of losses about 6 and weights about 1, in float32


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    return make_processed_project(folder / "project", make_model(folder / "model"))


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "project"))


@pytest.fixture(scope="module")
def alone(prepared: Path, forge: Forge, tmp_path_factory: pytest.TempPathFactory):
    """What one process ends with, by its settings."""
    ends: dict[tuple[str, ...], tuple] = {}

    def end(*settings: str) -> tuple:
        if settings not in ends:
            folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "project"))
            child = forge.run(folder, "train", settings=SETTINGS + settings)
            assert child.code == 0, child.said
            ends[settings] = end_of(folder)
        return ends[settings]

    return end


def end_of(project: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], list[list[Any]]]:
    run = project / "outputs" / "tiny"
    records = [{key: row[key] for key in SAME if key in row} for row in rows_of(run / "metrics.jsonl")]
    (weights,) = (run / "adapter").glob("*model.safetensors")
    seen = [sorted(step["rows"]) for step in rows_of(run / "seen.jsonl")]
    return load_file(weights), records, seen


def train(forge: Forge, project: Path, kind: str, *settings: str, **options: Any) -> Child:
    child = forge.run(project, "train", settings=SETTINGS + settings, launch=(kind, 2), **options)
    assert child.codes == [0, 0], child.said + child.said_by(1)
    assert child.said_by(1) == ""  # one process speaks
    return child


def assert_same(given: tuple, expected: tuple, tolerance: float = TOLERANCE) -> None:
    assert given[0].keys() == expected[0].keys()
    for name, weight in expected[0].items():
        torch.testing.assert_close(given[0][name], weight, atol=tolerance, rtol=0, msg=name)
    assert len(given[1]) == len(expected[1])
    for ours, theirs in zip(given[1], expected[1], strict=True):
        assert ours == pytest.approx(theirs, abs=tolerance)
    for rows, expected_rows in zip(given[2], expected[2], strict=True):  # one file of the rows of both
        assert [row[::2] for row in rows] == [row[::2] for row in expected_rows]
        written = tolerance + 10 ** (1 - DIGITS)  # losses lie between 1 and 10
        assert [row[1] for row in rows] == pytest.approx([row[1] for row in expected_rows], abs=written)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [(), ("train.gradient_checkpointing=true", *HALF), ("tuning.mode=qlora", *HALF), FULL, PACKED],
    ids=["lora", "16-bit", "4-bit", "full", "packed"],
)
def test_two_processes_train_as_one(project, alone, forge, kind, settings, monkeypatch):
    expected = alone(*settings)
    losses = [row["eval_loss"] for row in expected[1] if "eval_loss" in row]
    assert losses[-1] < losses[0] - 0.005  # what is compared has learned something
    child = train(forge, project, kind, *settings)
    assert "6 of 6" in child.said
    assert_same(end_of(project), expected)
    run = project / "outputs" / "tiny"
    assert read_json(run / "backend.json")["launch"]["kind"] == kind
    times = read_json(run / "time_metrics.json")
    assert times["supervised_tokens"] == sum(row["supervised_tokens"] for row in expected[1] if "loss" in row)
    monkeypatch.chdir(project)
    assert call("infer", "--prompt", "What is 2 and 3?", settings=settings) == 0


def frozen(forge: Forge, project: Path, kind: str) -> Child:
    """A training of two processes, the first of which is held in the middle of it."""
    child = forge.start(project, "train", settings=SETTINGS, launch=(kind, 2), hits={60: signal.SIGSTOP})
    child.wait_until_frozen()
    return child


@pytest.mark.parametrize(("kind", "asked_by"), [("ddp", "make stop"), ("fsdp2", "make stop"), ("ddp", "SIGUSR1")])
def test_all_stop_at_one_step_and_go_on_as_if_nothing_had_been(project, prepared, forge, monkeypatch, kind, asked_by,
                                                              tmp_path):  # fmt: skip
    whole = Path(shutil.copytree(prepared, tmp_path / "whole"))
    train(forge, whole, kind)
    child = frozen(forge, project, kind)
    monkeypatch.chdir(project)
    if asked_by == "make stop":
        assert call("stop") == 0
    else:
        os.kill(child.pids[1], signal.SIGUSR1)  # the second process alone hears it
    child.signal(signal.SIGCONT)
    child.wait()
    assert child.codes == [0, 0], child.said + child.said_by(1)
    assert f"Stopped by {asked_by} after step" in child.said
    command = f"make train CONFIG=outputs/tiny/config.yaml ACCELERATE={kind} PROCESSES=2"
    assert command in child.said
    other = forge.run(project, "train", settings=SETTINGS)
    assert other.code == 5
    assert f"settings.launch was {kind}, 2 processes, is None" in other.said
    again = forge.run(project, "train", "--config", "outputs/tiny/config.yaml", launch=(kind, 2))
    assert again.codes == [0, 0], again.said + again.said_by(1)
    assert "Going on from outputs/tiny/checkpoint-" in again.said
    assert_same(end_of(project), end_of(whole), tolerance=0)


def test_a_process_that_dies_ends_the_other(project, alone, forge):
    child = frozen(forge, project, "ddp")
    os.kill(child.pids[1], signal.SIGKILL)
    child.signal(signal.SIGCONT)
    started = time.monotonic()
    child.wait()
    assert time.monotonic() - started < 20
    assert child.codes[1] == -signal.SIGKILL
    assert child.codes[0] != 0
    train(forge, project, "ddp")
    assert_same(end_of(project), alone())


def test_a_step_that_cannot_be_shared_is_refused_by_one_voice(project, forge):
    child = forge.run(project, "train", settings=(*SETTINGS, "train.effective_batch_size=9"), launch=("ddp", 2))
    assert child.codes == [2, -signal.SIGTERM]
    assert "A step of 9 examples cannot be cut into micro-batches of 3 for 2 processes." in child.said
    assert child.said_by(1) == ""


@pytest.mark.parametrize(("kind", "size"), [("ddp", 4), ("fsdp2", 1)])
def test_a_batch_that_is_not_stated_is_one_for_all(project, alone, forge, kind, size):
    """DDP by the estimate, at most 4 rows on a CPU; of a model that is cut up nothing is known, so one row."""
    settings = ("train.batch_size=auto", "train.effective_batch_size=16", "train.gradient_checkpointing=false")
    child = train(forge, project, kind, *settings)
    assert f"Micro-batch {size} x {8 // size}" in child.said
    assert_same(end_of(project), alone(*settings))
    written = read_json(project / "outputs" / "tiny" / "backend.json")["batch"]
    assert (written["batch_size"], written["grad_accum"], written["effective_batch_size"]) == (size, 8 // size, 16)


def test_a_step_that_cannot_be_shared_is_refused(project, forge):
    settings = (*SETTINGS, "train.batch_size=auto", "train.effective_batch_size=15")
    child = forge.run(project, "train", settings=settings, launch=("ddp", 2))
    assert 2 in child.codes
    assert "A step of 15 examples cannot be shared by 2 processes" in child.said
    assert "Set train.effective_batch_size to 16" in child.said
