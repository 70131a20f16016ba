"""Attention over short rows on a CPU, as batched matrix products.

In come queries, keys and values in 16 bits; out goes what causal attention makes of them. PyTorch's kernel for a CPU
saves memory, not time: it works in blocks and makes float32 of each, so that its backward pass over rows of 128
tokens takes five times that of plain products (docs/LOG.md). These keep the probabilities, two bytes for each pair of
positions and head, and are used up to LONGEST tokens. All else goes to transformers' own `sdpa`: longer rows, float32,
masks, the tokens of an answer one by one.

    use_for_short_rows(model)     # model.config._attn_implementation: "sdpa" -> "short_rows"

Worst bug: a position that sees one behind it (tests/model/test_attention.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "short_rows"
LONGEST = 256  # tokens: beyond, what is kept grows more than time is saved


def use_for_short_rows(model: PreTrainedModel) -> None:
    """Let a model that computes attention by `sdpa` compute short rows by products; leave any other as it is."""
    if model.config.get_text_config()._attn_implementation == "sdpa" and not model.config.is_encoder_decoder:
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attend(
    module: nn.Module, query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers asks of an attention: the output, [B, T, H, D], and no weights."""
    length = query_BHTD.shape[2]
    looks_back = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_plain = attention_mask is None and looks_back and not dropout and kwargs.get("position_bias") is None
    is_short = query_BHTD.device.type == "cpu" and 1 < length == key_BKTD.shape[2] <= LONGEST
    # as autocast hands them to sdpa
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query_BHTD.dtype
    if is_plain and is_short and dtype == torch.bfloat16:
        scale = query_BHTD.shape[-1] ** -0.5 if scaling is None else scaling
        parts = (part.to(dtype) for part in (query_BHTD, key_BKTD, value_BKTD))
        return _Products.apply(*parts, scale).transpose(1, 2).contiguous(), None
    return sdpa_attention_forward(
        module, query_BHTD, key_BKTD, value_BKTD, attention_mask, dropout=dropout, scaling=scaling,
        is_causal=is_causal, **kwargs,
    )  # fmt: skip


class _Products(torch.autograd.Function):
    """softmax(scale Q K^T) V over the positions up to each; heads that share keys are laid below each other."""

    @staticmethod
    def forward(ctx: Any, query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, scale: float) -> Tensor:
        rows, heads, length, _ = query_BHTD.shape
        groups = rows * key_BKTD.shape[1]
        query, key, value = (
            part.reshape(groups, -1, part.shape[-1]) for part in (query_BHTD, key_BKTD, value_BKTD)
        )  # [groups, T x heads of a group, D], [groups, T, D]
        later_TT = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
        later = later_TT.repeat(query.shape[1] // length, 1).expand(groups, -1, -1)
        weights = torch.baddbmm(later, query, key.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.save_for_backward(query_BHTD, key_BKTD, value_BKTD, weights)
        ctx.scale = scale
        return torch.bmm(weights, value).view(rows, heads, length, -1)

    @staticmethod
    def backward(ctx: Any, output_grad_BHTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query_BHTD, key_BKTD, value_BKTD, weights = ctx.saved_tensors
        groups = weights.shape[0]
        query, key, value, output_grad = (
            part.reshape(groups, -1, part.shape[-1]) for part in (query_BHTD, key_BKTD, value_BKTD, output_grad_BHTD)
        )
        weights_grad = torch.bmm(output_grad, value.transpose(1, 2))
        scores_grad = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype).mul_(ctx.scale)
        return (
            torch.bmm(scores_grad, key).view_as(query_BHTD),
            torch.bmm(scores_grad.transpose(1, 2), query).view_as(key_BKTD),
            torch.bmm(weights.transpose(1, 2), output_grad).view_as(value_BKTD),
            None,
        )
