"""Rows padded on the right need no attention mask: loss and gradients are those with it, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory.memory_parts import FAMILIES
from test_encoder_decoder import t5
from tiny_training import SIZES, VOCABULARY, llama, make_rows
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from sftlib.errors import ModelError
from sftlib.learn.logprobs import hidden_states, output_head, supervised, token_logprobs, verify_causal
from sftlib.tokens.collate import collate

WINDOW = 6  # shorter than most rows, which have 4 to 20 tokens
MORE: dict[str, dict[str, Any]] = {
    **{family: {} for family in (*FAMILIES, "cohere", "granite", "gpt_neox", "olmo2", "stablelm")},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "qwen3": {"head_dim": 8, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "gemma2": {"head_dim": 8, "sliding_window": WINDOW},
    "gemma3_text": {"head_dim": 8, "sliding_window": WINDOW, "num_hidden_layers": 6},  # the sixth sees everything
    "mixtral": {"num_local_experts": 2, "sliding_window": WINDOW},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
}


def build(family: str, attention: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = SIZES if family != "gpt2" else {name: SIZES[name] for name in ("vocab_size", "bos_token_id")}
    config = AutoConfig.for_model(family, **sizes | MORE[family] | changes)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", MORE)
def test_loss_and_gradients_are_those_with_a_mask(family: str, attention: str) -> None:
    model = build(family, attention)
    batch = collate(list(make_rows(5)), 0)
    assert (batch["attention_mask"] == 0).any()
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    expected = F.cross_entropy(logits.reshape(-1, VOCABULARY), batch["labels"][:, 1:].reshape(-1), reduction="sum")
    wanted = gradients(model, expected)
    hidden_NH, targets_N, _ = supervised(hidden_states(model, batch), batch["labels"])
    given = -token_logprobs(output_head(model), hidden_NH, targets_N).sum()
    torch.testing.assert_close(given, expected, rtol=1e-6, atol=0)
    got = gradients(model, given)
    assert wanted.keys() == got.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-5, atol=1e-5 * float(wanted[name].abs().max()))


@pytest.mark.parametrize("family", MORE)
def test_the_families_are_causal(family: str) -> None:
    verify_causal(build(family, "sdpa").bfloat16())


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ModelError, match="Gemma3ForCausalLM is not causal"):
        verify_causal(build("gemma3_text", "sdpa", use_bidirectional_attention=True))


def test_of_a_t5_the_decoder_is_looked_at_and_the_encoder_keeps_its_mask() -> None:
    model = t5(tie=False).eval()
    verify_causal(model)
    ids = torch.tensor([[5, 6, 7, 1, 9, 9]])
    batch = {"input_ids": ids, "attention_mask": (ids != 9).long(), "decoder_input_ids": torch.tensor([[0, 8, 4]])}
    short = {name: value[:, :4] for name, value in batch.items()}
    torch.testing.assert_close(hidden_states(model, batch), hidden_states(model, short))
    assert not torch.allclose(
        hidden_states(model, batch | {"attention_mask": torch.ones_like(ids)}), hidden_states(model, short), atol=1e-3
    )


def test_no_mask_reaches_a_causal_model() -> None:
    model, seen = llama(), []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("attention_mask")), with_kwargs=True
    )
    hidden_states(model, collate(list(make_rows(3)), 0))
    assert seen == [None]
