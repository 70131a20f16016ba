"""Short rows by products: what sdpa gives, nothing from behind, and sdpa itself wherever something else is asked."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
from transformers.integrations import sdpa_attention

from sftlib.model import attention
from sftlib.model.attention import LONGEST, NAME, attend, use_for_short_rows

SHAPES = [(2, 4, 2, 7), (3, 4, 4, 16), (1, 6, 1, LONGEST), (2, 9, 3, 33)]  # rows, heads, groups of keys, tokens


def parts(rows: int, heads: int, groups: int, length: int, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """Queries, keys, values as a model makes them: the heads of a token side by side in memory."""
    torch.manual_seed(0)
    return [
        torch.randn(rows, length, number, 8).to(dtype).transpose(1, 2).requires_grad_()
        for number in (heads, groups, groups)
    ]


def exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The definition, in float64: softmax over the positions up to each, then the mean of their values."""
    key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    scores = scale * query @ key.transpose(2, 3)
    behind = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(behind, float("-inf")).softmax(-1) @ value


@pytest.fixture
def by_sdpa(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the queries that went to sdpa."""
    seen: list[int] = []

    def spy(module, query, *rest, **more):
        seen.append(query.shape[2])
        return sdpa_attention.sdpa_attention_forward(module, query, *rest, **more)

    monkeypatch.setattr(attention, "sdpa_attention_forward", spy)
    return seen


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_values_and_gradients_are_those_of_the_definition(shape, scale: float | None, by_sdpa: list[int]) -> None:
    given = parts(*shape)
    weights = torch.randn(shape[0], shape[3], shape[1], 8)
    output, probabilities = attend(nn.Module(), *given, None, scaling=scale)
    found = [output, *torch.autograd.grad((output.float() * weights).sum(), given)]
    wide = [part.detach().double().requires_grad_() for part in given]
    truth = exact(*wide, 8**-0.5 if scale is None else scale).transpose(1, 2)
    wanted = [truth, *torch.autograd.grad((truth * weights).sum(), wide)]
    assert probabilities is None
    assert by_sdpa == []
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        error = (one.double() - other).norm() / other.norm()
        assert error < 2 * torch.finfo(torch.bfloat16).eps, float(error)


def test_no_position_sees_one_behind_it() -> None:
    query, key, value = (part.detach() for part in parts(2, 4, 2, 12))
    before, _ = attend(nn.Module(), query, key, value, None)
    key[:, :, 7:], value[:, :, 7:] = 99, -99
    after, _ = attend(nn.Module(), query, key, value, None)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


class Looking(nn.Module):
    """An attention that looks both ways, as an encoder's."""

    is_causal = False


MASK = torch.ones(2, 1, 12, 12, dtype=torch.bool).tril()
OTHERS = {
    "float32": (parts(2, 4, 2, 12, torch.float32), {}, nn.Module()),
    "a mask": (parts(2, 4, 4, 12), {"attention_mask": MASK}, nn.Module()),
    "both ways": (parts(2, 4, 4, 12), {}, Looking()),
    "not causal this time": (parts(2, 4, 4, 12), {"is_causal": False}, nn.Module()),
    "longer": (parts(1, 2, 2, LONGEST + 1), {}, nn.Module()),
    "a bias": (parts(2, 4, 4, 12), {"position_bias": torch.zeros(1, 4, 12, 12, dtype=torch.bfloat16)}, nn.Module()),
    "dropout": (parts(2, 4, 4, 12), {"dropout": 0.1}, nn.Module()),
}


@pytest.mark.parametrize("case", OTHERS)
def test_all_else_goes_to_sdpa(case: str, by_sdpa: list[int]) -> None:
    given, options, module = OTHERS[case]
    module.num_key_value_groups = given[0].shape[1] // given[1].shape[1]
    attend(module, *given, **({"attention_mask": None} | options))
    assert by_sdpa == [given[0].shape[2]]


def test_a_token_that_joins_a_cache_goes_to_sdpa(by_sdpa: list[int]) -> None:
    query, key, value = parts(1, 4, 4, 12)
    output, _ = attend(nn.Module(), query[:, :, -1:], key, value, None)
    whole, _ = attend(nn.Module(), query, key, value, None)
    assert by_sdpa == [1]
    torch.testing.assert_close(output[:, -1], whole[:, -1], rtol=0.02, atol=0.02)


def test_under_autocast_float32_is_computed_in_16_bits_as_sdpa_does(by_sdpa: list[int]) -> None:
    given = parts(2, 4, 4, 12, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = attend(nn.Module(), *given, None)
        sdpa = F.scaled_dot_product_attention(*given, is_causal=True)
    assert by_sdpa == []
    assert output.dtype == sdpa.dtype == torch.bfloat16
    torch.testing.assert_close(output, sdpa.transpose(1, 2), rtol=0.02, atol=0.02)


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads)).bfloat16()


def test_a_model_answers_as_with_sdpa(by_sdpa: list[int]) -> None:
    model, ids = tiny(), 1 + torch.arange(2 * 10).reshape(2, 10)
    wanted = model(ids).logits
    answers = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    use_for_short_rows(model)
    assert model.config._attn_implementation == NAME
    torch.testing.assert_close(model(ids).logits, wanted, rtol=0.05, atol=0.02)
    assert by_sdpa == []
    assert torch.equal(model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0), answers)
    assert set(by_sdpa) == {1}


def test_other_attention_and_encoders_are_left_alone() -> None:
    eager = tiny()
    eager.set_attn_implementation("eager")
    pair = T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=16, d_ff=32, num_layers=1, num_heads=2, d_kv=8))
    for model in (eager, pair):
        before = model.config._attn_implementation
        use_for_short_rows(model)
        assert model.config._attn_implementation == before != NAME
