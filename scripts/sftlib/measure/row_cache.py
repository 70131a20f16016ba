"""Keys and values of the rows that are being answered, in buffers with spare columns; rows leave and join.

Every row ends at the same column and is as long as what it has read and said, so that one column is written at a step
and a row that joins needs no neighbour of its length. Positions are inside the keys already: a row may stand anywhere.

    . . a b c _ _     row of 3, and two spare columns
    d e f g h _ _     row of 5                               a row of 2 joins, the row of 5 leaves:   a b c _ _
                                                                                                      . i j _ _

Nothing is copied at a step, where transformers' own cache copies itself with every token. Sliding windows are a matter
of the mask here: all columns are kept. What comes first in a row is left as zeros, which the mask hides.

Worst bug: a row that reads what its neighbour said (tests/measure/test_row_cache.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """One layer: buffers of which the first `length` columns are in use."""

    def __init__(self, keys_BHTD: torch.Tensor, values_BHTD: torch.Tensor, length: int) -> None:
        super().__init__()
        self.lazy_initialization(keys_BHTD, values_BHTD)
        self._buffers, self._length = (keys_BHTD, values_BHTD), length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the columns of this forward pass; the caller has seen to their room."""
        start, self._length = self._length, self._length + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self._length] = states
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)
        return self.keys, self.values


def arrange(kept: Cache | None, rows: Sequence[int], lengths: Sequence[int], read: Cache | None, spare: int) -> Cache:
    """The cache of the rows that stay and of those that join, with room for `spare` more columns; both are used up.

    Args:
        kept: of an earlier call; its `rows` stay, in this order.
        lengths: of the rows that stay, then of those that join.
        read: of prompts that were read together, each from column 0 on, padding behind it: all of them join.
    """
    sources = [cache for cache in (kept, read) if cache is not None]
    width = max(lengths)
    layers = []
    for index in range(len(sources[0].layers)):
        buffers = []
        for name in ("keys", "values"):
            old, new = (getattr(cache.layers[index], name) if cache is not None else None for cache in (kept, read))
            buffers.append(_buffer(old, rows, lengths, new, width, spare))
        layers.append(RoomyLayer(*buffers, width))
        for cache in sources:
            cache.layers[index] = None  # one layer twice, never the whole cache
    return Cache(layers=layers)


def _buffer(
    old_BHTD: torch.Tensor | None, rows: Sequence[int], lengths: Sequence[int], new_BHTD: torch.Tensor | None,
    width: int, spare: int,
) -> torch.Tensor:  # fmt: skip
    like = old_BHTD if old_BHTD is not None else new_BHTD
    heads, size = like.shape[1], like.shape[3]
    buffer = like.new_zeros(len(lengths), heads, width + spare, size)
    if rows:
        stay = max(lengths[: len(rows)])
        index = torch.tensor(rows, device=like.device)
        buffer[: len(rows), :, width - stay : width] = old_BHTD[:, :, old_BHTD.shape[2] - stay :].index_select(0, index)
    for row, length in enumerate(lengths[len(rows) :]):
        buffer[len(rows) + row, :, width - length : width] = new_BHTD[row, :, :length]
    return buffer
