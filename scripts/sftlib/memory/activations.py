"""What autograd keeps of a forward pass for its backward pass, derived from the architecture.

In come a `ModelShape` and how it is run; out go bytes. For N = rows x length tokens, H hidden, I intermediate, A query
heads x head size, K key-value heads x head size, r rank, and e bytes of the compute dtype (2 under autocast), a block
keeps a token:

| where | kept | bytes a token |
|---|---|---|
| each norm over H | its input in float32, the scale; in mode full the normalised values too | 4 H + 4 (+ 4 H) |
| each layer norm | its input, mean and 1/std; CUDA's autocast runs it in float32 | w H + 2 w |
| query and key norms | the same, head by head | 4 (A + K) + 4 per head (+ 4 (A + K)) |
| inputs of q, k, v | one copy in e, or one each (see below) | e H |
| sdpa, flash, varlen | q, k, v, output, log-sum-exp; with a mask k, v repeated to all heads | e (2 A + 2 K) + 4 heads |
| sdpa with a mask | the mask as a bias, in every block | e x length |
| short rows on a CPU (model/attention.py) | q, k, v, the probabilities | e (A + 2 K) + e heads x length |
| eager | q, k, v repeated; scores in float32 and in e; capped ones twice | 3 e A + (4 + e) heads x length |
| varlen of a packed row without its flash kernel | where each token stands; the output once more | 8, e A |
| input of o | the attention's output; a copy where layers cast their inputs | e A |
| MLP | gate, act(gate), up; without a gate the input of act. gelu_new written out: 4 of it | 3 e I, e I, 4 e I |
| inputs of gate, up, down | as of q, k, v; the product | e H (each), e I |
| each adapter | what A gives to B | e r |

A layer keeps its input only if its weight or its adapter is trained. Layers that read the same values share one copy,
except in mode full, which holds float32 hidden states, so that autocast makes a copy a layer. Besides, once: the
weights in mode full, or an adapter with dropout, cast to e; the last norm; the rotary tables. With gradient
checkpointing only the input of each block is kept, and one block is recomputed at a time; with offload these inputs are
in main memory.

Assumed: text only; no mask but that of a sliding window and of a packed row, which is one row of all tokens to
everything here (learn/logprobs.py gives none to a causal model; an encoder gets one unless a micro-batch has one row);
all blocks alike.
Not in here: gradients and buffers that live for a moment (estimate.py).

Worst bug: a term that grows with the length and is missing (tests/memory/test_activations.py measures them all).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from .shape import LinearShape, Mode, ModelShape

QKV = ("q_proj", "k_proj", "v_proj", "qkv_proj")
OUT = ("o_proj", "dense")
UP = ("gate_proj", "up_proj", "gate_up_proj", "fc1")
DOWN = ("down_proj", "fc2")


@dataclass(frozen=True, slots=True)
class Pass:
    """How a forward pass is run.

    Args:
        rows, length: of the micro-batch, padding included.
        width: bytes of the compute dtype; 2 means autocast.
        dropout: of the adapter; above 0 each adapter keeps its own input and what was dropped.
        is_padded: attention is told by a mask: as rows differ in length, or which examples a packed row is of.
        target_length: of what a decoder beside an encoder reads (pairs.py); 0 where there is one stack.
    """

    mode: Mode
    rank: int
    rows: int
    length: int
    width: int
    device: Literal["cuda", "cpu"]
    dropout: bool
    is_padded: bool
    target_length: int = 0

    def of_answer(self) -> Pass:
        """The pass through the stack that answers: of a causal model this one."""
        return replace(self, length=self.target_length) if self.target_length else self

    @property
    def tokens(self) -> int:
        """Of the micro-batch."""
        return self.rows * self.length

    @property
    def stream_width(self) -> int:
        """Bytes of a number in the residual stream."""
        return 4 if self.mode == "full" else self.width

    @property
    def has_shared_inputs(self) -> bool:
        """Whether layers that read the same values keep one copy of them."""
        return self.width == 4 or self.mode != "full"


def block_bytes(shape: ModelShape, run: Pass, index: int) -> int:
    """Kept by the block at `index` without checkpointing, the adapter's casts included."""
    by_leaf = {linear.leaf: linear for linear in shape.block}
    a_token = shape.norms * _norm(shape, run, shape.hidden, 1)
    if shape.has_qk_norm:
        a_token += _head_norm(shape, run, shape.heads) + _head_norm(shape, run, shape.kv_heads)
    for leaves in (QKV + UP, DOWN) if shape.is_parallel else (QKV, UP, DOWN):
        a_token += _inputs(by_leaf, leaves, run)
    a_token += _attention(shape, run, shape.windows[index])
    a_token += _output_copy(by_leaf, shape, run, shape.windows[index])
    a_token += _activation(shape, run)
    if run.mode != "full":
        a_token += run.width * run.rank * len([linear for linear in shape.block if linear.is_target])
    return run.tokens * a_token + _norm_weights(shape) + cast_bytes(shape.block, run)


def stored_bytes(shape: ModelShape, run: Pass) -> int:
    """Kept of the whole decoder without checkpointing."""
    blocks = sum(block_bytes(shape, run, index) for index in range(shape.layers))
    if run.mode != "full":  # nothing before the first adapter needs a gradient
        first = [linear for linear in shape.block if linear.leaf in _first_readers(shape) and linear.is_target]
        blocks -= run.tokens * _norm(shape, run, shape.hidden, 1)
        blocks -= 4 * shape.hidden if shape.norm == "gemma" else 0
        if run.width == 2 and run.dropout:
            blocks -= run.width * sum(run.rank * linear.size_in for linear in first)
        if shape.is_parallel and not any(linear.is_target for linear in shape.block if linear.leaf in UP + DOWN):
            blocks -= run.tokens * _activation(shape, run)
    return blocks + _last_norm(shape, run) + _positions(shape, run)


def checkpoint_bytes(shape: ModelShape, run: Pass) -> int:
    """Kept with checkpointing: the input of every block, the mask and the last norm."""
    return offloaded_bytes(shape, run) + _last_norm(shape, run) + _positions(shape, run) + _mask(shape, run)


def offloaded_bytes(shape: ModelShape, run: Pass) -> int:
    """What of it activation offload moves to main memory: the input of every block."""
    return shape.layers * run.tokens * run.stream_width * shape.hidden


def cast_bytes(linears: Iterable[LinearShape], run: Pass) -> int:
    """The 16-bit copies that autocast makes of float32 weights and keeps until the forward pass is over."""
    if run.width == 4:
        return 0
    if run.mode == "full":
        return run.width * sum(linear.numbers for linear in linears)
    if not run.dropout:
        return 0  # cast where they are used, and gone (model/fused.py)
    return run.width * sum(run.rank * (linear.size_in + linear.size_out) for linear in linears if linear.is_target)


def _norm(shape: ModelShape, run: Pass, size: int, groups: int) -> int:
    if shape.norm == "layer":
        width = 4 if run.device == "cuda" else run.stream_width
        return width * (size + 2 * groups)
    return 4 * size * (2 if run.mode == "full" else 1) + 4 * groups


def _head_norm(shape: ModelShape, run: Pass, heads: int) -> int:
    size = heads * shape.head_size
    kept = _norm(shape, run, size, heads)
    if run.mode == "full" and shape.norm == "rms":  # normalised values of what a 16-bit layer gave
        kept -= (4 - run.width) * size
    return kept


def _norm_weights(shape: ModelShape) -> int:
    """Of one block: Gemma adds 1 to the weights of its norms in float32, in every pass."""
    if shape.norm != "gemma":
        return 0
    return 4 * (shape.norms * shape.hidden + (2 * shape.head_size if shape.has_qk_norm else 0))


def _first_readers(shape: ModelShape) -> tuple[str, ...]:
    return QKV + UP if shape.is_parallel else QKV


def _inputs(by_leaf: dict[str, LinearShape], leaves: tuple[str, ...], run: Pass) -> int:
    readers = [by_leaf[leaf] for leaf in leaves if leaf in by_leaf and (run.mode == "full" or by_leaf[leaf].is_target)]
    if not readers:
        return 0
    dropped = run.dropout and run.mode != "full"
    copies = len(readers) if dropped or not run.has_shared_inputs else 1
    if run.mode == "full" and leaves == DOWN:  # the product is in 16 bits already
        copies = 1
    return readers[0].size_in * (copies * run.width + (len(readers) if dropped else 0))


def _output_copy(by_leaf: dict[str, LinearShape], shape: ModelShape, run: Pass, window: int | None) -> int:
    reader = next(by_leaf[leaf] for leaf in OUT if leaf in by_leaf)
    if run.mode != "full" and not reader.is_target:
        return 0
    is_own = shape.attention == "eager" or shape.has_joined_rotary or (run.mode != "full" and run.dropout)
    is_own = is_own or _is_by_products(shape, run, window) or _is_laid_out(shape, run)
    mask = reader.size_in if run.dropout and run.mode != "full" else 0
    return run.width * reader.size_in * is_own + mask


def _attention(shape: ModelShape, run: Pass, window: int | None) -> int:
    e, heads = run.width, shape.heads
    queries, keys = heads * shape.head_size, shape.kv_heads * shape.head_size
    if shape.attention == "eager":
        scores = (4 + (e if e != 4 else 0)) * heads * run.length
        if shape.has_capped_attention:
            scores += e * heads * run.length
        is_looked_at = shape.kv_heads == 1 and run.rows == 1  # rather than repeated
        return e * (queries + 2 * (keys if is_looked_at else queries)) + scores
    has_mask = _has_mask(shape, run, window)
    if has_mask and shape.kv_heads > 1:  # repeated; a single head is only looked at several times
        values = keys = queries
    elif any(linear.leaf == "qkv_proj" for linear in shape.block) and not _is_laid_out(shape, run):
        values = queries + 2 * keys  # a view of the one layer's output keeps all of it
    else:
        values = keys
    if _is_by_products(shape, run, window):
        return e * (queries + keys + values) + e * heads * run.length
    places = 8 if _is_laid_out(shape, run) else 0
    return e * (2 * queries + keys + values) + 4 * heads + (e * run.length if has_mask else 0) + places


def _is_laid_out(shape: ModelShape, run: Pass) -> bool:
    """Whether varlen attention makes padded rows of a packed one: where there is no flash kernel."""
    return shape.attention == "varlen" and run.is_padded and run.device == "cpu"


def _is_by_products(shape: ModelShape, run: Pass, window: int | None) -> bool:
    is_short = run.device == "cpu" and run.width == 2 and 1 < run.length <= shape.short_rows
    return is_short and not _has_mask(shape, run, window)


def _has_mask(shape: ModelShape, run: Pass, window: int | None) -> bool:
    return shape.attention == "sdpa" and (run.is_padded or (window is not None and run.length >= window))


def _activation(shape: ModelShape, run: Pass) -> int:
    if not shape.has_written_out_gelu:
        return (3 if shape.has_gate else 1) * run.width * shape.intermediate
    if run.device == "cuda" and run.width == 2:  # autocast runs pow in float32, and what follows it
        return (3 * 4 + run.width) * shape.intermediate
    return 4 * run.width * shape.intermediate


def _last_norm(shape: ModelShape, run: Pass) -> int:
    weight = 4 * shape.hidden if shape.norm == "gemma" else 0
    return run.tokens * _norm(shape, run, shape.hidden, 1) + weight


def _positions(shape: ModelShape, run: Pass) -> int:
    """Once: cosine and sine of every position, one for each kind of attention in Gemma 3; ids for the embeddings."""
    kinds = len({window is None for window in shape.windows}) if shape.family == "gemma3_text" else 1
    ids = 8 * run.tokens if run.mode == "full" else 0
    return ids + kinds * 2 * run.length * shape.rotary_size * run.stream_width


def _mask(shape: ModelShape, run: Pass) -> int:
    """True or false for every pair of positions, once."""
    return run.rows * run.length**2 if any(_has_mask(shape, run, window) for window in shape.windows) else 0
