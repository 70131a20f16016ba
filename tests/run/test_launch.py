"""The launch as a launcher's environment tells it, and a step that stays as large when processes are added."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.config.schema import TrainSection
from sftlib.config.settling import cut_step
from sftlib.errors import ConfigError, UsageError
from sftlib.run.folder import RunFolder
from sftlib.run.launch import Launch, find_launch

TWO = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "launch", "is_sharded"),
    [
        ({}, Launch(1, 0, 0, "single"), False),
        (TWO, Launch(2, 1, 1, "ddp"), False),
        (TWO | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, Launch(2, 1, 1, "fsdp2"), True),
        (TWO | {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
         Launch(2, 1, 1, "zero2"), False),
        (TWO | {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
         Launch(2, 1, 1, "zero3"), True),
    ],
)  # fmt: skip
def test_the_environment_says_it(environment, launch, is_sharded):
    found = find_launch(environment)
    assert (found, found.is_sharded, found.is_first) == (launch, is_sharded, launch.rank == 0)


def test_the_first_version_of_fsdp_is_refused():
    with pytest.raises(UsageError, match="first version of FSDP"):
        find_launch(TWO | {"ACCELERATE_USE_FSDP": "true"})


def test_going_on_needs_as_many_processes(monkeypatch):
    run = RunFolder(Path("outputs"), "first")
    assert run.go_on_command("auto") == "make train CONFIG=outputs/first/config.yaml"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run.go_on_command("auto") == "make train CONFIG=outputs/first/config.yaml ACCELERATE=ddp PROCESSES=2"
    assert find_launch().settings() == {"launch": "ddp, 2 processes"}


@pytest.mark.parametrize(
    ("micro", "accumulation", "effective", "processes", "settled"),
    [
        (4, "auto", 16, 1, (4, 16)), (4, "auto", 16, 2, (2, 16)), (4, "auto", 16, 4, (1, 16)),
        (2, 8, 16, 2, (4, 16)), (2, 8, None, 2, (4, 16)), (2, 8, None, 1, (8, 16)),
        (4, "auto", None, 2, (1, 8)),
    ],
)  # fmt: skip
def test_the_step_keeps_its_size(micro, accumulation, effective, processes, settled):
    train = TrainSection(batch_size=micro, grad_accum=accumulation, effective_batch_size=effective)
    assert cut_step(train, processes) == settled


@pytest.mark.parametrize(
    ("micro", "effective", "processes", "cure"),
    [
        (4, 16, 8, "Set train.effective_batch_size to 32, or train.batch_size to 2."),
        (4, 16, 3, "Set train.effective_batch_size to 24."),
    ],
)
def test_what_does_not_divide_is_refused_with_the_cure(micro, effective, processes, cure):
    with pytest.raises(ConfigError, match=f"micro-batches of {micro} for {processes} processes") as caught:
        cut_step(TrainSection(batch_size=micro, effective_batch_size=effective), processes)
    assert caught.value.cure == cure
