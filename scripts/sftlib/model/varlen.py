"""Attention that is told where examples begin and end: PyTorch's own flash kernel, without a package besides.

In come a layer's queries, keys and values as transformers hands them to any of its kernels; out goes what they attend
to. It is known to transformers as `varlen` once `register` was called. Rows without borders (an evaluation, a
micro-batch that is not packed) are examples of one length; with a key-value cache or a padding mask, as in generation,
PyTorch's ordinary attention answers.

    borders [0, 3, 5]  ->  tokens 0..2 see one another, 3 and 4 see one another; no score between them is computed

It has no mask, so what a mask would say it must be told otherwise: the sliding window is; capped scores (Gemma 2),
attention sinks and dropout are not, and are refused.

Worst bug: an example that sees its neighbour (tests/learn/test_packing.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import get_target_dtype
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..errors import ModelError

NAME = "varlen"
UNKNOWN = {"softcap": "caps its attention scores", "s_aux": "has attention sinks", "position_bias": "biases positions"}


def register() -> None:
    """Make it known to transformers as an `attn_implementation`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, make_mask)


def attend(
    module: nn.Module, query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None, max_length_q: int | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention within each example, [B, T, H, D]."""
    _refuse_what_it_does_not_do(module, query_BHTD, value_BHTD, dropout, others)
    rows, _, length, _ = query_BHTD.shape
    if attention_mask is not None or key_BHTD.shape[2] != length:
        return sdpa_attention_forward(
            module, query_BHTD, key_BHTD, value_BHTD, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    if cu_seq_lens_q is None:
        cu_seq_lens_q = torch.arange(rows + 1, dtype=torch.int32, device=query_BHTD.device) * length
        max_length_q = length
    dtype = get_target_dtype(query_BHTD, module) or query_BHTD.dtype
    query_NHD, key_NHD, value_NHD = (
        part.transpose(1, 2).flatten(0, 1).to(dtype) for part in (query_BHTD, key_BHTD, value_BHTD)
    )
    window = -1 if sliding_window is None else sliding_window - 1  # tokens before the one that looks
    seen_NHD = varlen_attn(
        query_NHD, key_NHD, value_NHD, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling,
        window_size=(window, 0), enable_gqa=True,
    )  # fmt: skip
    return seen_NHD.unflatten(0, (rows, length)), None


def make_mask(
    *, q_length: int, kv_length: int, attention_mask: Tensor | None = None, use_vmap: bool = False, **others: Any
) -> Tensor | None:
    """None where `attend` needs none: for whole rows without padding, packed or not; else that of sdpa."""
    if attention_mask is None and q_length == kv_length and not use_vmap:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, use_vmap=use_vmap, **others)


def _refuse_what_it_does_not_do(
    module: nn.Module, query: Tensor, value: Tensor, dropout: float, others: dict[str, Any]
) -> None:
    faults = [words for name, words in UNKNOWN.items() if others.get(name) is not None]
    if dropout:
        faults.append(f"drops out {dropout:.0%} of its attention")
    if query.shape[-1] != value.shape[-1]:
        faults.append("has values of another size than its queries")
    if faults:
        raise ModelError(
            f"{type(module).__name__} {' and '.join(faults)}, which varlen attention does not.",
            where="model.attn_implementation", expected="sdpa or flex_attention for this model",
            cure="Set model.attn_implementation to auto.",
        )  # fmt: skip
