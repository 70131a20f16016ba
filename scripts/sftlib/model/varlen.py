"""Attention that is told where examples begin and end, instead of a mask: `varlen`, without a package besides.

In come a layer's queries, keys and values as transformers hands them to any of its kernels; out goes what they attend
to. It is known to transformers once `register` was called.

    borders [0, 3, 5]  ->  tokens 0..2 see one another, 3 and 4 see one another; no score between them is computed

On an NVIDIA GPU of Ampere or later it is PyTorch's own flash kernel (torch.nn.attention.varlen). That one computes in
16 bits, without dropout; anything else, and any other device, has the examples laid out as padded rows for the time of
the attention, so that PyTorch's ordinary one needs no mask, while the rest of the layer sees no padding. Rows without
borders (an evaluation, a micro-batch that is not packed) are examples of one length; with a key-value cache or a
padding mask, as in generation, the ordinary attention answers.

It has no mask, so what a mask or a bias would say it must be told otherwise: the sliding window is; capped scores
(Gemma 2), attention sinks and biases of positions are not, and are refused.

Worst bug: an example that sees its neighbour (tests/learn/test_packing.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..errors import ModelError

NAME = "varlen"
AMPERE, LARGEST = (8, 0), 256  # compute capability and head size that PyTorch's flash kernel takes
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
    if faults := [words for name, words in UNKNOWN.items() if others.get(name) is not None]:
        raise ModelError(
            f"{type(module).__name__} {' and '.join(faults)}, which varlen attention does not.",
            where="model.attn_implementation", expected="sdpa or flex_attention for this model",
            cure="Set model.attn_implementation to auto.",
        )  # fmt: skip
    given = (query_BHTD, key_BHTD, value_BHTD)
    rows, _, length, _ = query_BHTD.shape
    ordinary = partial(sdpa_attention_forward, module, dropout=dropout, scaling=scaling)
    if attention_mask is not None or key_BHTD.shape[2] != length:
        return ordinary(*given, attention_mask)
    kind, dtype = query_BHTD.device.type, query_BHTD.dtype
    if torch.is_autocast_enabled(kind):  # it knows no more of this kernel than that it is a function
        dtype = torch.get_autocast_dtype(kind)
    if not dropout and _has_kernel(query_BHTD, value_BHTD, dtype):
        if cu_seq_lens_q is None:
            cu_seq_lens_q = torch.arange(rows + 1, dtype=torch.int32, device=query_BHTD.device) * length
            max_length_q = length
        flat = (part.transpose(1, 2).flatten(0, 1).to(dtype) for part in given)
        before = -1 if sliding_window is None else sliding_window - 1  # tokens in the window beside the one that looks
        seen_NHD = varlen_attn(
            *flat, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling, window_size=(before, 0),
            enable_gqa=True,
        )  # fmt: skip
        return seen_NHD.unflatten(0, (rows, length)), None
    if cu_seq_lens_q is None or len(cu_seq_lens_q) == 2:  # whole rows, or a single example
        return ordinary(*given, _window_mask(length, sliding_window, query_BHTD.device))
    examples, at_N = len(cu_seq_lens_q) - 1, _places(cu_seq_lens_q, max_length_q, length)
    padded = (_padded(part, at_N, examples, max_length_q) for part in given)
    seen_BTHD, _ = ordinary(*padded, _window_mask(max_length_q, sliding_window, query_BHTD.device))
    return seen_BTHD.flatten(0, 1)[at_N][None], None


def make_mask(
    *, q_length: int, kv_length: int, attention_mask: Tensor | None = None, use_vmap: bool = False, **others: Any
) -> Tensor | None:
    """None where `attend` needs none: for whole rows without padding, packed or not; else that of sdpa."""
    if attention_mask is None and q_length == kv_length and not use_vmap:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, use_vmap=use_vmap, **others)


def _places(borders: Tensor, longest: int, count: int) -> Tensor:
    """Where each of so many tokens stands when its example is a padded row, rows one after another."""
    rows_N = torch.arange(len(borders) - 1, device=borders.device).repeat_interleave(borders.diff(), output_size=count)
    return torch.arange(count, device=borders.device) - borders[rows_N] + rows_N * longest


def _padded(packed_1HND: Tensor, at_N: Tensor, rows: int, length: int) -> Tensor:
    """The tokens of a packed row as padded rows, [B, H, T, D]."""
    tokens_NHD = packed_1HND[0].transpose(0, 1)
    # index_put, as index_copy would keep the tokens too for the backward pass
    room = tokens_NHD.new_zeros(rows * length, *tokens_NHD.shape[1:])
    return room.index_put((at_N,), tokens_NHD).unflatten(0, (rows, length)).transpose(1, 2)


def _window_mask(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """What a token sees of its row, [1, 1, T, T], where that is not all before it."""
    if window is None or window >= length:
        return None
    behind_TT = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return ((behind_TT >= 0) & (behind_TT < window))[None, None]


def _has_kernel(query: Tensor, value: Tensor, dtype: torch.dtype) -> bool:
    size = query.shape[-1]
    is_known = dtype in (torch.float16, torch.bfloat16) and size == value.shape[-1] <= LARGEST and size % 8 == 0
    return is_known and query.is_cuda and torch.cuda.get_device_capability(query.device) >= AMPERE
