"""Which model.max_seq_len suits the rows: how long they are, where a curve bends, what each limit costs.

In: lengths and supervised tokens of every row (numpy arrays; words do as well), or the tables of examples. Out: plain
numbers. Nothing is cut here: what the policy takes is counted by the policy itself.

    spread([3, 5, 9])                              ->  {"rows": 3, "min": 3, "median": 5, ..., "max": 9}
    knee([10, 20, 1000], kept=[0.5, 0.98, 1.0])    ->  20

Percentiles are lengths that there are: the shortest that 95 % of the rows do not exceed. The knee is that of Kneedle
(Satopää, Albrecht, Irwin, Raghavan: Finding a "Kneedle" in a Haystack, ICDCS workshops 2011): with both axes stretched
to 0..1, the place where the curve lies highest above the diagonal. Behind it length buys less than on average.

Worst bug: a limit said to lose nothing that loses rows (tests/tokens/test_limits.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .table import ExampleTable

PERCENTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
POINTS = 120  # of a curve: more than a plot is wide in steps that an eye can see
BARS = 40  # of a histogram
TAIL = 0.995  # of the rows lie in the bars; the rest is in the last one


def spread(values: Sequence[int] | np.ndarray) -> dict[str, int | float]:
    """Smallest, largest, sum, mean, and the percentiles."""
    array = np.asarray(values, dtype=np.int64)
    if not len(array):
        return {"rows": 0}
    points = {name: int(np.quantile(array, share, method="inverted_cdf")) for name, share in PERCENTILES.items()}
    return {
        "rows": len(array), "min": int(array.min()), **points, "max": int(array.max()),
        "mean": round(float(array.mean()), 1), "sum": int(array.sum()),
    }  # fmt: skip


def histogram(values: np.ndarray) -> list[dict[str, int]]:
    """Rows by length in bars of one width; the last bar holds all longer ones."""
    end = int(np.quantile(values, TAIL, method="inverted_cdf"))
    width = max(1, -(-end // BARS))
    places = np.minimum((np.asarray(values) - 1) // width, -(-end // width) - 1).clip(0)
    counts = np.bincount(places)
    longest = int(np.max(values))
    highs = [(at + 1) * width for at in range(len(counts))]
    highs[-1] = max(highs[-1], longest)
    return [
        {"low": at * width + 1, "high": high, "rows": int(count)}
        for at, (high, count) in enumerate(zip(highs, counts, strict=True))
    ]


def shares_histogram(shares: np.ndarray, bars: int = 20) -> list[int]:
    """Rows by a share of 0 to 1, in bars of one width."""
    return np.bincount(np.minimum((shares * bars).astype(int), bars - 1), minlength=bars).tolist()


def points_of(lengths: np.ndarray) -> np.ndarray:
    """The limits at which a curve is drawn: lengths that there are, evenly over the rows and over the range."""
    lengths = np.unique(lengths)
    if len(lengths) <= POINTS:
        return lengths
    over_rows = lengths[np.linspace(0, len(lengths) - 1, POINTS // 2).astype(int)]
    over_range = np.linspace(lengths[0], lengths[-1], POINTS // 2).astype(int)
    return np.unique(np.concatenate((over_rows, over_range)))


def kept_if_dropped(lengths: np.ndarray, supervised: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Share of the supervised tokens that stand in rows which fit, for each limit."""
    order = np.argsort(lengths, kind="stable")
    sums = np.concatenate(([0], np.cumsum(supervised[order])))
    return sums[np.searchsorted(lengths[order], limits, side="right")] / max(1, sums[-1])


def kept_if_cut(tables: Sequence[ExampleTable], limits: np.ndarray) -> np.ndarray:
    """Share of the supervised tokens before the limit, for each limit."""
    whole = sum(int(table.supervised.sum()) for table in tables)
    kept = [
        sum(int(table.supervised_before(np.minimum(table.lengths, limit)).sum()) for table in tables)
        for limit in limits.tolist()
    ]
    return np.array(kept) / max(1, whole)


def knee(limits: Sequence[int] | np.ndarray, kept: Sequence[float] | np.ndarray) -> int:
    """The limit where the curve of what is kept lies highest above its diagonal."""
    x, y = np.asarray(limits, dtype=float), np.asarray(kept, dtype=float)
    if len(x) < 3 or y[-1] == y[0]:
        return int(x[-1])
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return int(x[int(np.argmax(above))])


def rounded_up(limit: int, multiple: int = 8) -> int:
    """A limit as one sets it: tensor cores like multiples of 8."""
    return -(-limit // multiple) * multiple


def candidates(configured: int, p95: int, bend: int, longest: int) -> dict[int, list[str]]:
    """The limits that are compared, each with what it is; ascending."""
    found: dict[int, list[str]] = {}
    for limit, name in ((bend, "knee"), (p95, "95 % of rows"), (longest, "longest row")):
        found.setdefault(rounded_up(limit), []).append(name)
    found.setdefault(configured, []).append("now")
    return dict(sorted(found.items()))


def costs(tables: Sequence[ExampleTable], limit: int) -> dict[str, int | float]:
    """What a limit takes from the rows when longer ones are dropped, and when they are cut at their end."""
    lengths, supervised = lengths_of(tables, lambda one: one.lengths), lengths_of(tables, lambda one: one.supervised)
    is_longer, whole = lengths > limit, max(1, int(supervised.sum()))
    dropped = int(supervised[is_longer].sum())
    before = sum(int(one.supervised_before(np.minimum(one.lengths, limit)).sum()) for one in tables)
    cut = int(supervised.sum()) - before
    return {
        "rows_longer": int(is_longer.sum()), "rows_longer_share": float(is_longer.mean()),
        "dropped": dropped, "dropped_share": dropped / whole, "cut": cut, "cut_share": cut / whole,
        "tokens_if_dropped": int(lengths[~is_longer].sum()), "tokens_if_cut": int(np.minimum(lengths, limit).sum()),
    }  # fmt: skip


def lengths_of(tables: Sequence[ExampleTable], of: Callable[[ExampleTable], np.ndarray]) -> np.ndarray:
    """One number a row, of all tables."""
    return np.concatenate([of(table) for table in tables]) if tables else np.zeros(0, dtype=np.int64)
