"""How many rows each split gets, and which groups: exact in rows as far as the groups allow.

    row_targets(1000, {"train": 0.8, "val": 0.1, "test": 0.1})      ->  {"train": 800, "val": 100, "test": 100}
    row_targets(1000, {"train": 0.8, "val": 50, "test": 0})         ->  {"train": 950, "val": 50, "test": 0}
    deal(keys, sizes, follows, targets)                             ->  array([0, 2, 0, 1, ...]), the group's splits

Shares are met by largest remainder, and every split with a share gets a row while there are enough, train first, then
val, then test: 1 row trains; 2 are train 1, val 1; 5 are 3, 1, 1. Above 1 a share is a number of rows.

The groups stand in the order of their keys (seeded hashes). From its end test takes what still fits into its number,
then val; the rest trains. So a new group moves others only next to where it stands, and one that is larger than val and
test are goes to train. Only where nothing fits does a split take the smallest group there is.
Worst bug: a split that is empty or too large (tests/chat/test_dealing.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test")
ANYWHERE = -1  # of a group that no earlier row binds to a split


def split_counts(groups: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of them each split gets: largest remainder, then at least one each while there are enough."""
    counts = {name: int(groups * share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: groups * shares[name] - counts[name], reverse=True)
    for name in by_remainder[: groups - sum(counts.values())]:
        counts[name] += 1
    served = [name for name, share in shares.items() if share > 0][:groups]
    for name in served:
        if counts[name] == 0:
            giver = max(counts, key=lambda other: counts[other] - (other in served))
            counts[name], counts[giver] = 1, counts[giver] - 1
    return counts


def row_targets(rows: int, shares: Mapping[str, float], dataset: str = "") -> dict[str, int]:
    """The rows of each split. DataError when the numbers asked for leave nothing to train on."""
    if all(share <= 1 for share in shares.values()):
        return split_counts(rows, shares)
    wanted = {name: int(share if share > 1 else rows * share + 0.5) for name, share in shares.items()}
    held_out = wanted["val"] + wanted["test"]
    if held_out >= rows:
        raise DataError(
            f"{f'The data set {dataset}' if dataset else 'The raw data'} has {rows} rows that can be used, and "
            f"{wanted['val']} of them are to validate, {wanted['test']} to test: nothing is left to train on.",
            where="data.split.val, data.split.test", expected=f"fewer than {rows} rows together",
            cure="Lower them, or state shares such as 0.1.",
        )  # fmt: skip
    return {**wanted, "train": rows - held_out}


def deal(keys: np.ndarray, sizes: np.ndarray, follows: np.ndarray, targets: Mapping[str, int]) -> np.ndarray:
    """The split of each group, 0 train, 1 val, 2 test; groups that follow earlier rows stay where those are."""
    import numpy as np

    splits = follows.copy()
    free = np.flatnonzero(follows == ANYWHERE)
    waiting = free[np.argsort(keys[free], kind="stable")][::-1].tolist()
    wanted = [place for place, name in enumerate(SPLITS) if targets[name] > 0][: len(splits)]
    for before, place in reversed(list(enumerate(wanted[1:], 1))):
        left = targets[SPLITS[place]] - int(sizes[follows == place].sum())
        passed = []
        for at, group in enumerate(waiting):
            if left <= 0 or len(passed) + len(waiting) - at <= before:  # each split before it gets one too
                passed += waiting[at:]
                break
            if sizes[group] <= left:
                splits[group], left = place, left - int(sizes[group])
            else:
                passed.append(group)
        waiting = passed
    splits[waiting] = 0
    for place in wanted[1:]:
        if len(waiting) > 1 and not (splits == place).any():
            smallest = min(waiting, key=sizes.__getitem__)
            splits[smallest] = place
            waiting.remove(smallest)
    return splits
