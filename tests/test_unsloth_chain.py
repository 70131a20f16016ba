"""The scripts with the stand-in for Unsloth (tests/fake_unsloth): trained by it, used without it, compared with bnb."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import SCRIPTS, call, make_processed_project, rows_of

from sftlib import build_backend, build_comparison
from sftlib.build_comparison import Trained, outside, show
from sftlib.config import load_config
from sftlib.errors import MachineError
from sftlib.files import read_json
from sftlib.memory.probe import Device
from sftlib.model.backend import unsloth

GPU = Device("cuda", "a GPU", 8 * 2**30, 7 * 2**30, (8, 6), has_bf16=True)
# A script in a process of its own, in which the choice of the backend sees a GPU; the rest trains on the CPU.
WITH_A_GPU = """
import runpy, sys
sys.path.insert(0, {scripts!r})
from sftlib import build_backend
from sftlib.memory.probe import Device
assert "transformers" not in sys.modules, "the assembly up to the choice brings transformers along"
build_backend.find_device = lambda: {gpu!r}
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CHECKPOINTED = "train.gradient_checkpointing=true"


@pytest.fixture(scope="module")
def processed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with splits."""
    return make_processed_project(tmp_path_factory.mktemp("unsloth") / "project", tiny_model)


def with_a_gpu(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [str(SCRIPTS / script), "--config", "config.yaml", *options]
    code = WITH_A_GPU.format(scripts=str(SCRIPTS), gpu=GPU, argv=argv)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)


def test_it_trains_as_plain_does_and_its_adapter_is_used_without_it(fake_unsloth, processed, monkeypatch):
    """Import order, trial, training with answers in between, stamp; the numbers are those of the plain backend."""
    monkeypatch.chdir(processed)
    settings = ("tuning.backend=unsloth", "tuning.backend_fallback=false", CHECKPOINTED, "run_name=fast")
    done = with_a_gpu("train.py", *(part for one in settings for part in ("--set", one)))
    assert done.returncode == 0, done.stderr
    assert "imported after" not in " ".join(done.stderr.split())
    assert "Unsloth" not in done.stdout
    backend = read_json("outputs/fast/backend.json")
    assert (backend["asked"], backend["used"], backend["reason"]) == ("unsloth", "unsloth", "")
    assert read_json("outputs/fast/stamp.json")["backend"] == "unsloth"

    assert call("train", settings=("tuning.backend=plain", CHECKPOINTED, "run_name=plain")) == 0
    fast, plain = (
        [record["loss"] for record in rows_of(f"outputs/{run}/metrics.jsonl") if "loss" in record]
        for run in ("fast", "plain")
    )
    assert len(fast) == 4
    assert fast == pytest.approx(plain, rel=1e-6)
    names = {path.name for path in Path("outputs/plain/adapter").iterdir()}
    assert {path.name for path in Path("outputs/fast/adapter").iterdir()} == names
    for name in ("base.json", "generation_config.json"):
        assert read_json(f"outputs/fast/adapter/{name}") == read_json(f"outputs/plain/adapter/{name}"), name
    assert read_json("outputs/fast/adapter/adapter_config.json")["base_model_name_or_path"] == str(
        load_config("config.yaml").model.name
    )

    asked = ("tuning.backend=unsloth", "tuning.backend_fallback=false")  # and not needed to answer
    assert call("eval", "--run", "fast", "--split", "val", settings=asked) == 0
    assert call("infer", "--run", "fast", "--prompt", "What is 1 and 2?", settings=asked) == 0
    merged = ("--adapters", "outputs/fast/adapter", "--out", "outputs/fast/merged", "--dtype", "bf16")
    assert call("merge_lora", *merged, settings=asked) == 0


def test_a_trial_that_fails_leaves_another_backend_with_its_reason(fake_unsloth, processed, capsys):
    fake_unsloth.chdir(processed)
    fake_unsloth.setattr(build_backend, "find_device", lambda: GPU)
    fake_unsloth.setenv("FAKE_UNSLOTH", "no accelerator")
    reason = "it cannot be imported: NotImplementedError: Unsloth cannot find any torch accelerator? You need a GPU."
    once = ("tuning.backend=unsloth", "run_name=fallen", "train.max_steps=1", "train.eval_strategy=no")
    assert call("train", settings=(*once, "train.load_best_model_at_end=false")) == 0
    assert f"but {reason}; training with plain instead." in " ".join(capsys.readouterr().err.split())
    backend = read_json("outputs/fallen/backend.json")
    assert (backend["asked"], backend["used"], backend["reason"]) == ("unsloth", "plain", reason)
    assert any(reason in warning for warning in read_json("outputs/fallen/stamp.json")["warnings"])
    assert call("train", settings=(*once, "tuning.backend_fallback=false")) == 4
    assert "unsloth" not in sys.modules


# -- The comparison ---------------------------------------------------------------------------------------------------


@pytest.fixture
def children_here(fake_unsloth: pytest.MonkeyPatch, processed: Path):
    """The two trainings of a comparison, played in this process; the stand-in passes its trial."""
    fake_unsloth.chdir(processed)
    fake_unsloth.setattr(build_backend, "find_device", lambda: GPU)
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "")

    def play(backend: str, report: Path) -> Trained:
        build_comparison.train_steps(load_config("config.yaml", [CHECKPOINTED]), backend, 3, report)
        return Trained(**read_json(report))

    return play


def test_both_are_really_trained(children_here, tmp_path):
    bnb, fast = (children_here(backend, tmp_path / backend) for backend in ("bnb", "unsloth"))
    assert (bnb.backend, fast.backend, len(bnb.losses)) == ("bnb", "unsloth", 3)
    assert fast.losses == pytest.approx(bnb.losses, rel=1e-6)
    assert len(set(bnb.losses)) == 3
    assert min(bnb.tokens_per_second, bnb.peak_gib) > 0
    assert outside(bnb, fast) == []


def test_nothing_takes_unsloths_place_in_a_comparison(children_here, fake_unsloth, tmp_path):
    fake_unsloth.setattr(unsloth, "_trial", lambda request: "it is shy")
    with pytest.raises(MachineError, match="it is shy"):
        children_here("unsloth", tmp_path / "report")


def test_each_is_trained_in_a_process_of_its_own(fake_unsloth, processed, capsys):
    fake_unsloth.chdir(processed)
    fake_unsloth.setattr(build_comparison, "find_device", lambda: GPU)
    commands = []

    def run(command, check):
        commands.append(command)
        report = Path(command[command.index("--report") + 1])
        report.write_text(json.dumps({"backend": report.stem, "losses": [2.0], "tokens_per_second": 1, "peak_gib": 1}))
        return subprocess.CompletedProcess(command, 0)

    fake_unsloth.setattr(build_comparison.subprocess, "run", run)
    assert call("verify_unsloth", "--steps", "1", settings=("seed=5",)) == 0
    common = [sys.executable, str(SCRIPTS / "verify_unsloth.py"), "--config", "config.yaml", "--set", "seed=5"]
    assert [command[:9] for command in commands] == [[*common, "--steps", "1", "--only"]] * 2
    assert [command[9] for command in commands] == ["bnb", "unsloth"]
    fake_unsloth.setattr(
        build_comparison.subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 4)
    )
    assert call("verify_unsloth") == 4
    assert "The training with bnb ended with code 4" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(processed, monkeypatch, capsys):
    monkeypatch.chdir(processed)
    assert call("verify_unsloth") == 4
    assert "There is no GPU here" in capsys.readouterr().err
    assert call("verify_unsloth", "--only", "bnb") == 2


BNB = Trained("bnb", [2.0, 1.0, 0.5], 100.0, 4.0)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([2.019, 1.0, 0.5], []),
        ([2.021, 1.0, 0.5], ["the first loss is +1.05% apart, 1% is allowed"]),
        ([2.0, 0.955, 0.5], []),
        ([2.0, 0.945, 0.5], ["the loss of step 2 is -5.50% apart, 5% is allowed"]),
        ([2.0, 1.045, 0.5225], ["the losses are +3.00% apart on average, 2% is allowed"]),
        ([2.0, float("nan"), 0.5], ["the loss of step 2 is +nan% apart, 5% is allowed",
                                    "the losses are +nan% apart on average, 2% is allowed"]),
        ([2.0, 1.0], ["bnb and unsloth with 3 and 2 steps are no comparison"]),
    ],
)  # fmt: skip
def test_the_tolerance(losses, words):
    assert outside(BNB, Trained("unsloth", losses, 1.0, 1.0)) == words


def test_a_small_loss_is_no_measure():
    """0.001 and 0.003: learnt by heart by both, 0.2 percentage points of 0.1 apart."""
    bnb, fast = Trained("bnb", [1.0, 0.001], 1.0, 1.0), Trained("unsloth", [1.0, 0.003], 1.0, 1.0)
    assert statistics.mean(build_comparison._apart(bnb, fast)) == pytest.approx(0.01)
    assert outside(bnb, fast) == []


def test_a_backend_is_not_compared_with_itself():
    assert outside(BNB, BNB) == ["bnb and bnb with 3 and 3 steps are no comparison"]


def test_both_stand_in_one_table(capsys):
    show(BNB, Trained("unsloth", [2.0, 1.1, 0.5], 150.0, 3.0))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "loss, step 2 │ 1.0000 │ 1.1000 │ +10.00%",
        "tokens/s, median step │ 100.00 │ 150.00 │ x 1.50",
        "peak memory, GiB │ 4.00 │ 3.00 │ x 0.75",
        "Outside the tolerance: the loss of step 2 is +10.00% apart, 5% is allowed.",
    ):
        assert any(line in found.replace("|", "│") for found in lines), (line, lines)


def test_the_pre_flight_tries_it_before_anything_imports_transformers(fake_unsloth, processed, monkeypatch):
    monkeypatch.chdir(processed)
    settings = ("tuning.backend=unsloth", "tuning.backend_fallback=false", CHECKPOINTED)
    done = with_a_gpu("check.py", *(part for one in settings for part in ("--set", one)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       device: lora by unsloth; " in done.stdout
    assert "ok       learning: " in done.stdout
    assert "imported after" not in " ".join(done.stderr.split())
