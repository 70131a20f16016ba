"""A T5's weights and what autograd keeps of both its stacks, measured on tiny ones, are the formula's, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_parts import a_pass, allocated, autocast, check_held_bytes, kept_bytes, load, peaks_of_a_step
from torch import nn

from sftlib.config.schema import LoraSection
from sftlib.learn.logprobs import causal_model
from sftlib.memory.activations import Pass
from sftlib.memory.estimate import Setup
from sftlib.memory.pairs import checkpoint_bytes, stored_bytes
from sftlib.model.adapters import enable_gradient_checkpointing
from sftlib.model.blueprint import read_blueprint

KINDS: dict[str, dict[str, Any]] = {
    "v1.0": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"model_type": "mt5", "tie_word_embeddings": False},
    "deeper": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_layers": 3, "d_kv": 8, "d_ff": 96},
}
FLAN_T5_BASE = {
    "model_type": "t5", "is_encoder_decoder": True, "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048,
    "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12, "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False, "dropout_rate": 0.1,
}  # fmt: skip
RUNS = [  # mode, precision, targets
    ("qlora", "bf16", "auto"), ("lora", "bf16", "auto"), ("lora", "bf16", "attn"), ("lora", "fp32", "auto"),
    ("full", "bf16", "auto"), ("full", "fp32", "auto"),
]  # fmt: skip


def make(kind: str, folder: Path, **changes: Any) -> Path:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    sizes = {"vocab_size": 512, "d_model": 64, "d_kv": 16, "d_ff": 160, "num_layers": 2, "num_heads": 4,
             "decoder_start_token_id": 0, "dropout_rate": 0.0}  # fmt: skip
    torch.manual_seed(0)
    settings = {"model_type": "t5"} | sizes | KINDS[kind] | changes
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(**settings))
    if not KINDS[kind]["tie_word_embeddings"]:
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())  # as published: transformers 5 writes true for all
    config["tie_word_embeddings"] = KINDS[kind]["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def batch(rows: int, length: int, target: int, *, is_padded: bool = True) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids, answer = (torch.randint(5, 60, (rows, size), generator=draw) for size in (length, target))
    mask = torch.ones_like(ids)
    if is_padded:
        mask[0, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": answer}


def pass_of(mode: str, precision: str, rows: int, length: int, target: int, *, is_padded: bool = True) -> Pass:
    return replace(a_pass(mode, precision, rows, length, is_padded=is_padded), target_length=target)


def both_stacks(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    inner = causal_model(model)
    given = inner.encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    return inner.decoder(
        input_ids=inputs["decoder_input_ids"], encoder_hidden_states=given,
        encoder_attention_mask=inputs["attention_mask"], use_cache=False,
    )[0]  # fmt: skip


@pytest.mark.parametrize("kind", ["v1.0", "mt5"])
def test_weights_and_adapter_are_equal_to_the_byte(kind: str, tmp_path: Path) -> None:
    check_held_bytes(make(kind, tmp_path))


def test_a_published_model_has_its_published_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FLAN_T5_BASE))
    shape = read_blueprint(tmp_path / "config.json", LoraSection(), "auto")
    assert shape.parameters == 247_577_856  # google/flan-t5-base
    (tmp_path / "config.json").write_text(
        json.dumps(FLAN_T5_BASE | {"d_ff": 3072, "feed_forward_proj": "relu", "tie_word_embeddings": True})
    )
    assert read_blueprint(tmp_path / "config.json", LoraSection(), "auto").parameters == 222_903_552  # t5-base


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_the_formula_to_the_byte(kind: str, tmp_path: Path) -> None:
    folder = make(kind, tmp_path)
    for mode, precision, targets in RUNS:
        model, shape = load(folder, mode, precision, targets=targets)
        for name, weight in model.named_parameters():
            if "relative_attention_bias" in name:
                weight.requires_grad_(False)
        for rows, length, target, is_padded in ((2, 24, 10, True), (3, 17, 40, False), (1, 64, 2, False)):
            run = pass_of(mode, precision, rows, length, target, is_padded=is_padded)
            inputs = batch(rows, length, target, is_padded=is_padded)
            with autocast(precision):
                found = kept_bytes(lambda model=model, inputs=inputs: both_stacks(model, inputs), model)
            if mode == "full":  # what a bias that learns keeps besides: its index, and where the mask was
                found += 8 * (length**2 + target**2) + target**2 + (rows * length**2 if is_padded else 0)
            assert stored_bytes(shape, run) == found, (mode, precision, targets, rows)


def test_both_lengths_count_and_so_does_the_model_s_own_dropout(tmp_path: Path) -> None:
    shape = read_blueprint(make("v1.1", tmp_path, dropout_rate=0.1) / "config.json", LoraSection(r=4), "auto")
    run = pass_of("lora", "bf16", 4, 64, 16)
    assert shape.dropout == 0.1
    # A byte a number: two additions and an MLP a block of the encoder, three and one of the decoder, once behind each.
    masks = 2 * (4 * 64 * (2 * 64 + 160) + 4 * 16 * (3 * 64 + 160)) + (4 * 64 + 4 * 16) * 64
    assert stored_bytes(shape, run) - stored_bytes(replace(shape, dropout=0.0), run) == masks
    longer, wordier = replace(run, length=128), replace(run, target_length=32)
    square = 2 * 2 * 4 * 4 * 64**2  # biases of two blocks, 16 bits, four rows, four heads
    assert stored_bytes(shape, longer) - stored_bytes(shape, run) > 3 * square
    assert stored_bytes(shape, wordier) > stored_bytes(shape, run)


@pytest.mark.parametrize(("mode", "precision"), [("lora", "bf16"), ("lora", "fp32"), ("qlora", "bf16")])
def test_with_checkpointing_only_the_inputs_of_blocks_are_kept(mode: str, precision: str, tmp_path: Path) -> None:
    model, shape = load(make("v1.1", tmp_path, num_layers=4, vocab_size=64), mode, precision)
    enable_gradient_checkpointing(model)
    inputs, run = batch(4, 256, 64), pass_of(mode, precision, 4, 256, 64)

    def forward() -> torch.Tensor:
        with autocast(precision):
            return both_stacks(model, inputs)

    forward().sum().backward()  # gradients are there
    hidden, left, _ = allocated(forward)
    last = hidden.untyped_storage().nbytes()
    expected = checkpoint_bytes(shape, run)
    assert 0.95 * expected <= left - last <= 1.05 * expected + 8 * 5056, (left - last) / expected  # 8 random states


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize(("mode", "precision"), [("lora", "bf16"), ("lora", "fp32")])
def test_the_peak_of_a_step_is_near_the_estimate(
    mode: str, precision: str, checkpointing: bool, tmp_path: Path
) -> None:
    """Forward, loss and backward together, by the CPU allocator."""
    rows, length, target = 2, 256, 96
    model, shape = load(make("v1.1", tmp_path, d_model=128, d_ff=512, num_layers=6, vocab_size=2048), mode, precision)
    if checkpointing:
        enable_gradient_checkpointing(model)
    setup = Setup(
        mode=mode, rank=4, dropout=False, optim="adamw_torch", checkpointing=checkpointing,
        width=2 if precision == "bf16" else 4, rows=rows, length=length, accumulates=True, answer_rows=0, eval_rows=1,
        eval_tokens=1, logits_bytes=64 * 2**20, softmax_bytes=16 * 2**20, device="cpu", target_length=target,
    )  # fmt: skip
    inputs = batch(rows, length, target)
    measured, estimated = peaks_of_a_step(model, shape, setup, precision, inputs, "decoder_input_ids")
    assert 0.97 * measured <= estimated <= 1.15 * measured, estimated / measured
