"""The arithmetic that a step needs, whatever computes it: floating-point operations, from the numbers of the model.

In come a `ModelShape` and what the step saw; out go operations, two for a multiplication and its addition:

| what | forward | gradient by the input | gradient by the weight |
|---|---|---|---|
| a layer of a block, a token and weight | 2 | 2 | 2 in mode full |
| an adapter of rank r, a token: r (in + out) weights | 2 | 2 | 2 |
| the head, a supervised token and weight | 2 | 2 | 2 in mode full |
| attention, a pair of positions, of which the later one sees the other, and heads x head size | 4 | 8 | - |

    step_operations(shape, "lora", 16, [SeenBatch((120, 88), supervised=61, positions=240)]).total  ->  1.3e11

Padding is not counted, nor what is computed a second time (gradient checkpointing, attention kernels that keep no
probabilities), nor what is no product: a step that does more than this is further from the floor. The first block's
layers count their gradient by the input although an adapter's training could do without it.

What it does not do: encoder-decoders; time (learn/profiling.py measures what a product takes).

Worst bug: a floor above what a step can take (tests/memory/test_arithmetic.py counts a model by hand).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .shape import LinearShape, Mode, ModelShape

FORWARD, BY_INPUT, BY_WEIGHT = 2, 2, 2  # operations a token and weight
PRODUCTS_OF_ATTENTION = 6  # scores and values; backward two for each of them


@dataclass(frozen=True, slots=True)
class SeenBatch:
    """A micro-batch: tokens of each row without padding, supervised tokens, positions with padding."""

    lengths: tuple[int, ...]
    supervised: int
    positions: int

    @property
    def tokens(self) -> int:
        """Of all rows, without padding."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Operations:
    """Floating-point operations of a step, by what they are for."""

    layers: int
    adapters: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.layers + self.adapters + self.attention + self.head


def step_operations(shape: ModelShape, mode: Mode, rank: int, batches: Sequence[SeenBatch]) -> Operations:
    """Of one optimizer step over these micro-batches; the update itself multiplies no matrices."""
    tokens = sum(batch.tokens for batch in batches)
    supervised = sum(batch.supervised for batch in batches)
    a_weight = FORWARD + BY_INPUT + (BY_WEIGHT if mode == "full" else 0)
    inside = [linear for linear in shape.linears if linear.is_in_block]
    heads = [linear for linear in shape.linears if not linear.is_in_block]
    head = sum(linear.numbers for linear in heads) or shape.hidden * shape.vocabulary  # tied: an embedding table
    adapters = 0
    if mode != "full":
        sides = _adapter(inside, rank) * tokens + _adapter(heads, rank) * supervised
        adapters = (FORWARD + BY_INPUT + BY_WEIGHT) * sides
    pairs = sum(_pairs(length, window) for batch in batches for length in batch.lengths for window in shape.windows)
    return Operations(
        layers=a_weight * sum(linear.numbers for linear in inside) * tokens,
        adapters=adapters,
        attention=2 * PRODUCTS_OF_ATTENTION * shape.heads * shape.head_size * pairs,
        head=a_weight * head * supervised,
    )


def largest_layer(shape: ModelShape) -> LinearShape:
    """The layer of a block with the most weights."""
    return max((linear for linear in shape.linears if linear.is_in_block), key=lambda linear: linear.numbers)


def _adapter(linears: Sequence[LinearShape], rank: int) -> int:
    return sum(rank * (linear.size_in + linear.size_out) for linear in linears if linear.is_target)


def _pairs(length: int, window: int | None) -> int:
    """Pairs of a position and one that it sees, itself included."""
    reach = length if window is None else min(length, window)
    return reach * (reach + 1) // 2 + (length - reach) * reach
