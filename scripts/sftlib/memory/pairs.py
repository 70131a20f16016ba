"""What autograd keeps of an encoder-decoder (T5 and its relatives) for its backward pass, from the architecture.

In come a `PairShape` and how it is run; out go bytes, as from activations.py, whose table holds for linear layers and
adapters. With S tokens of input and T of answer a row, R rows, A = heads x head size, it differs in this:

| where | kept | bytes |
|---|---|---|
| each norm, a token | its input in float32 and as it came, the scale (full: input and normalised) | 4 H + e H + 4 |
| each attention, a token | q and output of the reader; k and v of what is read; log-sum-exp | e 4 A, 4 heads |
| each attention | its bias with the mask in it: T5 has one for every pair of positions | below |
| - of the encoder | a row each when padded, else one for all blocks (full in 16 bits: a copy a block) | e R heads S^2 |
| - of the decoder | causal, so made in every block, once for all rows | e heads T^2 |
| - across | as of the encoder | e R heads T S |
| the encoder's output | read by k and v of every decoder block: a copy a layer, or one for all | e H S R |
| each dropout of the model | a byte a number, as CUDA has it: before additions, in MLPs, behind stacks | H, I |

Exact with its dropout off (tests/memory/test_pair_activations.py); of mode full with the biases frozen, as a CPU has no
fast attention that learns them and CUDA has. *Assumed*: the dropouts, and that CUDA's kernels need no more.

Worst bug: a term that grows with the square of the length and is missing (tests/memory/test_pair_activations.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .activations import Pass, cast_bytes
from .shape import LinearShape, ModelShape


@dataclass(frozen=True, slots=True)
class PairShape(ModelShape):
    """An encoder-decoder, as numbers: as many blocks on both sides (`windows` has one a block).

    dropout: the model's own, in training.
    """

    dropout: float = 0.0

    @property
    def block(self) -> tuple[LinearShape, ...]:
        """The linear layers of a decoder block, which has all that one of the encoder has."""
        return self.of_block("decoder")

    def of_block(self, side: str) -> tuple[LinearShape, ...]:
        """The linear layers of one block of a side; all blocks are alike."""
        inside = [linear for linear in self.linears if linear.is_in_block and linear.name.startswith(f"{side}.")]
        return tuple(inside[: len(inside) // self.layers])


def stored_bytes(shape: PairShape, run: Pass) -> int:
    """Kept of both stacks without checkpointing."""
    answer = run.of_answer()
    blocks = shape.layers * (_encoder_block(shape, run) + _decoder_block(shape, run)) + _once(shape, run)
    if run.mode != "full":  # nothing before the first adapter of either side needs a gradient
        blocks -= (run.tokens + answer.tokens) * _norm(shape, run)
        if run.width == 2 and run.dropout:
            first = [one for side in ("encoder", "decoder") for one in _readers(shape, side, "SelfAttention", "qkv")]
            blocks -= run.width * sum(run.rank * linear.size_in for linear in first if linear.is_target)
    return blocks + _ends(shape, run)


def block_bytes(shape: PairShape, run: Pass) -> int:
    """Kept by the larger kind of block, what is made once for all blocks included."""
    return max(_encoder_block(shape, run), _decoder_block(shape, run)) + _once(shape, run)


def checkpoint_bytes(shape: PairShape, run: Pass) -> int:
    """Kept with checkpointing: the input of every block, biases, masks, the encoder's output, the last norms."""
    answer = run.of_answer()
    stream = run.stream_width * shape.hidden
    inputs = shape.layers * (run.tokens + answer.tokens) * stream
    biases = shape.heads * (run.length**2 + answer.length**2 + answer.length * run.length)
    masks = run.rows * (run.length**2 + answer.length * run.length) if run.is_padded else 0
    return inputs + run.tokens * stream + run.stream_width * biases + masks + _ends(shape, run)


def bias_bytes(shape: PairShape, run: Pass) -> int:
    """The bias of the encoder's attention for one block."""
    return run.width * (run.rows if run.is_padded else 1) * shape.heads * run.length**2


def _encoder_block(shape: PairShape, run: Pass) -> int:
    a_token = 2 * _norm(shape, run) + _mlp(shape, run, "encoder") + 2 * _dropout(shape, run, shape.hidden)
    a_token += _inputs(_readers(shape, "encoder", "SelfAttention", "qkv"), run)
    a_token += 2 * _heads(shape, run) + _output(shape, run, "encoder", "SelfAttention")
    kept = run.tokens * (a_token + _adapters(shape.of_block("encoder"), run))
    kept += 0 if _shares_bias(run) else bias_bytes(shape, run)
    return kept + cast_bytes(shape.of_block("encoder"), run)


def _decoder_block(shape: PairShape, run: Pass) -> int:
    answer, linears = run.of_answer(), shape.of_block("decoder")
    across = _readers(shape, "decoder", "EncDecAttention", "kv")
    a_token = 3 * _norm(shape, run) + _mlp(shape, run, "decoder") + 3 * _dropout(shape, run, shape.hidden)
    a_token += _inputs(_readers(shape, "decoder", "SelfAttention", "qkv"), run)
    a_token += _inputs(_readers(shape, "decoder", "EncDecAttention", "q"), run)
    a_token += 2 * _heads(shape, run) + _output(shape, run, "decoder", "SelfAttention")
    a_token += _heads(shape, run) + _output(shape, run, "decoder", "EncDecAttention")
    a_token += _adapters([linear for linear in linears if linear not in across], run)
    read = 2 * run.width * shape.heads * shape.head_size + _adapters(across, run)
    read += 0 if run.has_shared_inputs else _inputs(across, run)
    kept = answer.tokens * a_token + run.tokens * read + run.width * shape.heads * answer.length**2
    kept += run.width * run.rows * shape.heads * answer.length * run.length if run.is_padded else 0
    return kept + cast_bytes(linears, run)


def _once(shape: PairShape, run: Pass) -> int:
    """For all blocks: the encoder's output where its readers share it, and biases without a mask."""
    across = _readers(shape, "decoder", "EncDecAttention", "kv")
    kept = run.tokens * _inputs(across, run) if run.has_shared_inputs else 0
    if not run.is_padded:
        kept += run.width * shape.heads * run.length * run.target_length
    return kept + (bias_bytes(shape, run) if _shares_bias(run) else 0)


def _shares_bias(run: Pass) -> bool:
    """Whether all blocks of the encoder keep one bias: no mask is put into it, and autocast makes no copies of it."""
    return not run.is_padded and run.stream_width == run.width


def _ends(shape: PairShape, run: Pass) -> int:
    """Behind both stacks: the last norm and a dropout; in mode full the ids of embeddings and biases."""
    answer = run.of_answer()
    kept = (run.tokens + answer.tokens) * (_norm(shape, run) + _dropout(shape, run, shape.hidden))
    if run.mode == "full":
        kept += (run.rows * run.length**2 if run.is_padded else 0) + answer.length**2  # where the mask is: a byte each
        kept += 8 * (run.tokens + answer.tokens + run.length**2 + answer.length**2)
        kept += (run.tokens + answer.tokens) * _dropout(shape, run, shape.hidden)  # of the embeddings
    return kept


def _norm(shape: PairShape, run: Pass) -> int:
    if run.mode == "full":
        return 8 * shape.hidden + 4
    return (4 + (run.width if run.width == 2 else 0)) * shape.hidden + 4


def _heads(shape: PairShape, run: Pass) -> int:
    """Two of queries, keys, values and output, with half a log-sum-exp to each pair."""
    return run.width * 2 * shape.heads * shape.head_size


def _output(shape: PairShape, run: Pass, side: str, attention: str) -> int:
    """The log-sum-exp of an attention, and the input of `o` where it is a copy of the output."""
    [reader] = _readers(shape, side, attention, "o")
    is_read = run.mode != "full" and reader.is_target
    copy = run.width * reader.size_in if is_read and run.dropout else 0
    return 4 * shape.heads + copy + (reader.size_in if is_read and run.dropout else 0)


def _mlp(shape: PairShape, run: Pass, side: str) -> int:
    by_leaf = {linear.leaf: linear for linear in shape.of_block(side)}
    up = [linear for leaf, linear in by_leaf.items() if leaf.startswith("wi")]
    down = by_leaf["wo"]
    is_read = run.mode == "full" or down.is_target
    if shape.has_written_out_gelu:
        wide = 3 * 4 + run.width if run.device == "cuda" and run.width == 2 else 4 * run.width  # as in activations.py
    else:
        wide = run.width
    wide += 2 * run.width if shape.has_gate else 0
    is_same = not shape.has_gate and not shape.has_written_out_gelu and run.has_shared_inputs and not shape.dropout
    kept = _inputs(up, run) + wide * shape.intermediate + _dropout(shape, run, shape.intermediate)
    if is_read and not is_same:  # ReLU keeps its output, which `wo` reads as it is where nothing is cast or dropped
        kept += _inputs([down], run)
    return kept


def _inputs(readers: Sequence[LinearShape], run: Pass) -> int:
    """What layers that read the same values keep of them, a token."""
    readers = [linear for linear in readers if run.mode == "full" or linear.is_target]
    if not readers:
        return 0
    dropped = run.dropout and run.mode != "full"
    copies = len(readers) if dropped or not run.has_shared_inputs else 1
    return readers[0].size_in * (copies * run.width + (len(readers) if dropped else 0))


def _adapters(linears: Sequence[LinearShape], run: Pass) -> int:
    return 0 if run.mode == "full" else run.width * run.rank * sum(linear.is_target for linear in linears)


def _dropout(shape: PairShape, run: Pass, size: int) -> int:
    return size if shape.dropout else 0


def _readers(shape: PairShape, side: str, attention: str, leaves: str) -> list[LinearShape]:
    return [linear for linear in shape.of_block(side) if f".{attention}." in linear.name and linear.leaf in leaves]
