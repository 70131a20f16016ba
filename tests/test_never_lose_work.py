"""What kill -9, a signal, a stop file or --fresh leave behind, by the real scripts/train.py in processes of its own."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forking import Child, Forge
from tiny_project import SCRIPTS, call, make_processed_project, rows_of
from transformers.trainer_pt_utils import safe_globals

from sftlib.files import read_json
from sftlib.learn.checkpoints import newest_checkpoint

# Everything that has a state of its own: dropout, two epochs in shuffled order, a smaller last step, the patience.
SETTINGS = (
    "train.max_steps=null", "train.epochs=2", "train.effective_batch_size=6", "train.save_steps=2",
    "train.early_stopping_patience=9", "tuning.lora.dropout=0.2", "train.warmup_ratio=0.3",
)  # fmt: skip
STEPS, LAST = 12, "checkpoint-12"  # 32 rows, 6 a step, twice
KILLS = 20
TIMES = ("tokens_per_second", "memory_gib", "peak_memory_gib", "eval_runtime", "eval_samples_per_second",
         "eval_steps_per_second")  # fmt: skip


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with processed data. Copy it, never write into it."""
    return make_processed_project(tmp_path_factory.mktemp("kept") / "project", tiny_model)


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "project"))


@pytest.fixture(scope="module")
def whole(prepared: Path, forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int, float]:
    """What the uninterrupted run ends with, its operations on files of the run, and its seconds."""
    folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "project"))
    started = time.monotonic()
    child = forge.run(folder, "train", settings=SETTINGS)
    assert child.code == 0, child.said
    return end_of(folder), child.operations, time.monotonic() - started


def end_of(project: Path) -> dict[str, Any]:
    """Everything that a run ends with, times and places left out."""
    run = project / "outputs" / "tiny"
    state = read_json(run / LAST / "trainer_state.json")
    state["log_history"] = [{k: v for k, v in row.items() if k not in TIMES} for row in state["log_history"]]
    with safe_globals():
        held = {
            name: torch.load(run / LAST / name, weights_only=True)
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
        }
    return held | {
        "files": sorted(path.relative_to(run).as_posix() for path in run.rglob("*")),
        "state": state,
        "best": read_json(run / "best.json"),
        "summary": {key: read_json(run / "summary.json")[key] for key in ("steps", "last_loss", "best")},
        "metrics": [{k: v for k, v in row.items() if k not in TIMES} for row in rows_of(run / "metrics.jsonl")],
        "seen": rows_of(run / "seen.jsonl"),
        "checkpoint": (run / LAST / "adapter_model.safetensors").read_bytes(),
        "adapter": (run / "adapter" / "adapter_model.safetensors").read_bytes(),
        "linked": (project / "adapters" / "last" / "adapter_model.safetensors").read_bytes(),
    }


def assert_equal(given: Any, expected: Any, where: str = "") -> None:
    """Equality down to the last bit, of tensors and arrays too."""
    assert type(given) is type(expected), where
    if isinstance(expected, dict):
        assert given.keys() == expected.keys(), where
        for key in expected:
            assert_equal(given[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(given) == len(expected), where
        for number, pair in enumerate(zip(given, expected, strict=True)):
            assert_equal(*pair, f"{where}[{number}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(given, expected), where
    elif hasattr(expected, "tobytes"):
        assert given.tobytes() == expected.tobytes(), where
    else:
        assert given == expected, where


def test_what_is_compared_holds_every_state(whole):
    end, operations, _ = whole
    assert end["state"]["global_step"] == STEPS
    assert end["state"]["stateful_callbacks"].keys() >= {"EarlyStoppingCallback", "TrainerControl"}
    assert set(end["rng_state.pth"]) == {"python", "numpy", "cpu"}
    assert len(end["optimizer.pt"]["state"]) == 28
    assert operations > 200


def test_killed_at_twenty_random_moments_it_ends_as_if_nothing_had_been(project, whole, forge):
    """Half of the kills come before a random operation on a file of the run, most of them in a save; half at any time.

    The run is killed and taken up again until it is through, then begun anew, until there were twenty kills.
    """
    expected, operations, seconds = whole
    chance = random.Random(7)
    kills = finished = torn = 0
    while kills < KILLS or finished < 2:
        by_file = kills % 2 == 0
        hits = {chance.randint(1, operations * 3 // 4): signal.SIGKILL} if by_file and kills < KILLS else {}
        child = forge.start(project, "train", settings=SETTINGS, hits=hits)
        if not by_file and kills < KILLS:
            time.sleep(chance.uniform(0.1, 0.8) * seconds)
            child.signal(signal.SIGKILL)
        child.wait()
        assert child.code in (0, -signal.SIGKILL), child.said
        kills += child.code != 0
        torn += "Its save was interrupted." in child.said
        is_finished = (project / "outputs" / "tiny" / "summary.json").exists()  # even if killed just after
        assert is_finished or child.code != 0
        if is_finished:
            finished += 1
            assert_equal(end_of(project), expected)
            shutil.rmtree(project / "outputs")
            shutil.rmtree(project / "adapters")
    assert torn


def test_a_process_of_the_shell_is_killed_and_taken_up(project, whole, forge):
    """The same without forks: `python scripts/train.py`, killed as soon as its first checkpoint is begun."""
    command = [sys.executable, str(SCRIPTS / "train.py"), "--config", "config.yaml"]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(project / "screen.txt", "w") as screen:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=screen, stderr=screen)
        while not list(project.glob("outputs/tiny/checkpoint-*")):
            assert process.poll() is None, (project / "screen.txt").read_text()
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    child = forge.run(project, "train", settings=SETTINGS)
    assert child.code == 0, child.said
    assert_equal(end_of(project), whole[0])


def go_on(project: Path, forge: Forge, child: Child) -> Child:
    """Type what the stopped training printed."""
    said = re.search(r"Go on with: make train CONFIG=(\S+)", child.said)
    assert said, child.said
    return forge.run(project, "train", "--config", said[1])


@pytest.mark.parametrize(
    ("name", "asked_by", "when"),
    [("SIGINT", "Ctrl-C", 0.3), ("SIGTERM", "SIGTERM", 0.45), ("SIGUSR1", "SIGUSR1", 0.6), ("", "make stop", 0.7)],
)
def test_asked_to_stop_it_saves_everything_and_says_how_to_go_on(
    project, whole, forge, name, asked_by, when, monkeypatch
):
    expected, operations, _ = whole
    child = forge.start(project, "train", settings=SETTINGS, hits={int(when * operations): signal.SIGSTOP})
    child.wait_until_frozen()
    monkeypatch.chdir(project)
    if name:
        child.signal(signal.Signals[name])
    else:
        assert call("stop", "--run", "another") == 2
        assert call("stop") == 0
    child.signal(signal.SIGCONT)
    assert child.wait() == 0, child.said
    run = project / "outputs" / "tiny"
    newest = newest_checkpoint(run)
    step = int(newest.name.partition("-")[2])
    assert 0 < step < STEPS
    assert f"{asked_by}: stopping after this step, with a checkpoint." in child.said
    assert f"Stopped by {asked_by} after step {step} of {STEPS}." in child.said
    assert not (run / "adapter").exists()
    assert not (run / "summary.json").exists()
    assert not (project / "adapters").exists()
    assert not (run / "stop").exists()
    again = go_on(project, forge, child)
    assert again.code == 0, again.said
    assert f"Going on from {newest.relative_to(project)}." in again.said
    end = end_of(project)
    assert not [name for name in end["files"] if ".tmp" in name]
    assert_equal(end | {"files": expected["files"]}, expected)  # the extra checkpoint takes the place of an older one


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_second_signal_stops_at_once_and_costs_no_checkpoint(project, whole, forge, number, code):
    expected, operations, _ = whole
    middle = operations // 2
    child = forge.run(project, "train", settings=SETTINGS, hits={middle: number, middle + 1: number})
    assert child.code == code, child.said
    assert "Go on with" not in child.said
    assert forge.run(project, "train", settings=SETTINGS).code == 0
    assert_equal(end_of(project), expected)


def test_a_run_is_trained_by_one_process_at_a_time(project, whole, forge, monkeypatch, capsys):
    child = forge.start(project, "train", settings=SETTINGS, hits={whole[1] // 2: signal.SIGSTOP})
    child.wait_until_frozen()
    monkeypatch.chdir(project)
    assert call("train", settings=SETTINGS) == 5
    assert "Another process is training the run tiny" in capsys.readouterr().err
    child.signal(signal.SIGCONT)
    assert child.wait() == 0, child.said
    assert_equal(end_of(project), whole[0])


def test_fresh_begins_anew_beside_the_old_run(project, forge):
    short = ("train.max_steps=2",)
    assert forge.run(project, "train", settings=short).code == 0
    runs = project / "outputs"
    before = {path: path.read_bytes() for path in sorted((runs / "tiny").rglob("*")) if path.is_file()}
    assert forge.run(project, "train", settings=short).code == 5
    child = forge.run(project, "train", "--fresh", settings=(*short, "seed=1"))
    assert child.code == 0, child.said
    assert "A fresh run: tiny-2. outputs/tiny stays as it is." in child.said
    assert (project / "adapters" / "last").resolve() == runs / "tiny-2" / "adapter"
    assert {path: path.read_bytes() for path in sorted((runs / "tiny").rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("name", ["stamp.json", "backend.json"])
def test_without_a_readable_stamp_it_does_not_go_on(project, forge, name):
    assert forge.run(project, "train", settings=("train.max_steps=2",)).code == 0
    run = project / "outputs" / "tiny"
    (run / "summary.json").unlink()
    (run / name).write_text("{", encoding="utf-8")
    child = forge.run(project, "train", settings=("train.max_steps=2",))
    assert child.code == 5
    assert f"outputs/tiny/{name}: Nothing says what made the checkpoints" in child.said
