"""Chance that belongs to a row: seeded by what the row says, so that neither its place nor its neighbours matter.

    chance = Chance(42, conversation.to_dicts())
    chance.falls("persona", 0.3)              ->  True for three rows in ten
    chance.pick("persona", ["a", "b", "c"])   ->  one of them
    chance.order("system", 3)                 ->  [2, 0, 1], the places of a pool in the row's own order

Every purpose draws for itself, so that adding one operation changes no draw of another. Rows that say the same fall
alike. Hashes, not a generator: the draws are the same in every version of Python.
Worst bug: draws that hang together, so that one operation takes only the rows of another
(tests/chat/augmentation/test_chance.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_STEPS = 2**64


class Chance:
    """The draws of one row, of one of its variants, or of anything else that JSON can say."""

    def __init__(self, seed: int, *what: object) -> None:
        said = json.dumps([seed, *what], sort_keys=True)
        self._key = hashlib.blake2b(said.encode("utf-8"), digest_size=16).digest()

    def falls(self, purpose: str, share: float) -> bool:
        """Whether this row is among the share that `purpose` is for."""
        return self._draw(purpose, "falls") < share * _STEPS

    def pick(self, purpose: str, pool: Sequence[T], number: int = 0) -> T:
        """One of the pool; `number` tells several picks for one purpose apart."""
        return pool[self._draw(purpose, "pick", number) * len(pool) // _STEPS]

    def order(self, purpose: str, length: int) -> list[int]:
        """The places 0..length-1 in an order of the row's own."""
        return sorted(range(length), key=lambda place: self._draw(purpose, "order", place))

    def rank(self, purpose: str) -> int:
        """Where this row stands when all rows are put into an order for `purpose`."""
        return self._draw(purpose, "rank")

    def _draw(self, *what: object) -> int:
        said = "\n".join(map(str, what)).encode("utf-8")
        return int.from_bytes(hashlib.blake2b(said, digest_size=8, key=self._key).digest(), "big")
