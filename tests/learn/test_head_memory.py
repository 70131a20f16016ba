"""Embeddings and head: in 16 bits, once, and never copied or upcast by a step; the loss holds one chunk of logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from memory.memory_parts import CPU, PRECISIONS, batch, make
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sftlib.config.schema import LoraSection, ModelSection, TuningSection
from sftlib.learn import logprobs
from sftlib.learn.losses import nll_sum
from sftlib.model.backend import choose_backend

VOCABULARY, HIDDEN = 32_768, 64
HEAD_BYTES = 2 * VOCABULARY * HIDDEN  # in bfloat16: 4 MiB
LOGITS_BYTES = 4 * VOCABULARY * 4  # of four positions: 0.5 MiB


@pytest.fixture(params=[("lora", True), ("lora", False), ("qlora", True), ("qlora", False)], ids=str)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> nn.Module:
    """As it is trained: in 16 or 4 bits, with the head tied or not."""
    mode, is_tied = request.param
    folder = make("llama", tmp_path, vocab_size=VOCABULARY, tie_word_embeddings=is_tied)
    backend = choose_backend(TuningSection(mode=mode, backend="bnb" if mode == "qlora" else "plain"), CPU)
    model = backend.load_trainable(
        folder, model=ModelSection(), lora=LoraSection(r=4), checkpointing=True, seed=0,
        precision=PRECISIONS["bf16"], device=CPU,
    )  # fmt: skip
    backend.enable_checkpointing(model)
    return model.train()


def step(model: nn.Module, length: int) -> list[int]:
    """Sizes of all that a forward and backward pass with the loss asks the allocator for."""
    inputs = batch(2, length, is_padded=False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        with torch.autocast("cpu", torch.bfloat16):
            hidden_NH, targets_N, _ = logprobs.supervised(logprobs.hidden_states(model, inputs), inputs["input_ids"])
            loss = nll_sum(logprobs.token_logprobs(logprobs.output_head(model), hidden_NH, targets_N))
        loss.backward()
    events = profiled.profiler.kineto_results.events()
    return [event.nbytes() for event in events if event.name() == "[memory]" and event.nbytes() > 0]


def test_they_are_held_in_16_bits_and_once(model: nn.Module) -> None:
    inner = logprobs.causal_model(model)
    tables = [inner.get_input_embeddings().weight, inner.get_output_embeddings().weight]
    assert [table.dtype for table in tables] == [torch.bfloat16] * 2
    assert not any(table.requires_grad for table in tables)
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    tied = inner.config.tie_word_embeddings
    assert sorted(size for size in storages.values() if size >= HEAD_BYTES) == [HEAD_BYTES] * (1 if tied else 2)
    assert (tables[0].data_ptr() == tables[1].data_ptr()) == tied


def test_no_step_copies_them_and_a_chunk_of_logits_is_the_most(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "LOGITS_BYTES", LOGITS_BYTES)
    short, long = step(model, 40), step(model, 80)
    assert max(short) == max(long) == LOGITS_BYTES < HEAD_BYTES
    inner = logprobs.causal_model(model)
    assert {inner.get_input_embeddings().weight.dtype, inner.get_output_embeddings().weight.dtype} == {torch.bfloat16}


def test_a_head_that_is_upcast_is_seen(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """As peft's prepare_model_for_kbit_training does it, so that the test above can fail."""
    monkeypatch.setattr(logprobs, "LOGITS_BYTES", LOGITS_BYTES)
    head = logprobs.causal_model(model).get_output_embeddings()
    forward = head.forward
    head.forward = lambda hidden: forward(hidden) + 0 * head.weight.float().sum()
    assert max(step(model, 40)) == 2 * HEAD_BYTES
