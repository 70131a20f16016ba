"""The log-probabilities are the model's own, in value and in gradient, and no large logits ever exist."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_training import SIZES, VOCABULARY, family, llama, make_rows, with_lora
from transformers import LlamaForCausalLM

from sftlib.errors import ModelError
from sftlib.learn import logprobs
from sftlib.learn.logprobs import Head, hidden_states, output_head, supervised, token_logprobs, verify_head
from sftlib.tokens.collate import collate

FAMILIES = ["llama", "gemma2", "cohere", "granite"]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return collate(list(make_rows(5)), 0)


def ours(model: torch.nn.Module, batch: dict[str, torch.Tensor], chunk_size: int | None = None) -> torch.Tensor:
    hidden_NH, targets_N, _ = supervised(hidden_states(model, batch), batch["labels"])
    return token_logprobs(output_head(model), hidden_NH, targets_N, chunk_size)


def full(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The textbook: all logits of the whole batch, shifted, through cross_entropy."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    losses = F.cross_entropy(logits.reshape(-1, VOCABULARY), labels.reshape(-1), ignore_index=-100, reduction="none")
    return -losses[labels.reshape(-1) != -100]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_equals_cross_entropy_on_full_logits(name: str, chunk_size: int | None, batch: dict[str, torch.Tensor]) -> None:
    model = family(name)
    expected, given = full(model, batch), ours(model, batch, chunk_size)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
    wanted, got = gradients(model, -expected.sum()), gradients(model, -given.sum())
    assert wanted.keys() == got.keys()
    for weight in wanted:
        torch.testing.assert_close(
            got[weight], wanted[weight], rtol=1e-5, atol=1e-5, msg=lambda text, w=weight: f"{w}: {text}"
        )


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "lm_head"]])
def test_works_with_lora_on_the_head_or_a_frozen_one(targets: list[str], batch: dict[str, torch.Tensor]) -> None:
    model = with_lora(llama(), targets)
    with torch.no_grad():  # a fresh adapter does nothing: make it do something
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    wanted = gradients(model, -full(model, batch).sum())
    got = gradients(model, -ours(model, batch, 3).sum())
    assert wanted.keys() == got.keys()
    assert any("lm_head" in name for name in got) == ("lm_head" in targets)
    for weight in wanted:
        torch.testing.assert_close(got[weight], wanted[weight], rtol=1e-5, atol=1e-5)


def test_supervised_takes_the_state_before_each_label() -> None:
    hidden = torch.arange(2 * 4, dtype=torch.float).reshape(2, 4, 1)  # row 0: 0 1 2 3, row 1: 4 5 6 7
    labels = torch.tensor([[-100, 11, -100, 13], [-100, -100, 22, -100]])
    hidden_NH, targets_N, rows_N = supervised(hidden, labels)
    assert hidden_NH[:, 0].tolist() == [0, 2, 5]
    assert targets_N.tolist() == [11, 13, 22]
    assert rows_N.tolist() == [0, 0, 1]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_logits_of_one_chunk_only_exist_at_once(
    is_frozen: bool, monkeypatch: pytest.MonkeyPatch, batch: dict[str, torch.Tensor]
) -> None:
    model = llama()
    model.lm_head.requires_grad_(not is_frozen)
    sizes: list[int] = []
    whole = torch.nn.functional.linear

    def record(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if weight.shape[0] == VOCABULARY:
            sizes.append(x.numel() // x.shape[-1])
        return whole(x, weight, bias)

    saved: list[torch.Size] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.shape)
        return tensor

    monkeypatch.setattr(torch.nn.functional, "linear", record)
    monkeypatch.setattr(logprobs, "LOGITS_BYTES", 4 * VOCABULARY * 6)  # six positions
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = -ours(model, batch).sum()
    supervised_tokens = int((batch["labels"][:, 1:] != -100).sum())
    assert supervised_tokens > 12
    assert sizes[0] == 0  # inside the model: none
    assert max(sizes[1:]) == 6
    assert sum(sizes[1:]) == supervised_tokens
    weight = model.lm_head.weight.T.shape
    of_logits = [shape for shape in saved if shape[-1:] == (VOCABULARY,) and shape[-2:] != weight]
    assert of_logits == []  # nothing that large waits for the backward pass
    loss.backward()
    assert sum(sizes[1:]) == (1 if is_frozen else 2) * supervised_tokens  # recomputed where the head is trained


def test_chunk_is_64_mib_by_default() -> None:
    calls: list[int] = []

    class Wide(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().forward(x)

    with torch.no_grad():
        head = Head(Wide(2, 2**20, bias=False))  # 4 MiB a position
        token_logprobs(head, torch.zeros(40, 2), torch.zeros(40, dtype=torch.long))
    assert calls == [16, 16, 8]


def test_logits_are_upcast_before_the_softmax() -> None:
    head = Head(torch.nn.Linear(4, 8, dtype=torch.bfloat16))
    assert (
        token_logprobs(head, torch.ones(2, 4, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.long)).dtype
        == torch.float32
    )


def test_no_supervised_token_gives_an_empty_result() -> None:
    head = Head(torch.nn.Linear(4, 8))
    logprobs_N = token_logprobs(head, torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.long))
    assert logprobs_N.shape == (0,)
    logprobs_N.sum().backward()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verify_head_accepts_the_families(name: str, dtype: torch.dtype) -> None:
    model = family(name).to(dtype).train()
    verify_head(model)
    assert model.training
    verify_head(with_lora(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verify_head_names_an_architecture_with_a_scaling_we_do_not_know(dtype: torch.dtype) -> None:
    class MysteryForCausalLM(LlamaForCausalLM):
        def forward(self, *args, logits_to_keep: int = 0, **kwargs):
            output = super().forward(*args, logits_to_keep=logits_to_keep, **kwargs)
            output.logits = output.logits * 1.05
            return output

    model = MysteryForCausalLM(llama().config).to(dtype)
    with pytest.raises(ModelError, match="MysteryForCausalLM"):
        verify_head(model)


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite"])
def test_verify_head_sees_a_missing_cap_or_scale(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "output_head", lambda model: Head(model.get_output_embeddings()))
    with pytest.raises(ModelError, match="differ by"):
        verify_head(family(name))


def test_verify_head_refuses_a_model_that_cannot_skip_logits() -> None:
    class OldForCausalLM(LlamaForCausalLM):
        def forward(self, input_ids=None, attention_mask=None):
            return super().forward(input_ids, attention_mask)

    with pytest.raises(ModelError, match="OldForCausalLM"):
        verify_head(OldForCausalLM(llama().config))


def test_the_hook_does_not_stay(batch: dict[str, torch.Tensor]) -> None:
    model = llama()
    hidden_states(model, batch)
    assert not model.get_decoder()._forward_hooks
    with pytest.raises(IndexError):
        hidden_states(model, {**batch, "input_ids": batch["input_ids"] + 10 * SIZES["vocab_size"]})
    assert not model.get_decoder()._forward_hooks
