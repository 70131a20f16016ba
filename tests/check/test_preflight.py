"""The whole pre-flight by its real script on a tiny project: each planted fault is seen by its code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import bitsandbytes
import pytest
import torch
from tiny_project import SCRIPTS, call, make_processed_project, rows_of
from torch import nn

from sftlib import build_backend, build_check_model
from sftlib.memory import torch_build
from sftlib.memory.probe import Device
from sftlib.run import disk, versions

GIB = 2**30
CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB)
TRAIN, VAL = Path("data/processed/train.jsonl"), Path("data/processed/val.jsonl")
WITHOUT_END = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
REWRITING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with its splits. Copy it, never write into it."""
    return make_processed_project(tmp_path_factory.mktemp("check") / "project", tiny_model)


@pytest.fixture(autouse=True)
def project(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as current folder, on a machine without a GPU."""
    shutil.copytree(processed, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(build_check_model, "find_device", lambda: CPU)
    return tmp_path / "project"


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]):
    """A function that runs the script; it returns the exit code and the codes of the faults, in the order found."""

    def run(*settings: str) -> tuple[int, list[str]]:
        exit_code = call("check", settings=settings)
        out = capsys.readouterr().out
        found = re.findall(r"^FAILED   [a-z ]+: (E\d{3}) ", out, re.M)
        table = out.partition("the codes stand in docs/ERRORS.md")[2]
        assert [line.split()[0] for line in table.splitlines() if re.match(r"E\d{3} ", line)] == found
        return exit_code, found

    return run


def write(path: str | Path, rows: list[dict]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_what_is_right_passes_in_a_line_each(project: Path, capsys) -> None:
    assert call("check") == 0
    out = capsys.readouterr().out
    said = re.findall(r"^ok       ([a-z ]+): ", out, re.M)
    assert said == [
        "config", "versions", "train split", "val split", "test split", "rows", "leaks", "settings", "device", "model",
        "mask",
        "lengths", "end of turn", "memory", "disk", "learning",
    ]  # fmt: skip
    assert "«Step 1: add them." in out
    assert re.search(r"^train\.bf16 +│ false", out, re.M) is None  # asked for, so not settled
    assert re.search(r"^tuning\.backend +│ auto +│ plain", out, re.M)
    # 14 layers of rank 4: 4096 numbers in 28 tensors; 4 + 8 bytes a number and 4 a tensor, for each of two saves
    assert f"(2 checkpoints {2 * (12 * 4096 + 4 * 28) / 1024:.1f} KiB, the result 16.0 KiB, the merged model" in out
    assert sorted(path.name for path in Path("outputs").iterdir()) == [".cache"]  # nothing that it trains is kept
    assert not Path("adapters").exists()


@pytest.mark.parametrize(
    ("settings", "exit_code", "code"),
    [
        (["train.batch_size=none"], 2, "E201"),
        (["train.fp16=true"], 2, "E200"),
        (["tuning.lora.target_modules=[nothing_like_it]"], 2, "E200"),
        (["model.name=no/such/model"], 6, "E600"),
        (["model.max_seq_len=8"], 3, "E305"),
        (["model.max_seq_len=8", "data.truncation=truncate"], 3, "E306"),
        (["model.max_seq_len=20", "data.truncation=truncate"], 6, "E603"),  # of every answer a part, and no end
        (["tuning.mode=qlora", "tuning.backend=unsloth", "tuning.backend_fallback=false"], 4, "E406"),
        (["train.learning_rate=1e-9"], 7, "E705"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_setting_that_will_not_do(check, settings: list[str], exit_code: int, code: str) -> None:
    found, codes = check(*settings)
    assert (found, set(codes)) == (exit_code, {code})


def test_no_data(check) -> None:
    shutil.rmtree("data")
    assert check() == (3, ["E301", "E301"])  # train and val; a test split need not be there
    assert check("train.eval_strategy=no", "train.load_best_model_at_end=false") == (3, ["E301"])


def test_a_split_without_rows_and_one_that_is_broken(check) -> None:
    VAL.write_text("", encoding="utf-8")
    TRAIN.write_text('{"question": "Why?"}\n', encoding="utf-8")
    assert check() == (3, ["E303", "E302"])


def test_a_question_in_two_splits(check) -> None:
    rows = rows_of(VAL)
    write(VAL, [*rows, rows_of(TRAIN)[0] | {"user": rows_of(TRAIN)[0]["user"].upper()}])
    assert check() == (3, ["E304"])


@pytest.mark.parametrize(("template", "code"), [(REWRITING, "E601"), (WITHOUT_END, "E602")])
def test_a_template_that_will_not_do(check, template: str, code: str) -> None:
    Path("own.jinja").write_text(template, encoding="utf-8")
    assert check("data.template_path=own.jinja") == (6, [code])


def test_rows_that_were_rendered_for_another_model(check) -> None:
    for path in (TRAIN, VAL):
        pairs = [{"input": row["user"], "target": row["assistant"] + "</s>"} for row in rows_of(path)]
        write(path, pairs)
    assert check() == (3, ["E307"])
    for path in (TRAIN, VAL):  # a special token of this model, which does not end a turn
        write(path, [row | {"target": row["target"].replace("</s>", "<pad>")} for row in rows_of(path)])
    assert check() == (6, ["E603"])
    rows = rows_of(TRAIN)  # all but some: one in sixteen is more than data.max_rejected
    write(TRAIN, rows[:2] + [row | {"target": row["target"].replace("<pad>", "<|im_end|>")} for row in rows[2:]])
    assert check() == (6, ["E603"])
    assert check("data.max_rejected=0.07") == (0, [])


def test_versions_that_are_wrong_or_not_there(check, monkeypatch) -> None:
    right = versions.importlib.metadata.version

    def version(name: str) -> str:
        if name == "wandb":
            raise PackageNotFoundError(name)
        return "2.9.1" if name == "torch" else right(name)

    monkeypatch.setattr(versions.importlib.metadata, "version", version)
    monkeypatch.setattr(versions.python_faults, "__defaults__", ((3, 9),))
    assert check("logging.backend=wandb") == (4, ["E401", "E403", "E402"])


def test_a_gpu_that_pytorch_does_not_use(check, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch_build, "DRIVER_SIGNS", (tmp_path / "nvidia0",))
    monkeypatch.setattr(torch_build.refuse_unused_gpu, "__defaults__", (None,))
    assert check() == (4, ["E404"])
    monkeypatch.setattr(torch_build.refuse_unused_gpu, "__defaults__", ("13.0",))
    assert check() == (4, ["E405"])


def test_kernels_that_are_broken(check, monkeypatch) -> None:
    right = bitsandbytes.matmul_4bit
    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda *given, **named: right(*given, **named) * 1.1)
    assert check("tuning.mode=qlora") == (4, ["E407"])
    product = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: product(*given) * 1.1)
    assert check() == (4, ["E408"])


def test_the_kernels_of_qlora_as_they_are(check) -> None:
    assert check("tuning.mode=qlora") == (0, [])


def test_too_little_memory_and_too_little_disk_are_told_together(check, monkeypatch) -> None:
    monkeypatch.setattr(build_check_model, "find_device", lambda: Device("cpu", "small", GIB, GIB // 100))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    assert check() == (4, ["E409", "E410"])


def freeze(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        if "v_proj.lora" in name:
            weight.requires_grad_(False)


def silence(model: nn.Module) -> None:
    next(weight for name, weight in model.named_parameters() if "lora_B" in name).register_hook(torch.zeros_like)


def poison(model: nn.Module) -> None:
    weight = next(weight for name, weight in model.named_parameters() if "lora_B" in name)
    weight.register_hook(lambda gradient: gradient * float("nan"))


def write_into_the_base(model: nn.Module) -> None:
    norm = model.get_base_model().model.norm.weight

    def touch(*given) -> None:
        if model.training:
            norm.data.mul_(1.0 + 2**-20)

    model.register_forward_hook(touch)


@pytest.mark.parametrize(
    ("break_it", "code"), [(freeze, "E701"), (silence, "E702"), (poison, "E703"), (write_into_the_base, "E704")]
)
def test_a_model_that_cannot_learn(check, monkeypatch, break_it, code: str) -> None:
    right = build_backend.load_trainable

    def load(*given, **options):
        model = right(*given, **options)
        break_it(model)
        return model

    monkeypatch.setattr(build_backend, "load_trainable", load)
    assert check() == (7, [code])


def test_faults_of_every_kind_are_told_together(check, monkeypatch) -> None:
    write(VAL, [*rows_of(VAL), rows_of(TRAIN)[0]])
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    assert check("train.learning_rate=1e-9") == (7, ["E304", "E410", "E705"])


def test_a_broken_config_hides_no_wrong_version(check, monkeypatch) -> None:
    monkeypatch.setattr(versions.python_faults, "__defaults__", ((3, 9),))
    assert check("train.batch_size=none") == (4, ["E201", "E401"])


def test_what_needs_no_pytorch_is_looked_at_before_it_is_imported() -> None:
    code = "import sys, sftlib.build_check; print(*sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_pytorch_that_cannot_be_imported_is_a_fault_like_any_other(check, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sftlib.build_check_model", None)  # its import fails
    write(VAL, [*rows_of(VAL), rows_of(TRAIN)[0]])
    assert check() == (4, ["E304", "E402"])
