"""A packed example is what it is alone: loss, gradients and hidden states, by family and attention; and who is refused.

Flash attention needs a GPU: here its functions are stand-ins that compute the same, one example after another. So does
the backward pass of flex_attention: here it is the one that is not compiled, and its check for a GPU is off.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_without_a_mask import MORE, build, gradients
from tiny_training import SIZES, VOCABULARY, llama, make_rows, with_lora
from torch import nn
from torch.nn.attention import flex_attention as flex
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils
from transformers import modeling_flash_attention_utils as flash
from transformers.integrations.flex_attention import WrappedFlexAttention

from sftlib.errors import ModelError
from sftlib.learn.logprobs import hidden_states, output_head, supervised, token_logprobs
from sftlib.learn.packing import pack, verify_packing
from sftlib.model import varlen
from sftlib.tokens.collate import collate
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import IGNORED, Example

KERNELS = ("sdpa", "eager", "flex_attention", "flash_attention_2", "varlen", "varlen on a GPU")
VARLEN = ("varlen", "varlen on a GPU")
WITHOUT = {
    # no flex in transformers; its flash asks a float32 GPT-2 for a linear layer, which it has not
    ("stablelm", "flex_attention"), ("gpt2", "flex_attention"), ("gpt2", "flash_attention_2"),
    *((family, kernel) for family in ("gemma2", "stablelm") for kernel in VARLEN),  # refused, see below
}  # fmt: skip
PAIRS = [(family, kernel) for family in MORE for kernel in KERNELS if (family, kernel) not in WITHOUT]
QUICK = [pair for pair in PAIRS if pair[1] != "flex_attention" or pair[0] == "llama"]  # that one is slow here


def flash_varlen(
    q_NHD, k_NHD, v_NHD, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal, softmax_scale=None,
    window_size=(-1, -1), softcap=0.0,
):  # fmt: skip
    """As `flash_attn_varlen_func`."""
    assert causal
    assert cu_seqlens_q.dtype == torch.int32
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    lengths = cu_seqlens_q.diff().tolist()
    assert max(lengths) == max_seqlen_q == max_seqlen_k
    groups, done = q_NHD.shape[1] // k_NHD.shape[1], []
    for q, k, v in zip(q_NHD.split(lengths), k_NHD.split(lengths), v_NHD.split(lengths), strict=True):
        q, k, v = (part.transpose(0, 1) for part in (q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)))
        scores = q @ k.transpose(1, 2) * (softmax_scale or q.shape[-1] ** -0.5)
        scores = softcap * torch.tanh(scores / softcap) if softcap else scores
        behind = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])
        unseen = (behind < 0) | (behind > window_size[0] if window_size[0] >= 0 else behind < 0)
        done.append((scores.masked_fill(unseen, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(done)


def flash_rows(q_BTHD, k_BTHD, v_BTHD, **options: Any):
    """As `flash_attn_func`."""
    rows, length = q_BTHD.shape[:2]
    borders = torch.arange(rows + 1, dtype=torch.int32) * length
    given = (part.flatten(0, 1) for part in (q_BTHD, k_BTHD, v_BTHD))
    return flash_varlen(*given, borders, borders, length, length, **options).unflatten(0, (rows, length))


def torch_varlen(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """As `torch.nn.attention.varlen.varlen_attn`."""
    assert enable_gqa
    assert window_size[1] == 0  # what comes later is not seen
    return flash_varlen(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, True, scale, window_size)


@pytest.fixture
def with_kernel(monkeypatch: pytest.MonkeyPatch):
    """A function that builds a family with a kernel, a GPU's included."""
    monkeypatch.setattr(WrappedFlexAttention, "__call__", lambda self: flex.flex_attention)
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    blocks = masking_utils.create_block_mask
    monkeypatch.setattr(masking_utils, "create_block_mask", lambda **given: blocks(**given | {"_compile": False}))
    names = ("_flash_fn", "_flash_varlen_fn", "_flash_with_kvcache_fn", "_pad_fn", "_unpad_fn")
    for name, function in zip(names, (flash_rows, flash_varlen, None, None, None), strict=True):
        monkeypatch.setattr(flash, name, function, raising=False)
    monkeypatch.setattr(flash, "_process_flash_kwargs_fn", flash._lazy_define_process_function(flash_varlen))
    monkeypatch.setattr(flash, "_loaded_implementation", "flash_attention_2")
    monkeypatch.setattr(varlen, "varlen_attn", torch_varlen)
    has_kernel: list[bool] = []
    monkeypatch.setattr(varlen, "_has_kernel", lambda *_: bool(has_kernel))
    varlen.register()

    def make(family: str, kernel: str) -> nn.Module:
        if kernel == "varlen on a GPU":
            has_kernel.append(True)
            kernel = "varlen"
        if not kernel.startswith("flash"):
            return build(family, kernel)
        model = build(family, "eager")
        model.config._attn_implementation = kernel
        return model

    return make


def collated(rows: ExampleDataset) -> dict[str, Any]:
    return collate(list(rows), 0) | {"lengths": rows.lengths}


def logprobs(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    hidden_NH, targets_N, _ = supervised(hidden_states(model, batch), batch["labels"])
    return token_logprobs(output_head(model), hidden_NH, targets_N)


@pytest.mark.parametrize(("family", "kernel"), PAIRS)
def test_loss_and_gradients_are_those_of_separate_rows(family: str, kernel: str, with_kernel) -> None:
    model, rows = with_kernel(family, kernel), make_rows(5)
    alone = torch.cat([logprobs(model, collated(ExampleDataset([row]))) for row in rows])
    wanted = gradients(model, -alone.sum())
    together = logprobs(model, pack(model, collated(rows)))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    got = gradients(model, -together.sum())
    assert wanted.keys() == got.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-5, atol=1e-5 * float(wanted[name].abs().max()))


@pytest.mark.parametrize(("family", "kernel"), QUICK)
def test_another_neighbour_changes_nothing(family: str, kernel: str, with_kernel) -> None:
    """Before it or behind it."""
    model, rows = with_kernel(family, kernel), list(make_rows(3))
    other = Example([(token + 1) % VOCABULARY for token in rows[0].input_ids], rows[0].labels, "o", True)
    begin, end = len(rows[0].input_ids), len(rows[0].input_ids) + len(rows[1].input_ids)
    with torch.no_grad():
        packs = [collated(ExampleDataset(three)) for three in (rows, [other, *rows[1:]], [*rows[:2], other])]
        before, first, last = (hidden_states(model, pack(model, batch))[0] for batch in packs)
    torch.testing.assert_close(first[begin:end], before[begin:end], rtol=0, atol=1e-6)
    torch.testing.assert_close(last[:end], before[:end], rtol=0, atol=1e-6)
    assert float((first[:begin] - before[:begin]).abs().max()) > 1e-3


@pytest.mark.parametrize(("family", "kernel"), QUICK)
def test_the_families_are_found_to_keep_rows_apart(family: str, kernel: str, with_kernel) -> None:
    verify_packing(with_kernel(family, kernel))


@pytest.mark.parametrize("family", MORE)
def test_in_bf16_rounding_is_no_neighbour(family: str) -> None:
    verify_packing(build(family, "sdpa").bfloat16())


def test_a_row_by_hand() -> None:
    first, second = Example([5, 6, 7], [IGNORED, 6, 7], "a", True), Example([8, 9], [8, 9], "b", True)
    packed = pack(llama(), collated(ExampleDataset([first, second])))
    assert {name: value.tolist() for name, value in packed.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]], "position_ids": [[0, 1, 2, 0, 1]], "rows": [[0, 0, 0, 1, 1]],
        "labels": [[IGNORED, 6, 7, IGNORED, 9]],  # the first of a row is what nothing before it predicts
    }  # fmt: skip


def test_borders_are_for_those_that_read_them(with_kernel) -> None:
    packed = pack(with_kernel("llama", "flash_attention_2"), collated(make_rows(3)))
    lengths = make_rows(3).lengths
    assert packed["cu_seq_lens_q"].tolist() == [0, lengths[0], lengths[0] + lengths[1], sum(lengths)]
    assert packed["max_length_k"] == max(lengths)
    assert "cu_seq_lens_q" in pack(with_kernel("llama", "varlen"), collated(make_rows(3)))
    assert "cu_seq_lens_q" not in pack(with_kernel("llama", "flex_attention"), collated(make_rows(3)))


def test_an_adapter_on_top_is_packed_too() -> None:
    model = with_lora(llama(), dropout=0.0)
    verify_packing(model)
    rows = make_rows(4)
    alone = torch.cat([logprobs(model, collated(ExampleDataset([row]))) for row in rows])
    torch.testing.assert_close(logprobs(model, pack(model, collated(rows))), alone, rtol=1e-5, atol=1e-6)


def other_family(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **changes)).eval()


FALCON_H1 = {
    "num_hidden_layers": 2, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1,
    "mamba_d_state": 8, "mamba_chunk_size": 8,
}  # fmt: skip
QWEN3_NEXT = {
    "num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8,
    "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        (lambda: other_family("bloom", vocab_size=64, hidden_size=32, n_layer=2, n_head=4), "takes no position ids"),
        (lambda: other_family("falcon_h1", **SIZES | FALCON_H1), "see its neighbour"),
        (lambda: other_family("qwen3_next", **SIZES | QWEN3_NEXT), "see its neighbour"),
        (lambda: other_family("llama4_text", **SIZES, attention_chunk_size=8), "within chunks of 8"),
    ],
    ids=["bloom", "falcon_h1", "qwen3_next", "llama4"],
)
def test_who_does_not_is_refused(model, seen: str) -> None:
    with pytest.raises(ModelError, match=seen) as caught:
        verify_packing(model())
    assert "train.packing to false" in caught.value.cure


def test_who_does_not_hand_the_borders_on_is_refused(with_kernel) -> None:
    """StableLM in transformers 5.17 keeps them from its attention: no mask and no borders would be one long example."""
    with pytest.raises(ModelError, match="StableLmForCausalLM lets an example in a packed row see its neighbour"):
        verify_packing(with_kernel("stablelm", "varlen"))


def test_what_varlen_does_not_do_is_refused(with_kernel) -> None:
    with pytest.raises(ModelError, match="Gemma2Attention caps its attention scores, which varlen attention does not"):
        verify_packing(with_kernel("gemma2", "varlen"))


def test_the_flash_kernel_is_not_asked_for_what_it_has_not(with_kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout goes the other way, on a GPU too."""
    model = with_kernel("llama", "varlen on a GPU").train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    monkeypatch.setattr(varlen, "varlen_attn", None)
    batch = collated(make_rows(2))
    assert hidden_states(model, pack(model, batch)).shape == (1, sum(batch["lengths"]), SIZES["hidden_size"])
    monkeypatch.undo()
    half = torch.zeros(1, 4, 8, 64, dtype=torch.bfloat16)
    assert not varlen._has_kernel(half, half, torch.bfloat16)  # no GPU


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_varlen_answers_as_sdpa_does(family: str, with_kernel) -> None:
    """Of prompts of two lengths, padded on the left; and of whole rows, where a window is shorter than they are."""
    ids = torch.tensor([[0, 0, 0, 5, 6, 7, 8, 9, 10, 11], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
    answers, rows = [], []
    for kernel in ("sdpa", *VARLEN):
        model = with_kernel(family, kernel)
        given = {"input_ids": ids, "attention_mask": (ids != 0).long()}
        answers.append(model.generate(**given, max_new_tokens=6, do_sample=False).tolist())
        rows.append(hidden_states(model, {"input_ids": ids}))
    assert answers[0] == answers[1] == answers[2]
    for given in rows[1:]:
        torch.testing.assert_close(given, rows[0], rtol=1e-5, atol=1e-6)


def test_positions_that_go_on_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose attention is right, and whose embeddings of positions count through."""
    model = build("gpt2", "sdpa")
    wpe = model.transformer.wpe
    count_through = lambda ids: nn.functional.embedding(torch.arange(ids.shape[1])[None], wpe.weight)  # noqa: E731
    monkeypatch.setattr(wpe, "forward", count_through)
    with pytest.raises(ModelError, match="than of the same one alone"):
        verify_packing(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash and compiled flex attention need a CUDA GPU")
@pytest.mark.parametrize("kernel", ["varlen", "flex_attention", "flash_attention_2", "flash_attention_3"])
def test_on_a_gpu_the_real_kernels_keep_rows_apart(kernel: str) -> None:
    varlen.register()
    try:
        model = build("llama", kernel, head_dim=16).bfloat16().cuda()
    except ImportError as error:
        pytest.skip(str(error))
    verify_packing(model)
    rows = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value
        for name, value in collated(make_rows(8)).items()
    }
    plain = build("llama", "eager", head_dim=16).bfloat16().cuda()
    wanted, got = logprobs(plain, rows), logprobs(model, pack(model, rows))
    torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02)
    wanted, got = gradients(plain, wanted.sum()), gradients(model, got.sum())
    for name in wanted:
        assert float((got[name] - wanted[name]).norm()) <= 0.03 * float(wanted[name].norm()), name
