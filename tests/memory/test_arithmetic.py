"""The arithmetic of a step: a tiny model counted by hand, and by PyTorch's own counter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from sftlib.config.schema import LoraSection
from sftlib.memory.arithmetic import SeenBatch, largest_layer, step_operations
from sftlib.memory.shape import ModelShape
from sftlib.model.blueprint import read_blueprint

# The tiny Llama: 2 blocks of q 32 x 32, k and v 32 x 16, o 32 x 32, gate, up and down 32 x 64; a vocabulary of 512.
BLOCKS = 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)
BATCHES = [SeenBatch((3,), supervised=1, positions=3), SeenBatch((5, 2), supervised=4, positions=10)]
TOKENS, SUPERVISED = 3 + 5 + 2, 1 + 4
PAIRS = 2 * (6 + 15 + 3)  # 1 + 2 + 3, 1 + ... + 5, 1 + 2; in each block


@pytest.fixture(scope="module")
def shape(tiny_model: Path) -> ModelShape:
    return read_blueprint(tiny_model / "config.json", LoraSection(), "auto")


def test_an_adapter_s_step_by_hand(shape: ModelShape) -> None:
    found = step_operations(shape, "lora", 4, BATCHES)
    sides = 2 * 4 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 64) * 3)
    assert BLOCKS == 18432
    assert sides == 4096  # what peft says is trainable
    assert found.layers == 4 * BLOCKS * TOKENS == 737_280
    assert found.adapters == 6 * sides * TOKENS == 245_760
    assert found.head == 4 * 32 * 512 * SUPERVISED == 327_680
    assert found.attention == 12 * 32 * PAIRS == 18_432
    assert found.total == 737_280 + 245_760 + 327_680 + 18_432
    assert step_operations(shape, "qlora", 4, BATCHES) == found


def test_a_full_fine_tune_has_gradients_of_all_weights_and_no_adapter(shape: ModelShape) -> None:
    found = step_operations(shape, "full", 4, BATCHES)
    assert found.layers == 6 * BLOCKS * TOKENS
    assert found.head == 6 * 32 * 512 * SUPERVISED
    assert found.adapters == 0


def test_padding_costs_nothing_and_a_window_bounds_attention(shape: ModelShape) -> None:
    wider = [replace(batch, positions=99) for batch in BATCHES]
    assert step_operations(shape, "lora", 4, wider) == step_operations(shape, "lora", 4, BATCHES)
    seen = [SeenBatch((5,), supervised=1, positions=5)]
    near = replace(shape, windows=(3, None))
    # 1 + 2 + 3 + 3 + 3 in the one block, 1 + ... + 5 in the other
    assert step_operations(near, "lora", 4, seen).attention == 12 * 32 * (12 + 15)


def test_the_largest_layer_is_of_a_block(shape: ModelShape) -> None:
    assert largest_layer(shape).numbers == 32 * 64
    assert largest_layer(shape).is_in_block


def test_pytorch_counts_the_same_products(shape: ModelShape, tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(5, 12)[None], use_cache=False).logits.sum().backward()
    counted = counter.get_flop_counts()["Global"]
    found = step_operations(shape, "full", 4, [SeenBatch((7,), supervised=7, positions=7)])
    assert counted[torch.ops.aten.mm] == found.layers + found.head
