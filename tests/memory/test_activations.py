"""What autograd keeps, measured on tiny models of every family, is what the formula says, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from memory_parts import FAMILIES, a_pass, allocated, autocast, batch, kept_bytes, load, make, peaks_of_a_step

from sftlib.learn.logprobs import ROW_INPUTS, causal_model
from sftlib.learn.packing import pack
from sftlib.memory.activations import checkpoint_bytes, stored_bytes
from sftlib.memory.estimate import Setup, estimate
from sftlib.model.adapters import enable_gradient_checkpointing

RUNS = [  # mode, precision, attention, targets
    ("qlora", "bf16", "auto", "auto"), ("lora", "bf16", "auto", "attn"), ("lora", "fp32", "auto", "auto"),
    ("lora", "bf16", "eager", "auto"), ("full", "bf16", "auto", "auto"), ("full", "fp32", "eager", "auto"),
]  # fmt: skip


def a_setup(mode: str, precision: str, *, rank: int, **given: Any) -> Setup:
    """Of a training on a CPU."""
    common = {
        "dropout": False, "optim": "adamw_torch", "checkpointing": False, "accumulates": True, "answer_rows": 0,
        "eval_rows": 1, "eval_tokens": 1, "logits_bytes": 64 * 2**20, "softmax_bytes": 16 * 2**20, "device": "cpu",
    }  # fmt: skip
    return Setup(mode=mode, rank=rank, width=2 if precision == "bf16" else 4, **common | given)


def collated(rows: dict[str, Any]) -> dict[str, Any]:
    """Rows of one length, with what packing asks for besides."""
    return rows | {"labels": rows["input_ids"], "lengths": [rows["input_ids"].shape[1]] * len(rows["input_ids"])}


def measure(model, precision: str, rows: int, length: int, is_padded: bool) -> int:
    inputs = batch(rows, length, is_padded=is_padded)
    with autocast(precision):
        return kept_bytes(lambda: causal_model(model).get_decoder()(**inputs, use_cache=False), model)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_is_the_formula_to_the_byte(family: str, tmp_path: Path) -> None:
    folder = make(family, tmp_path)
    for mode, precision, attention, targets in RUNS:
        model, shape = load(folder, mode, precision, attention=attention, targets=targets)
        for rows, length, is_padded in ((2, 24, True), (3, 40, False)):
            run = a_pass(mode, precision, rows, length, is_padded=is_padded)
            found = measure(model, precision, rows, length, is_padded)
            assert stored_bytes(shape, run) == found, (mode, precision, attention, targets, rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_packed_row_too(family: str, tmp_path: Path) -> None:
    """Three rows of 24 tokens each, as one row with a mask, or laid out as rows for attention only."""
    folder, rows, length = make(family, tmp_path), 3, 24
    varlen = [("lora", "bf16", "varlen", "auto"), ("full", "fp32", "varlen", "auto")] if family != "gemma2" else []
    for mode, precision, attention, targets in [*RUNS[2:5], *varlen]:
        model, shape = load(folder, mode, precision, attention=attention, targets=targets)
        setup = a_setup(mode, precision, rows=rows, length=length, rank=4, packing=True)
        inputs = pack(model, collated(batch(rows, length, is_padded=False)))
        given = {name: inputs[name] for name in ROW_INPUTS if name in inputs}
        with autocast(precision):
            decoder = causal_model(model).get_decoder()
            found = kept_bytes(lambda: decoder(**given, use_cache=False), model)  # noqa: B023
        assert stored_bytes(shape, setup.forward()) == found, (mode, precision, attention, targets)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 96, "intermediate_size": 224},
        {"num_hidden_layers": 5},
        {"num_key_value_heads": 4},
        {"num_attention_heads": 8, "num_key_value_heads": 1},
        {"num_attention_heads": 8, "num_key_value_heads": 1, "attention": "eager"},
    ],
)
def test_other_widths_and_depths(changes: dict, tmp_path: Path) -> None:
    attention = changes.pop("attention", "sdpa")
    folder = make("llama", tmp_path, **changes)
    model, shape = load(folder, "lora", "bf16", rank=6, attention=attention)
    for rows, length in ((1, 65), (4, 130)):
        run = a_pass("lora", "bf16", rows, length, rank=6, is_padded=rows > 1)
        assert stored_bytes(shape, run) == measure(model, "bf16", rows, length, rows > 1)


def test_a_window_shorter_than_the_text_needs_a_mask_without_padding(tmp_path: Path) -> None:
    folder = make("gemma2", tmp_path, sliding_window=32)  # the first block of two
    model, shape = load(folder, "lora", "bf16")
    assert shape.windows == (32, None)
    for length in (31, 48):
        run = a_pass("lora", "bf16", 2, length, is_padded=False)
        assert stored_bytes(shape, run) == measure(model, "bf16", 2, length, is_padded=False)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi"])
def test_with_checkpointing_only_the_inputs_of_blocks_are_kept(family: str, tmp_path: Path) -> None:
    """By the allocator: autograd's hooks do not see what checkpoints hold."""
    folder = make(family, tmp_path, num_hidden_layers=4, vocab_size=64)
    for mode, precision in (("lora", "bf16"), ("qlora", "bf16"), ("lora", "fp32")):
        model, shape = load(folder, mode, precision)
        enable_gradient_checkpointing(model)
        rows, length = 4, 256
        inputs, run = batch(rows, length), a_pass(mode, precision, rows, length)

        def forward(model=model, inputs=inputs, precision=precision):
            with autocast(precision):
                return causal_model(model).get_decoder()(**inputs, use_cache=False).last_hidden_state

        forward().sum().backward()  # gradients are there
        hidden, left, _ = allocated(forward)
        last = hidden.untyped_storage().nbytes()
        states = 5 * 5056 + 4096  # of the random generator, a checkpoint; and small change
        assert 0 <= left - last - checkpoint_bytes(shape, run) <= states, (mode, precision)


STEPS = [  # family, mode, precision
    ("llama", "lora", "bf16"), ("llama", "qlora", "bf16"), ("llama", "lora", "fp32"), ("gemma2", "lora", "bf16"),
    ("phi3", "lora", "bf16"), ("qwen3", "lora", "bf16"), ("llama", "full", "bf16"),
]  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize(("family", "mode", "precision"), STEPS)
@pytest.mark.parametrize("vocabulary", [64, 8192])
def test_the_peak_of_a_step_is_near_the_estimate(
    vocabulary: int, family: str, mode: str, precision: str, checkpointing: bool, tmp_path: Path
) -> None:
    """Forward, loss and backward together, by the CPU allocator: at a small vocabulary a block peaks, else the loss."""
    folder = make(family, tmp_path, hidden_size=128, intermediate_size=512, num_hidden_layers=6, vocab_size=vocabulary)
    model, shape = load(folder, mode, precision, rank=8)
    if checkpointing:
        enable_gradient_checkpointing(model)
    setup = a_setup(mode, precision, rows=2, length=256, rank=8, checkpointing=checkpointing)
    inputs = batch(setup.rows, setup.length)
    measured, estimated = peaks_of_a_step(model, shape, setup, precision, inputs, "input_ids")
    most = 1.15 if mode == "full" else 1.05  # of full, gradients of weights come one by one
    assert 0.97 * measured <= estimated <= most * measured, estimated / measured


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("mode", "precision"), [("lora", "bf16"), ("full", "bf16")])
def test_the_peak_of_a_packed_step_is_near_the_estimate(
    mode: str, precision: str, attention: str, checkpointing: bool, tmp_path: Path
) -> None:
    folder = make("llama", tmp_path, hidden_size=128, intermediate_size=512, num_hidden_layers=6, vocab_size=64)
    model, shape = load(folder, mode, precision, rank=8, attention=attention)
    if checkpointing:
        enable_gradient_checkpointing(model)
    setup = a_setup(mode, precision, rows=3, length=160, rank=8, checkpointing=checkpointing, packing=True)
    inputs = pack(model, collated(batch(setup.rows, setup.length, is_padded=False)))
    measured, estimated = peaks_of_a_step(model, shape, setup, precision, inputs, "labels")
    least, most = 0.97 if attention == "sdpa" else 0.95, 1.15 if mode == "full" else 1.05
    assert least * measured <= estimated <= most * measured, estimated / measured


@pytest.mark.parametrize("mode", ["lora", "qlora"])
def test_the_peak_of_answers_is_near_the_estimate(mode: str, tmp_path: Path) -> None:
    rows, length, new = 4, 320, 8  # longer than what only a CPU computes in its own way
    folder = make("llama", tmp_path, hidden_size=128, intermediate_size=512, num_hidden_layers=6)
    model, shape = load(folder, mode, "bf16", rank=8)
    inputs = batch(rows, length, is_padded=False)
    options = {"max_new_tokens": new, "do_sample": False, "use_cache": True, "eos_token_id": None}

    def answer():
        with torch.inference_mode(), autocast("bf16"):
            return model.generate(**inputs, **options)

    model.eval()
    answer()
    _, _, measured = allocated(answer)
    setup = Setup(
        mode=mode, rank=8, dropout=False, optim="adamw_torch", checkpointing=True, width=2, rows=1, length=length,
        accumulates=True, answer_rows=rows, eval_rows=1, eval_tokens=new, logits_bytes=64 * 2**20,
        softmax_bytes=16 * 2**20, device="cpu",
    )  # fmt: skip
    terms = estimate(shape, setup).moments["answers"]
    estimated = terms["key-value cache"] + terms["working buffers"]
    assert 0.95 * measured <= estimated <= 1.1 * measured, estimated / measured
