"""scripts/estimate.py: from a config file to the table, on a stored model, a bare config.json, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_project import call, make_project
from tiny_t5 import make_t5

from sftlib import build_estimate
from sftlib.config import load_config
from sftlib.memory.probe import Device

GIB = 2**30
CPU = Device("cpu", "test CPU", 16 * GIB, 8 * GIB, has_bf16=True)


@pytest.fixture(autouse=True)
def project(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on the tiny model, whose folder holds no weights; no GPU, whatever this machine has."""
    (tmp_path / "bare").mkdir()
    shutil.copy(tiny_model / "config.json", tmp_path / "bare")
    make_project(tmp_path, tmp_path / "bare")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build_estimate, "find_device", lambda: CPU)
    return tmp_path


def test_no_weights_and_no_gpu_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate") == 0
    out = capsys.readouterr().out
    for word in ("base, 16 or 32 bits", "adapter", "optimizer state", "activations", "loss", "key-value cache"):
        assert word in out
    assert "Smallest common card, 6% of it left free: a card of 6 GiB" in out
    assert "It fits a card of 8 GiB: 7.52 GiB may be used." in out


def test_an_encoder_decoder_is_asked_by_both_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    make_t5(Path("t5"))
    assert call("estimate", settings=("model.name=t5",)) == 2
    assert "Set model.type to seq2seq" in capsys.readouterr().err
    t5 = ("model.name=t5", "model.type=seq2seq", "model.max_target_len=63")
    assert call("estimate", settings=t5) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 x 128 + 64 tokens a micro-batch" in shown
    assert call("estimate", settings=(*t5, "model.attn_implementation=eager")) == 6


def test_a_card_that_is_too_small_is_an_exit_code_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("model.max_seq_len=512", "train.batch_size=32", "train.effective_batch_size=32")
    assert call("estimate", "--card", "0.52", settings=settings) == 4
    out = capsys.readouterr().out
    assert "It does not fit a card of 0.52 GiB" in out
    assert 'SET="train.batch_size=1 ' in out


def test_what_nothing_makes_smaller_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", "--card", "0.4") == 4
    assert "No setting makes it smaller" in capsys.readouterr().out


def test_an_evaluation_that_will_halve_its_batches_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("estimate", "--card", "1", settings=("eval.batch_size=4096",)) == 0
    out = capsys.readouterr().out
    assert "It fits a card of 1 GiB" in out
    assert "it will halve its batches by itself" in out


def test_an_open_batch_is_cut_as_far_as_it_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    """On a large card all rows go at once, then fewer; when nothing fits the smallest is shown."""
    settings = ["train.batch_size=auto", "train.effective_batch_size=512", "model.max_seq_len=512"]
    found = {
        card: build_estimate.estimate_config(load_config("config.yaml", settings), card).setup
        for card in (8, 1, 0.7, 0.4)
    }
    assert (found[8].rows, found[8].checkpointing, found[8].accumulates) == (512, False, False)
    assert 1 < found[1].rows < 512
    assert 512 % found[1].rows == 0
    assert found[0.7].rows < found[1].rows
    assert (found[0.4].rows, found[0.4].checkpointing, found[0.4].offload) == (1, True, True)
    assert "train.batch_size is auto" in capsys.readouterr().err
    assert call("estimate", "--card", "0.4", settings=tuple(settings)) == 4
    assert "1 x 512 tokens a micro-batch, gradient checkpointing with offload" in capsys.readouterr().err


def test_this_machine_s_gpu_is_asked_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    busy = Device("cuda", "a busy GPU", 24 * GIB, 0, (8, 6), has_bf16=True)
    monkeypatch.setattr(build_estimate, "find_device", lambda: busy)
    assert call("estimate") == 4  # of its 24 GiB other programs hold nearly all
    assert "It does not fit a busy GPU: 0.50 GiB may be used." in capsys.readouterr().out
    assert call("estimate", "--card", "24") == 0


@pytest.mark.parametrize("size", ["0", "-1", "many", "nan"])
def test_a_card_of_no_size_is_refused(size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        call("estimate", f"--card={size}")
    assert caught.value.code == 2


def test_without_a_gpu_nothing_is_verified(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib import build_peak

    monkeypatch.setattr(build_peak, "find_device", lambda: CPU)
    assert call("estimate", "--verify") == 4
    assert "There is no CUDA device here (cpu: test CPU), so nothing was measured." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.max_seq_len", 512), ("model.attn_implementation", "eager"), ("tuning.mode", "full"),
        ("tuning.lora.r", 64), ("tuning.lora.dropout", 0.1), ("tuning.lora.target_modules", "attn"),
        ("train.optim", "adamw_8bit"), ("train.gradient_checkpointing", False), ("train.batch_size", 4),
        ("train.bf16", False), ("train.grad_accum", 1), ("train.eval_strategy", "no"), ("eval.batch_size", 1),
        ("eval.max_new_tokens", 64), ("eval.training_rows", 0), ("train.activation_offload", True),
        ("train.packing", True), ("train.stream_layers", True),
    ],
)  # fmt: skip
def test_every_setting_that_changes_memory_arrives(key: str, value: object) -> None:
    also = {
        "train.batch_size": ["train.effective_batch_size=8"], "train.grad_accum": ["train.effective_batch_size=2"],
        "train.bf16": ["train.fp16=false"], "train.eval_strategy": ["train.load_best_model_at_end=false"],
    }  # fmt: skip
    base = [*also.get(key, []), "train.bf16=auto", "model.max_seq_len=256", "tuning.mode=lora"]
    plain = build_estimate.estimate_config(
        load_config("config.yaml", base if key != "train.grad_accum" else base[1:]), 8
    )
    changed = build_estimate.estimate_config(load_config("config.yaml", [*base, f"{key}={value}"]), 8)
    assert plain.estimate.moments != changed.estimate.moments
