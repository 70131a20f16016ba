"""The numbers of a model that memory depends on, and the bytes that are exact: weights, adapter, optimizer state.

In comes nothing but numbers (model/blueprint.py reads them off config.json); out go bytes that are *equal* to what is
allocated when the model is loaded through our own backends.

    nf4_bytes(2048 * 2048)  ->  2164804      2 MiB of packed weights, 65,536 scales in 8 bits, 256 scales of those,
                                             their offset, 1088 bytes of code tables

| what | bytes |
|---|---|
| a 16-bit weight | 2 each (4 in mode full, which trains float32 master weights) |
| an NF4 weight of n numbers | ceil(n / 2) + ceil(n / 64) scales + 4 ceil(ceil(n / 64) / 256) + 4 + 1088 |
| the adapter on a layer | 4 r (in + out) |
| AdamW, a trained tensor of n numbers | 8 n + 4; of bitsandbytes 8 n, in 8 bits from 4096 on 2 n + 8 ceil(n / 256) |
| Adafactor, a trained tensor | 4 (rows + columns) + 4 for a matrix, 4 n + 4 otherwise |

Worst bug: bytes that the real model does not have (tests/memory/test_exact_bytes.py compares every family).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Mode = Literal["qlora", "lora", "full"]
NF4_BLOCK = (
    64  # weights that share a scale, and scales that share one: bitsandbytes' defaults, which transformers keeps
)
NF4_NESTED_BLOCK = 256
OPTIMIZER_BLOCK = 256  # numbers that share a scale in bitsandbytes' 8-bit optimizers
OPTIMIZER_TABLES = 2 * 4 * 256  # what the 8 bits of each of its two states mean: one copy for all tensors
SMALLEST_8BIT = 4096  # numbers below which bitsandbytes keeps 32-bit state
SMALLEST_PAGED = 100_000  # numbers below which bitsandbytes does not page the state
STREAM_BUFFERS = 2  # of the card, where layers are streamed: one computes, the next one arrives
STREAM_ALIGNMENT = 256  # bytes at which a tensor begins in them, as kernels that read 16 bytes at once want it
CODE_TABLES = (4 * 16, 4 * 256)  # bytes of NF4's 16 values and the 256 of its scales: every layer has its own copy


class Trained(NamedTuple):
    """A trained tensor; transformers keeps the optimizer state of embedding tables in 32 bits."""

    sizes: tuple[int, ...]
    is_embedding: bool = False

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.sizes)


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One linear layer.

    Args:
        is_quantisable: qlora holds it in 4 bits (the head and tied layers stay as they are).
        is_target: gets an adapter.
        is_in_block: belongs to the repeated decoder blocks.
    """

    name: str
    size_in: int
    size_out: int
    is_quantisable: bool
    is_target: bool
    is_in_block: bool

    @property
    def numbers(self) -> int:
        """Of the weight; a bias is one of the other tensors."""
        return self.size_in * self.size_out

    @property
    def leaf(self) -> str:
        """The last part of the name, by which layers of one role are known."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Block:
    """What is frozen in one of the repeated blocks: linear layers, and the sizes of norms and biases."""

    linears: tuple[LinearShape, ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A causal language model, as numbers.

    Args:
        family: `model_type` of its text config.
        blocks: what each of the repeated blocks is made of, for layer streaming; those of a vision tower too.
        embeddings: rows and columns of the embedding tables; a tied head is counted here and nowhere else.
        others: sizes of all other parameters: norms and biases.
        buffers: numbers in buffers that have the dtype of the weights, such as Gemma's embedding scale.
        buffer_bytes: of buffers that keep theirs, such as rotary frequencies.
        attention: the kernel that will run, as transformers names it.
        short_rows: tokens up to which a CPU takes plain products in 16 bits instead (model/attention.py); 0 for never.
        windows: of each block the sliding window of its attention, None where it sees everything.
        is_parallel: attention and MLP read one norm and are added, rather than one after the other.
        has_joined_rotary: queries are joined of a turned and an unturned part, which changes their layout in memory, so
            that the attention's output is copied.
        has_gate: the MLP is down(act(gate) * up) rather than down(act(up)).
        norms: how many a block has over the hidden size; norm: rms, gemma (which multiplies in float32) or layer.
        has_qk_norm: queries and keys are normalised, head by head.
        has_written_out_gelu: its activation is made of single operations (gelu_new), each of which keeps its input.
        has_capped_logits: logits are squashed by tanh.
        has_capped_attention: attention scores are squashed by tanh (eager kernel only).
    """

    family: str
    linears: tuple[LinearShape, ...]
    blocks: tuple[Block, ...]
    embeddings: tuple[tuple[int, int], ...]
    others: tuple[int, ...]
    buffers: int
    buffer_bytes: int
    attention: str
    short_rows: int
    windows: tuple[int | None, ...]
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    rotary_size: int
    vocabulary: int
    is_parallel: bool
    has_joined_rotary: bool
    has_gate: bool
    norms: int
    norm: Literal["rms", "gemma", "layer"]
    has_qk_norm: bool
    has_written_out_gelu: bool
    has_capped_logits: bool
    has_capped_attention: bool

    @property
    def layers(self) -> int:
        """Decoder blocks."""
        return len(self.windows)

    @property
    def parameters(self) -> int:
        """All of them, a shared one counted once."""
        return sum(linear.numbers for linear in self.linears) + self.in_no_linear

    @property
    def in_no_linear(self) -> int:
        """Parameters of embeddings, norms and biases."""
        return sum(math.prod(table) for table in self.embeddings) + sum(self.others)

    @property
    def targets(self) -> tuple[LinearShape, ...]:
        """Layers with an adapter."""
        return tuple(linear for linear in self.linears if linear.is_target)

    @property
    def block(self) -> tuple[LinearShape, ...]:
        """The linear layers of one decoder block; all blocks are alike."""
        inside = [linear for linear in self.linears if linear.is_in_block]
        return tuple(inside[: len(inside) // self.layers])

    def trained_tensors(self, mode: Mode, rank: int) -> list[Trained]:
        """Every trained tensor."""
        if mode == "full":
            linears = [Trained((linear.size_out, linear.size_in)) for linear in self.linears]
            tables = [Trained(table, is_embedding=True) for table in self.embeddings]
            return [*linears, *tables, *(Trained((size,)) for size in self.others)]
        sides = [((rank, linear.size_in), (linear.size_out, rank)) for linear in self.targets]
        return [Trained(side) for pair in sides for side in pair]


def nf4_bytes(numbers: int) -> int:
    """A weight in NF4 with double quantisation: packed numbers, scales, scales of scales, offset, code tables."""
    return sum(nf4_parts(numbers))


def nf4_parts(numbers: int) -> tuple[int, ...]:
    """The tensors that an NF4 weight is made of, in bytes."""
    scales = math.ceil(numbers / NF4_BLOCK)
    return math.ceil(numbers / 2), scales, 4 * math.ceil(scales / NF4_NESTED_BLOCK), 4, *CODE_TABLES


def quantised_bytes(shape: ModelShape) -> int:
    """The 4-bit part of a qlora base."""
    return sum(nf4_bytes(linear.numbers) for linear in shape.linears if linear.is_quantisable)


def plain_bytes(shape: ModelShape, mode: Mode, width: int) -> int:
    """What of the base is not in 4 bits: everything but in qlora, `width` bytes a number (4 in mode full)."""
    kept = [linear for linear in shape.linears if mode != "qlora" or not linear.is_quantisable]
    numbers = sum(linear.numbers for linear in kept) + shape.in_no_linear + shape.buffers
    return numbers * (4 if mode == "full" else width) + shape.buffer_bytes


def in_stream(size: int) -> int:
    """What a tensor of so many bytes takes of a streamed block, the gap behind it included."""
    return -(-size // STREAM_ALIGNMENT) * STREAM_ALIGNMENT


def streamed_bytes(shape: ModelShape, mode: Mode, width: int) -> tuple[int, int, int]:
    """Of the 4-bit and of the other part of a base, what streaming takes off the card; and what its buffers take."""
    quantised = plain = largest = 0
    for block in shape.blocks:
        in_block = sum(in_stream(width * size) for size in block.others)
        plain += width * sum(block.others)
        for linear in block.linears:
            if mode == "qlora" and linear.is_quantisable:
                quantised += nf4_bytes(linear.numbers)
                in_block += sum(map(in_stream, nf4_parts(linear.numbers)))
            else:
                plain += width * linear.numbers
                in_block += in_stream(width * linear.numbers)
        largest = max(largest, in_block)
    return quantised, plain, min(STREAM_BUFFERS, len(shape.blocks)) * largest


def adapter_bytes(shape: ModelShape, rank: int) -> int:
    """The adapter, in float32."""
    return 4 * sum(rank * (linear.size_in + linear.size_out) for linear in shape.targets)


def optimizer_bytes(tensors: Sequence[Trained], optim: str) -> tuple[int, int]:
    """State of an optimizer over trained tensors: bytes in the card's own memory, and bytes in paged memory.

    Paged memory moves to main memory when the card is full, so that it need not fit.
    """
    if optim == "adafactor":
        return sum(4 * (sum(one.sizes) if len(one.sizes) == 2 else one.numbers) + 4 for one in tensors), 0
    if optim in ("adamw_torch", "adamw_torch_fused"):
        return sum(8 * one.numbers + 4 for one in tensors), 0
    own = paged = tables = 0
    for one in tensors:
        state = 8 * one.numbers
        if "8bit" in optim and one.numbers >= SMALLEST_8BIT and not one.is_embedding:
            state = 2 * one.numbers
            own += 8 * math.ceil(one.numbers / OPTIMIZER_BLOCK)
            tables = OPTIMIZER_TABLES
        if optim.startswith("paged") and one.numbers >= SMALLEST_PAGED:
            paged += state
        else:
            own += state
    return own + tables, paged
