"""configs/accelerate/ as Accelerate itself reads it, `make train ACCELERATE=...`, and one real launch on the CPU."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)
from forking import SHARDS
from front_door import ROOT, make_venv, run
from safetensors.torch import load_file
from tiny_project import SCRIPTS, call, make_project, rows_of

from sftlib.run.launch import find_launch

FOLDER = ROOT / "configs" / "accelerate"
KINDS = {
    "single": DistributedType.NO, "ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP,
    "zero2": DistributedType.DEEPSPEED, "zero3": DistributedType.DEEPSPEED,
}  # fmt: skip


def launch_of(name: str, *options: str):
    """What `accelerate launch` makes of a config file and options, before it starts anything."""
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), *options, "scripts/train.py"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def test_there_is_one_file_for_each() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_each(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # refuses keys that it does not know
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == KINDS[name]
    assert config.num_processes == (1 if name == "single" else 2)
    assert config.mixed_precision == "no"  # the config of the training decides


def test_a_key_that_accelerate_does_not_know_is_seen(tmp_path: Path) -> None:
    text = (FOLDER / "ddp.yaml").read_text(encoding="utf-8")
    (tmp_path / "ddp.yaml").write_text(text + "\nnum_proceses: 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(tmp_path / "ddp.yaml"))


def test_fsdp2_is_launched_as_the_tests_launch_it() -> None:
    environment = prepare_multi_gpu_env(launch_of("fsdp2", "--num_processes", "4"))
    assert {key: environment[key] for key in SHARDS} == SHARDS
    assert find_launch(environment | {"WORLD_SIZE": "4"}).kind == "fsdp2"


def test_single_is_one_process_on_the_first_gpu() -> None:
    environment = prepare_simple_launcher_cmd_env(launch_of("single"))[1]
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert find_launch(environment).kind == "single"


@pytest.mark.parametrize(("name", "stage"), [("zero2", "2"), ("zero3", "3")])
def test_deepspeed_is_launched_with_its_stage(name: str, stage: str) -> None:
    launch = launch_of(name)
    launch.deepspeed_fields_from_accelerate_config = ""
    environment = prepare_deepspeed_cmd_env(launch)[1]
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert find_launch(environment | {"WORLD_SIZE": "2"}).kind == name


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    done = run("make", "-n", "train", "ACCELERATE=fsdp", f"VENV={make_venv(tmp_path / 'venv')}")
    assert done.returncode == 2
    assert "ACCELERATE=fsdp is none of ddp fsdp2 single zero2 zero3" in done.stderr


def test_a_number_alone_is_refused(tmp_path: Path) -> None:
    done = run("make", "-n", "train", "PROCESSES=2", f"VENV={make_venv(tmp_path / 'venv')}")
    assert done.returncode == 2
    assert "Do this: ACCELERATE=ddp, or fsdp2" in done.stderr


def test_without_deepspeed_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    venv = make_venv(tmp_path / "venv")
    done = run("make", "-n", "train", "ACCELERATE=zero3", f"VENV={venv}")
    assert done.returncode == 2
    assert "needs the package deepspeed. Do this: make install EXTRAS=deepspeed" in done.stderr
    (venv / "lib" / "python3.11" / "site-packages" / "deepspeed").mkdir(parents=True)
    assert run("make", "-n", "train", "ACCELERATE=zero3", f"VENV={venv}").returncode == 0


def test_a_real_launch_trains_as_one_process_does(tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    """The line of `make train ACCELERATE=ddp`, with this Python; without a GPU it runs on the CPU."""
    done = run("make", "-n", "train", "CONFIG=config.yaml", "ACCELERATE=ddp", f"VENV={make_venv(tmp_path / 'venv')}")
    words = shlex.split(done.stdout)
    project = make_project(tmp_path / "project", tiny_model)
    monkeypatch.chdir(project)
    settings = ("train.effective_batch_size=12", "eval.training_rows=0")
    assert call("process_data") == 0
    assert call("train", settings=(*settings, "run_name=alone")) == 0
    words = [sys.executable, *words[1:], "--set", settings[0], "--set", settings[1]]
    words = [word.replace("configs/accelerate", str(FOLDER)).replace("scripts/", f"{SCRIPTS}/") for word in words]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Adapter of rank 4") == 1  # one process speaks
    ours, theirs = (load_file(f"outputs/{name}/adapter/adapter_model.safetensors") for name in ("tiny", "alone"))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 2e-6
    assert [row.get("loss") for row in rows_of("outputs/tiny/metrics.jsonl")] == pytest.approx(
        [row.get("loss") for row in rows_of("outputs/alone/metrics.jsonl")], abs=2e-6
    )
