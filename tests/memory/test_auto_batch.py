"""train.batch_size auto through the real scripts: by numbers on a CPU, by trials where they are switched on for one."""

from __future__ import annotations

import gc
import math
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_project import call, make_processed_project

from sftlib import build, build_batch, build_estimate, build_examples, build_training
from sftlib.config import load_config
from sftlib.errors import ModelError
from sftlib.files import read_json
from sftlib.learn import probing
from sftlib.memory.probe import Device
from sftlib.memory.search import Choice, Found, Tried, search
from sftlib.model.blueprint import read_blueprint
from sftlib.tokens.dataset import ExampleDataset

GIB = 2**30
OPEN = ("train.batch_size=auto", "train.effective_batch_size=8")
CACHE = Path("outputs/.cache/micro_batches.json")


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_processed_project(tmp_path_factory.mktemp("auto") / "project", tiny_model)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage(processed: Path) -> None:
    """Keep what the first script imported out of the collections that trials make (a second each)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def project(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(processed, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """Trials are run on the CPU; the list holds those that were."""
    asked: list[Choice] = []
    trial = probing.Trial.__call__

    def watched(self, *choice):
        asked.append(Choice(*choice))
        return trial(self, *choice)

    monkeypatch.setattr(build_batch, "PROBED", ("cuda", "cpu"))
    monkeypatch.setattr(build_batch, "search", partial(search, seconds=math.inf))  # however busy the machine is
    monkeypatch.setattr(probing.Trial, "__call__", watched)
    machine(monkeypatch, 64 * GIB)
    return asked


def machine(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    device = Device("cpu", "test CPU", 128 * GIB, free, has_bf16=True)
    monkeypatch.setattr(build_training, "find_device", lambda: device)


def batch(run: str = "tiny") -> tuple:
    train = load_config(f"outputs/{run}/config.yaml").train
    return train.batch_size, train.grad_accum, train.gradient_checkpointing, train.activation_offload


def weights(run: str) -> bytes:
    return Path(f"outputs/{run}/adapter/adapter_model.safetensors").read_bytes()


def test_without_a_gpu_it_is_a_matter_of_numbers(monkeypatch, capsys):
    """Four rows at most; fewer, then checkpointing, as memory shrinks; the effective batch stays."""
    machine(monkeypatch, 64 * GIB)
    assert call("train", settings=OPEN) == 0
    assert batch() == (4, 2, False, False)
    assert read_json("outputs/tiny/backend.json")["batch"]["why"] == "estimated"
    assert "Micro-batch 4 x 2: weights and activations of about" in capsys.readouterr().err
    assert not CACHE.exists()
    assert call("train", settings=("run_name=stated", "train.batch_size=4", "train.effective_batch_size=8")) == 0
    assert weights("stated") == weights("tiny")


def test_a_machine_with_less_memory_takes_less(monkeypatch):
    config = build_training.foresee  # the very function of --dry-run
    settled, text, splits = prepared(*OPEN, "tuning.lora.dropout=0.1")
    shape = read_blueprint(text.stored.folder / "config.json", settled.tuning.lora, "auto")
    device = Device("cpu", "test CPU", 128 * GIB, 64 * GIB)
    longest = max(splits["train"].examples.lengths)
    for choice in (Choice(2, False, False), Choice(1, False, False), Choice(2, True, False), Choice(1, True, False)):
        asked = build_estimate.with_choice(settled, choice, 8)
        need = build_estimate.estimate(shape, build_estimate.setup_of(asked, device, longest)).total
        machine(monkeypatch, int(need / 0.94) + 2)  # so much that 94 % of it are what is needed
        train = config(settled, text, splits).train
        found = Choice(train.batch_size, train.gradient_checkpointing, train.activation_offload)
        if choice == Choice(2, True, False):  # fits no worse than one row without
            assert found in (choice, Choice(1, False, False))
        else:
            assert found == choice
        assert train.batch_size * train.grad_accum == 8


def prepared(*settings: str):
    config = build.settle(load_config("config.yaml", settings))
    text = build.load_text(config)
    return config, text, build_examples.prepare(config, text, {"train": Path("data/processed/train.jsonl")})


def test_nothing_fits_is_an_exit_code_and_advice(monkeypatch, capsys):
    machine(monkeypatch, GIB // 4)
    settings = (*OPEN, "tuning.mode=full", "tuning.lora.r=16", "tuning.lora.alpha=32", "train.activation_offload=auto")
    assert call("train", settings=settings) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "Not even one row of" in said
    assert "tokens fits test CPU with gradient checkpointing: it takes 0.5" in said
    assert "0.23 GiB is free" in said
    assert not list(Path("outputs/tiny").glob("*.json"))


def test_a_model_that_is_not_known_gets_what_was_measured_with(monkeypatch, capsys):
    def refuse(*args):
        raise ModelError("unknown")

    monkeypatch.setattr(build_batch, "read_blueprint", refuse)
    train = build_training.foresee(*prepared(*OPEN)).train
    assert (train.batch_size, train.grad_accum, train.gradient_checkpointing) == (4, 2, False)
    assert "not one whose memory can be estimated" in " ".join(capsys.readouterr().err.split())


def test_a_stated_accumulation_says_the_rest():
    train = build.settle(load_config("config.yaml", (*OPEN, "train.grad_accum=4"))).train
    assert (train.batch_size, train.grad_accum, train.effective_batch_size) == (2, 4, 8)
    assert (train.gradient_checkpointing, train.activation_offload) == (False, False)


def test_trials_are_run_and_change_nothing(probed, capsys):
    """The weights are those of a run in which what was found is stated."""
    assert call("train", settings=(*OPEN, "tuning.lora.dropout=0.2")) == 0
    assert [choice.size for choice in probed] == [1, 2, 4, 8]
    size, accumulation, checkpointing, offload = batch()
    assert (size * accumulation, checkpointing, offload) == (8, False, False)
    report = read_json("outputs/tiny/backend.json")["batch"]
    assert (report["batch_size"], report["why"]) == (size, "found by trial")
    assert [one["size"] for one in report["tried"]] == [1, 2, 4, 8]
    assert all(one["tokens_per_second"] > 0 and one["fits"] for one in report["tried"])
    assert "the fastest of 4 trials" in " ".join(capsys.readouterr().err.split())
    stated = ("run_name=stated", f"train.batch_size={size}", "train.effective_batch_size=8", "tuning.lora.dropout=0.2")
    assert call("train", settings=stated) == 0
    assert weights("stated") == weights("tiny")


def test_what_was_found_is_remembered(probed, capsys):
    assert call("train", settings=OPEN) == 0
    found, count = batch(), len(probed)
    capsys.readouterr()
    assert call("train", settings=(*OPEN, "run_name=again")) == 0
    assert (batch("again"), len(probed)) == (found, count)
    assert read_json("outputs/again/backend.json")["batch"]["why"] == "remembered from an earlier run"
    assert f"To find it anew: rm {CACHE}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "change",
    [
        "tuning.lora.r=2", "tuning.lora.dropout=0.1", "tuning.lora.target_modules=attn", "tuning.mode=full",
        "model.max_seq_len=127", "model.attn_implementation=eager", "train.optim=adafactor",
        "train.effective_batch_size=4", "train.gradient_checkpointing=true", "train.packing=true", "longest row",
        "free memory", "kind of the base", "precision",
    ],
)  # fmt: skip
def test_it_is_found_anew_when_something_changes(change, monkeypatch):
    """With the trials played, each with its own result."""
    monkeypatch.setattr(build_batch, "PROBED", ("cpu",))
    sizes = iter((2, 4))

    def played(*args):
        tried = Tried(Choice(next(sizes), "checkpointing" in change and changed, False), 1.0, 1, fits=True)
        return Found(tried, (tried,), 0.0), {}

    monkeypatch.setattr(build_batch, "_probe", played)
    _, text, splits = prepared(*OPEN)
    run = build_batch.RunFolder(Path("outputs"), "tiny")
    given = {
        "longest row": splits["train"].examples,
        "free memory": 64 * GIB,
        "kind of the base": "a",
        "precision": "bf16",
    }
    mutated = {
        "longest row": ExampleDataset(sorted(given["longest row"].examples, key=lambda one: len(one.input_ids))[:16]),
        "free memory": 63 * GIB, "kind of the base": "b", "precision": "fp32",
    }  # fmt: skip
    found = []
    for changed in (False, False, True):
        settings = (*OPEN, change) if changed and "=" in change else OPEN
        parts = given | ({change: mutated[change]} if changed and change in mutated else {})
        probe = build_batch.Probe(run, list, list, parts["precision"], {"base": parts["kind of the base"]})
        device = Device("cpu", "test CPU", 128 * GIB, parts["free memory"])
        config = build.settle(load_config("config.yaml", settings), device)
        found.append(
            build_batch.settle_batch(config, text, parts["longest row"], device, probe).config.train.batch_size
        )
    assert found == [2, 2, 4]


def test_a_run_goes_on_with_what_it_was_begun_with(probed):
    assert call("train", settings=OPEN) == 0
    begun, whole, count = batch(), weights("tiny"), len(probed)
    for path in ("adapter", "checkpoint-4"):
        shutil.rmtree(f"outputs/tiny/{path}")
    Path("outputs/tiny/summary.json").unlink()
    CACHE.unlink()
    assert call("train", settings=OPEN) == 0
    assert (batch(), len(probed)) == (begun, count)
    assert weights("tiny") == whole
    assert read_json("outputs/tiny/backend.json")["batch"]["why"] == "as the run was begun"


def test_what_slows_down_is_turned_on_only_when_needed_and_said(probed, monkeypatch, capsys):
    trial = probing.Trial.__call__

    def short_of_memory(self, size, checkpointing, *means):
        if not checkpointing or size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return trial(self, size, checkpointing, *means)

    monkeypatch.setattr(probing.Trial, "__call__", short_of_memory)
    assert call("train", settings=OPEN) == 0
    assert batch()[2:] == (True, False)
    assert batch()[0] <= 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Not even one row fits without gradient checkpointing: it is turned on." in said
    assert "activation offload: it" not in said
    tried = read_json("outputs/tiny/backend.json")["batch"]["tried"]
    assert [(one["size"], one["checkpointing"], one["fits"]) for one in tried] == [
        (1, False, False), (1, True, True), (2, True, True), (4, True, False),
    ]  # fmt: skip


def test_no_trial_fits(probed, monkeypatch, capsys):
    def none(self, *choice):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(probing.Trial, "__call__", none)
    monkeypatch.setattr("sftlib.memory.plan.LEAST_SAVING", 1)
    assert call("train", settings=(*OPEN, "tuning.lora.r=16")) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "tokens fits test CPU with gradient checkpointing: memory ran out" in said
    assert said.count("(saves about") == 3
    assert "tuning.mode=qlora" in said
    assert not CACHE.exists()


def test_a_size_that_memory_ran_out_with_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(build_batch, "PROBED", ("cpu",))
    config, text, splits = prepared(*OPEN)
    rows = splits["train"].examples
    run = build_batch.RunFolder(Path("outputs"), "tiny")
    run.path.mkdir(parents=True)
    device = Device("cpu", "test CPU", 128 * GIB, 64 * GIB)
    tried = Tried(Choice(8, False, False), 1.0, 1, fits=True)
    monkeypatch.setattr(build_batch, "_probe", lambda *args: (Found(tried, (tried,), 0.0), {}))

    def settle():
        return build_batch.settle_batch(config, text, rows, device, build_batch.Probe(run, list, list, "fp32"))

    first = settle()
    assert first.config.train.batch_size == 8
    longest = max(rows.lengths)
    for count, length, size in ((3, longest, 2), (2, longest // 2, 1)):
        first.remember(count, length)
        assert settle().config.train.batch_size == size
    assert settle().found is None


def test_a_dry_run_says_what_it_can(probed, monkeypatch, capsys):
    assert call("train", "--dry-run", settings=OPEN) == 0
    shown = capsys.readouterr()
    assert "batch_size: auto" in shown.out
    assert "found by trial when the training starts" in shown.err
    monkeypatch.setattr(build_batch, "PROBED", ("cuda",))
    assert call("train", "--dry-run", settings=OPEN) == 0
    assert "batch_size: 4" in capsys.readouterr().out
    assert probed == []


def test_offload_on_a_cpu_is_left_out_and_stamped():
    assert call("train", settings=("train.activation_offload=true",)) == 0
    assert batch() == (2, 2, False, False)
    assert any(
        "train.activation_offload is left out" in said for said in read_json("outputs/tiny/stamp.json")["warnings"]
    )


def test_an_evaluation_leaves_it_open():
    assert call("train", settings=(*OPEN, "train.max_steps=2")) == 0
    assert call("eval", settings=(*OPEN, "eval.limit=1")) == 0
    assert call("hardware", settings=OPEN) == 0
