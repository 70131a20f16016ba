"""The examples of a micro-batch laid one after another in a single row, so that no padding is computed.

In comes a micro-batch as it is collated, padded, with the length of each example; out goes the same as one row: token
ids, positions that begin at 0 with every example, labels, and the number of the example that each position is of. The
collated form stays what the rest of a step sees (replay, counts, guards), so that a packed step has the same examples
and the same loss.

    ids [[5, 6, 7], [8, 9, pad]], lengths [3, 2]
    ->  input_ids [[5, 6, 7, 8, 9]]  position_ids [[0, 1, 2, 0, 1]]  rows [[0, 0, 0, 1, 1]]

No attention mask is given. Where positions begin anew transformers lets attention begin anew: it makes a mask of them
for sdpa and eager (a square of all tokens, of which most is empty) and blocks for flex_attention; flash and varlen are
handed borders ready made, as finding them would make the GPU wait in every layer. That a model really does so is
nobody's promise: ALiBi, linear attention and state spaces know nothing of positions, so `verify_packing` looks.

With sdpa and eager a number that is not finite reaches its neighbours all the same (0 x NaN is NaN): such a step is
left out as ever, and all rows of the micro-batch are named.

Nothing here waits for the GPU: lengths come from the collator, on the host.

Worst bug: an example that sees its neighbour (tests/learn/test_packing.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import is_flash_attention_requested

from ..errors import ModelError
from ..model import varlen
from ..tokens.examples import IGNORED
from .logprobs import causal_model, hidden_states
from .undisturbed import undisturbed

FIRST, SECOND = 9, 7  # tokens of the two examples that are tried
ROUNDING = 16  # roundings of the dtype that another order of additions may come to, over all layers, on average


def pack(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """`input_ids`, `position_ids`, `labels` and `rows`, each [1, N]; for flash and varlen the borders besides.

    batch: `input_ids`, `labels` and `attention_mask`, [B, T], and `lengths`, a number an example.
    """
    count, longest = sum(batch["lengths"]), max(batch["lengths"])
    ids_BT = batch["input_ids"]
    width, device = ids_BT.shape[1], ids_BT.device
    lengths_B = batch["attention_mask"].sum(dim=1)
    ends_B = lengths_B.cumsum(dim=0)
    rows_N = torch.arange(len(ids_BT), device=device).repeat_interleave(lengths_B, output_size=count)
    positions_N = torch.arange(count, device=device) - (ends_B - lengths_B)[rows_N]
    from_N = rows_N * width + positions_N
    # The first token of an example is predicted by none of its own.
    labels_N = batch["labels"].flatten()[from_N].masked_fill(positions_N == 0, IGNORED)
    packed = {
        "input_ids": ids_BT.flatten()[from_N][None], "position_ids": positions_N[None], "labels": labels_N[None],
        "rows": rows_N[None],
    }  # fmt: skip
    if _reads_borders(causal_model(model)):
        borders = torch.cat([ends_B.new_zeros(1), ends_B]).int()
        packed |= {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders}
        packed |= {"max_length_q": longest, "max_length_k": longest}
    return packed


def verify_packing(model: nn.Module) -> None:
    """Look whether an example in a packed row is what it is alone: it sees no neighbour and counts from 0.

    Raises ModelError, naming the architecture, where it does not.
    """
    inner = causal_model(model)
    name = type(inner).__name__
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        raise _refused(f"{name} takes no position ids, which tell the examples of a packed row apart.")
    if chunk := getattr(inner.config.get_text_config(), "attention_chunk_size", None):
        raise _refused(f"{name} attends within chunks of {chunk} tokens, and they begin with the row.")
    device, vocabulary = next(model.parameters()).device, inner.get_input_embeddings().weight.shape[0]
    ids_BT = torch.arange(3, 3 + 2 * FIRST, device=device).reshape(2, FIRST) % vocabulary
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, SECOND:] = 0
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": ids_BT, "lengths": [FIRST, SECOND]}
    other_BT = ids_BT.clone()
    other_BT[0] = (ids_BT[0] + 1) % vocabulary
    with undisturbed(model), torch.no_grad():
        packed_TH, beside_other_TH = (
            hidden_states(model, pack(model, batch | {"input_ids": ids}))[0, FIRST:].float()
            for ids in (ids_BT, other_BT)
        )
        alone_TH = hidden_states(model, {"input_ids": ids_BT[1:, :SECOND]})[0]
    eps = torch.finfo(alone_TH.dtype).eps
    difference, rounding = float((packed_TH - beside_other_TH).abs().max()), 4 * eps * float(alone_TH.abs().max())
    if not difference <= rounding:
        raise _refused(
            f"{name} lets an example in a packed row see its neighbour: another neighbour moves its hidden states by "
            f"{difference:.3g}, rounding explains {rounding:.3g}."
        )
    share = float((packed_TH - alone_TH.float()).norm() / alone_TH.float().norm())
    if not share <= ROUNDING * eps:
        raise _refused(
            f"{name} makes other hidden states of an example in a packed row than of the same one alone: they differ "
            f"by {share:.3g} of their size, rounding explains {ROUNDING * eps:.3g}."
        )


def _reads_borders(inner: nn.Module) -> bool:
    return is_flash_attention_requested(inner.config) or inner.config._attn_implementation == varlen.NAME


def _refused(seen: str) -> ModelError:
    return ModelError(
        seen, where="train.packing", expected="a model that keeps the examples of a packed row apart",
        cure="Set train.packing to false: examples are padded to the longest of their micro-batch.",
    )  # fmt: skip
