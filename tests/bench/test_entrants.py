"""Each peer runs in its own environment; ours is read from what a run leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bench_parts import make_work

from sftlib.bench.card import PEERS_ON_A_CARD
from sftlib.bench.entrants import check_environments, check_names, find_entrants, ourselves, spelled
from sftlib.bench.generation import ENTRANTS as ANSWERING
from sftlib.bench.preparation import Preparation
from sftlib.bench.training import ENTRANTS
from sftlib.errors import UsageError
from sftlib.files import ROOT, sha256_file


def test_each_peer_has_the_python_of_its_environment() -> None:
    ours, trainer, trl, factory = find_entrants(ENTRANTS, ["trainer", "trl", "llamafactory"], {"trl": Path("/tmp/trl")})
    assert ours.name == "sft-play"
    assert ours.python == trainer.python == Path(sys.executable)
    assert trl.python == Path("/tmp/trl/bin/python")
    assert factory.python == ROOT / ".venv-bench-llamafactory" / "bin" / "python"


def test_without_names_all_take_part_and_each_has_its_runner_and_pins() -> None:
    everyone = find_entrants(ENTRANTS, [], {})
    assert [one.name for one in everyone] == [one.name for one in ENTRANTS]
    preparing = Preparation(folder="f", device="a CPU", model="m", max_length=64, counts=[{"rows": 5}]).entrants()
    for one in (*everyone, *ANSWERING, *preparing, *PEERS_ON_A_CARD):
        assert one.runner.is_file()
        assert not one.environment or (ROOT / f"requirements-bench-{one.environment}.txt").is_file()


def test_a_peer_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no peer 'axolotl'"):
        check_names(["trl", "axolotl"], ENTRANTS)
    check_names(["trl", "none"], ENTRANTS)


def test_an_environment_that_nobody_runs_in_is_refused() -> None:
    with pytest.raises(UsageError, match="No peer runs in an environment 'lf'"):
        check_environments({"lf": Path("/tmp/lf")})
    check_environments({"llamafactory": Path("/tmp/lf"), "trl": Path("/tmp/trl")})


def test_we_may_run_alone() -> None:
    assert [one.name for one in find_entrants(ENTRANTS, ["none"], {})] == ["sft-play"]
    sizes = Preparation(
        folder="f", device="a CPU", model="m", max_length=64, counts=[{"rows": 5}, {"rows": 6}]
    ).entrants()
    assert find_entrants(sizes, ["none"], {}) == sizes  # all of it is ours
    with pytest.raises(UsageError, match="There is no peer '5-rows'"):
        check_names(["5-rows"], sizes)


def test_a_job_of_ours_goes_through_the_script(tmp_path: Path) -> None:
    command = ourselves("OURS", rows=5).command(make_work(tmp_path), tmp_path, check=False)
    assert command == [sys.executable, str(ROOT / "scripts" / "bench.py"), "--job", str(tmp_path / "job.json")]
    assert json.loads((tmp_path / "job.json").read_text())["options"] == {"rows": 5}


def test_ours_is_make_train_with_the_config_of_the_bench(tmp_path: Path) -> None:
    command = ENTRANTS[0].command(make_work(tmp_path), tmp_path / "round-1", check=False)
    assert command == [
        sys.executable, str(ROOT / "scripts" / "train.py"), "--config", str(tmp_path / "config.yaml"),
        "--set", "run_name=run", "--set", f"train.output_dir={tmp_path / 'round-1'}",
    ]  # fmt: skip


def test_ours_reports_what_it_trained_on(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"user": "1"}\n{"user": "2"}\n')
    run = tmp_path / "round-1" / "run"
    run.mkdir(parents=True)
    times = {"supervised_tokens": 200, "wall_seconds": 5.0, "steps": 6, "peak_memory_gib": 1.5}
    versions = {"python": "3", "torch": "2", "transformers": "5", "peft": "0"}
    (run / "time_metrics.json").write_text(json.dumps(times))
    (run / "backend.json").write_text(json.dumps({"versions": versions}))
    (run / "stamp.json").write_text(json.dumps({"data": {"train": sha256_file(tmp_path / "train.jsonl")}}))
    work = make_work(tmp_path, epochs=2.0)
    report = ENTRANTS[0].report(work, tmp_path / "round-1", 0.0)
    assert report == {
        "rows": 2, "supervised": 100.0, "seconds": 5.0, "steps": 6, "gpu_gib": 1.5,
        "adapter": str(run / "adapter"),
        "versions": {"torch": "2", "transformers": "5", "peft": "0"},
    }  # fmt: skip
    (tmp_path / "train.jsonl").write_text('{"user": "1"}\n{"user": "3"}\n')
    assert ENTRANTS[0].report(work, tmp_path / "round-1", 0.0)["rows"] == 0  # it was trained on other rows


def test_options_are_spelled() -> None:
    assert spelled({"packing": True, "max_length": None}) == "packing=true, max_length=null"
