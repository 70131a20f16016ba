"""What can learn passes; each way not to learn is seen, by its code, and nothing of the try is kept elsewhere."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import PAD, llama, make_rows, train_section, with_lora
from torch import nn

from sftlib.learn.gate import Learned, choose_rows, try_to_learn
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

ROWS = make_rows(2).examples


@pytest.fixture
def attempt(tmp_path: Path):
    """A function that tries a model on two rows; `train` takes changes to `train_section`."""

    def run(model: nn.Module, mode: str = "lora", rows=ROWS, **train: Any) -> Learned:
        return try_to_learn(
            model, rows, train=train_section(**train), mode=mode, precision="fp32", device="cpu", seed=7, pad_id=PAD,
            scratch=tmp_path / "scratch",
        )  # fmt: skip

    return run


def codes(found: Learned) -> list[str]:
    return [fault.code for fault in found.faults]


def test_an_adapter_learns_and_the_base_stays(attempt, tmp_path: Path) -> None:
    model = with_lora(llama())
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found = attempt(model)
    assert found.faults == []
    assert found.after < 0.97 * found.before
    assert (found.trainable, found.frozen) == (8, 21)  # two layers of q and v, A and B; the whole base
    assert all(torch.equal(weight, before[name]) == (".lora_" not in name) for name, weight in model.named_parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_every_weight_learns(attempt) -> None:
    found = attempt(llama(), "full")
    assert found.faults == []
    assert (found.trainable, found.frozen) == (21, 0)


def test_neither_warm_up_nor_dropout_nor_the_size_of_the_training_speak(attempt, tmp_path: Path) -> None:
    """Ten steps, each at the rate of the training and on the same two rows."""
    found = attempt(
        with_lora(llama(), dropout=0.5), warmup_ratio=1.0, lr_scheduler_type="cosine", epochs=100.0, batch_size=8,
        grad_accum=3, max_steps=1, max_minutes=0.001, learning_rate=1e-2,
    )  # fmt: skip
    assert found.faults == []
    records = [json.loads(line) for line in (tmp_path / "scratch/check/metrics.jsonl").read_text().splitlines()]
    supervised = sum(row.supervised for row in ROWS)
    assert [(record["learning_rate"], record["supervised_tokens"]) for record in records] == [(1e-2, supervised)] * 10


def test_an_adapter_that_is_frozen(attempt) -> None:
    model = with_lora(llama())
    for name, weight in model.named_parameters():
        weight.requires_grad_(weight.requires_grad and "v_proj" not in name)
    found = attempt(model)
    assert codes(found) == ["E701"]
    assert "4 tensors are frozen or trained against tuning.mode lora: " in found.faults[0].seen
    assert "v_proj.lora_A" in found.faults[0].seen


def test_nothing_to_train_and_a_base_that_is_not_frozen(attempt, tmp_path: Path) -> None:
    assert codes(attempt(llama(), "lora")) == ["E701"]
    model = with_lora(llama())
    model.base_model.model.lm_head.weight.requires_grad_(True)
    assert "lm_head" in attempt(model).faults[0].seen
    frozen = llama()
    frozen.requires_grad_(False)
    assert codes(attempt(frozen, "full")) == ["E701"]


def test_no_gradient_in_one_tensor(attempt) -> None:
    model = with_lora(llama())
    weight = next(weight for name, weight in model.named_parameters() if "lora_B" in name)
    weight.register_hook(torch.zeros_like)
    found = attempt(model)
    assert codes(found) == ["E702"]
    assert found.after is None


def test_a_gradient_that_is_nan_always_or_once(attempt, tmp_path: Path) -> None:
    model = with_lora(llama())
    weight = next(weight for name, weight in model.named_parameters() if "lora_B" in name)
    calls: list[int] = []

    def once(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * float("nan") if len(calls) == 4 else gradient

    hook = weight.register_hook(once)
    found = attempt(model)
    assert codes(found) == ["E703"]
    assert "1 of 10 steps were left out" in found.faults[0].seen
    assert "raw.jsonl:1, raw.jsonl:2" in found.faults[0].seen
    hook.remove()
    weight.register_hook(lambda gradient: gradient * float("nan"))
    (tmp_path / "scratch").rename(tmp_path / "first")
    assert codes(attempt(model)) == ["E703"]


def test_a_base_that_is_written_to(attempt) -> None:
    model = with_lora(llama())
    norm = model.get_base_model().model.norm.weight

    def touch(*given) -> None:
        if model.training:
            norm.data.mul_(1.0 + 2**-20)

    model.register_forward_hook(touch)
    found = attempt(model)
    assert codes(found) == ["E704"]
    assert "1 of 21 frozen tensors changed" in found.faults[0].seen
    assert "model.norm.weight" in found.faults[0].seen


@pytest.mark.parametrize("rate", [1e-9, 1.0], ids=["far too low", "far too high"])
def test_a_rate_that_teaches_nothing(attempt, rate: float) -> None:
    found = attempt(llama(), "full", learning_rate=rate)
    assert codes(found) == ["E705"]
    assert f"train.learning_rate {rate:g}" in found.faults[0].where


def test_memory_that_runs_out(attempt) -> None:
    model = with_lora(llama())

    def full(*given) -> None:
        if model.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    model.register_forward_hook(full)
    assert codes(attempt(model)) == ["E409"]


def test_ctrl_c_ends_it_at_once_and_nothing_is_saved(attempt, tmp_path: Path) -> None:
    model = with_lora(llama())

    def press(*given) -> None:
        if model.training:
            os.kill(os.getpid(), signal.SIGINT)

    model.register_forward_hook(press)
    with pytest.raises(KeyboardInterrupt):
        attempt(model)
    assert list(tmp_path.rglob("checkpoint-*")) == []


def test_the_rows_are_short_and_one_at_least() -> None:
    rows = ExampleDataset([Example([1] * size, [1] * size, f"r:{size}") for size in (300, 90, 100, 80)])
    assert [row.source for row in choose_rows(rows, 4, "cpu")] == ["r:80", "r:90"]
    assert [row.source for row in choose_rows(rows, 1, "cpu")] == ["r:80"]
    assert [row.source for row in choose_rows(rows, 3, "cuda")] == ["r:80", "r:90", "r:100"]
    assert [row.source for row in choose_rows(ExampleDataset([rows[0]]), 4, "cpu")] == ["r:300"]
