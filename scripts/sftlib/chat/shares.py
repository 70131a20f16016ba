"""How many rows of each data set go into a mix, and which of its rows these are.

In: how many rows each set has, and weights, a temperature or a number of rows. Out: whole numbers and row numbers;
which text or tokens stand behind them is the caller's business.

    counts_of({"faq": 300, "web": 10_000}, weights={"faq": 1, "web": 2})  ->  {"faq": 300, "web": 600}
    counts_of({"faq": 300, "web": 10_000}, weights={"faq": 1, "web": 2}, rows=1000)  ->  {"faq": 333, "web": 667}
    take(4, 6, seed=42, name="faq")  ->  array([0, 0, 1, 2, 3, 3])      each once, two of them once more

A set's share follows its weight, or its number of rows where there are no weights, to the power of 1 / temperature:
1 leaves shares as they are, 2 takes their square roots, a large one makes them equal. All of it is done in fractions,
so that weights of 0.1 and 0.3 are exactly one to three.
Worst bug: shares that are not those asked for, or rows left out while others come twice (tests/chat/test_shares.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np


def counts_of(
    available: Mapping[str, int],
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    rows: int | None = None,
) -> dict[str, int]:
    """How many rows of each set an epoch takes.

    weights: of some or all sets, the others count as 1. None: shares follow the numbers of rows.
    rows: how many in all; shares that are no whole numbers of rows are settled by largest remainder, ties by order.
        None: as many as there are without repeating a row of the set that is used up first; all rows where neither
        weights nor a temperature ask for other shares.

    UsageError for a number that means nothing, DataError for a set that is to have a share and holds no rows.
    """
    _check(available, weights, temperature, rows)
    if weights is None and rows is None and temperature == 1:
        return dict(available)
    wanted = dict(available) if weights is None else {name: weights.get(name, 1) for name in available}
    shares = _shares(wanted, temperature)
    empty = [name for name, share in shares.items() if share and not available[name]]
    if empty or not shares:
        raise DataError(
            f"{' and '.join(empty) or 'The mix'} holds no rows, so that no share of a mix can come out of it.",
            cure="Leave it out, or look why it is empty.",
        )
    if rows is None:
        rows = min(int(available[name] / share) for name, share in shares.items() if share)
    return _largest_remainder(shares, rows)


def take(available: int, count: int, seed: int, name: str) -> np.ndarray:
    """The numbers of the rows that make up `count` of `available`, in ascending order.

    No row comes twice before all have come once, and so on. Which come once more is a seeded choice by the set's name,
    so that it does not depend on the other sets; a larger count keeps every row of a smaller one.
    """
    import numpy as np  # here, so that the data commands answer without it

    if count and not available:
        raise DataError(f"{name} holds no rows, and {count} are to come out of it.", cure="Leave it out of the mix.")
    every, more = divmod(count, available) if available else (0, 0)
    digest = hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
    # RandomState, as its numbers are the same in every version of numpy; those of Generator may change.
    order = np.random.RandomState(int.from_bytes(digest, "big")).permutation(available)
    times = np.full(available, every, dtype=np.int64)
    times[order[:more]] += 1
    return np.repeat(np.arange(available, dtype=np.int64), times)


def _check(
    available: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float, rows: int | None
) -> None:
    for name, weight in (weights or {}).items():
        if name not in available:
            raise UsageError(
                f"A weight is given for {name}, which is not in the mix.", expected=f"one of {', '.join(available)}",
                cure="Correct the name, or take the weight away.",
            )  # fmt: skip
        if not (math.isfinite(weight) and weight > 0):
            raise UsageError(
                f"The weight of {name} is {weight}.", expected="a number above 0",
                cure="To have none of its rows, leave the set out of the mix.",
            )  # fmt: skip
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(
            f"The temperature is {temperature}.", expected="a number above 0",
            cure="Take 1 for shares as they are, more for shares that are more alike.",
        )  # fmt: skip
    if rows is not None and rows < 1:
        raise UsageError(f"The mix is to have {rows} rows.", expected="1 or more", cure="Ask for one row or more.")


def _shares(wanted: Mapping[str, float], temperature: float) -> dict[str, Fraction]:
    """Shares that sum to exactly one; none at all when nothing is wanted."""
    numbers = {name: Fraction(str(number)) for name, number in wanted.items()}
    largest = max(numbers.values(), default=Fraction(0))
    if not largest:
        return {}
    if temperature != 1:  # of the largest, so that no power is too large for a float
        numbers = {name: Fraction(float(number / largest) ** (1 / temperature)) for name, number in numbers.items()}
    total = sum(numbers.values())
    return {name: number / total for name, number in numbers.items()}


def _largest_remainder(shares: Mapping[str, Fraction], rows: int) -> dict[str, int]:
    counts = {name: int(rows * share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: rows * shares[name] - counts[name], reverse=True)
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return counts
