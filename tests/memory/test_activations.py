"""What autograd keeps, measured on tiny models of every family, is what the formula says, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_parts import FAMILIES, a_pass, allocated, autocast, batch, kept_bytes, load, make

from sftlib.learn.logprobs import causal_model, hidden_states, output_head, supervised, token_logprobs
from sftlib.learn.losses import nll_sum
from sftlib.memory import activations
from sftlib.memory.activations import block_bytes, checkpoint_bytes, stored_bytes
from sftlib.memory.estimate import Setup, _block_gradients, _loss
from sftlib.model.adapters import enable_gradient_checkpointing

RUNS = [  # mode, precision, attention, targets
    ("qlora", "bf16", "auto", "auto"), ("lora", "bf16", "auto", "attn"), ("lora", "fp32", "auto", "auto"),
    ("lora", "bf16", "eager", "auto"), ("full", "bf16", "auto", "auto"), ("full", "fp32", "eager", "auto"),
]  # fmt: skip


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


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("mode", "precision"), [("lora", "bf16"), ("qlora", "bf16"), ("lora", "fp32")])
@pytest.mark.parametrize("vocabulary", [64, 8192])
def test_the_peak_of_a_step_is_near_the_estimate_and_not_above(
    vocabulary: int, mode: str, precision: str, checkpointing: bool, tmp_path: Path
) -> None:
    """Forward, loss and backward together, by the CPU allocator: at a small vocabulary a block peaks, else the loss."""
    rows, length, rank = 2, 256, 8
    folder = make("llama", tmp_path, hidden_size=128, intermediate_size=512, num_hidden_layers=6, vocab_size=vocabulary)
    model, shape = load(folder, mode, precision, rank=rank)
    if checkpointing:
        enable_gradient_checkpointing(model)
    inputs = batch(rows, length)

    def forward():
        with autocast(precision):
            hidden_NH, targets_N, _ = supervised(hidden_states(model, inputs), inputs["input_ids"])
            return nll_sum(token_logprobs(output_head(model), hidden_NH, targets_N))

    forward().backward()  # gradients are there
    loss, left, peak_forward = allocated(forward)
    _, _, peak_backward = allocated(loss.backward)
    measured = max(peak_forward, left + peak_backward)

    setup = Setup(
        mode=mode, rank=rank, dropout=False, optim="adamw_torch", checkpointing=checkpointing,
        width=2 if precision == "bf16" else 4, rows=rows, length=length, accumulates=True, answer_rows=0, eval_rows=1,
        eval_tokens=1, logits_bytes=64 * 2**20,
    )  # fmt: skip
    run = a_pass(mode, precision, rows, length, rank=rank)
    kept = checkpoint_bytes(shape, run) if checkpointing else stored_bytes(shape, run)
    recomputed = block_bytes(shape, run, 1) if checkpointing else 0
    casts = activations.cast_bytes(shape.linears, run) if checkpointing else 0
    on_cpu = OnCpu(setup)
    estimated = kept + max(_loss(shape, on_cpu, casts), recomputed + _block_gradients(shape, on_cpu))
    assert 0.97 * measured <= estimated <= 1.15 * measured, estimated / measured


class OnCpu:
    """A setup whose forward pass is on a CPU, where 4-bit layers cast the inputs of their adapters too."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def __getattr__(self, name: str):
        return getattr(self.setup, name)

    def forward(self):
        s = self.setup
        return a_pass(s.mode, "bf16" if s.width == 2 else "fp32", s.rows, s.length, rank=s.rank)
