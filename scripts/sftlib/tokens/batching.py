"""The order in which examples are seen: micro-batches of like length, shuffled.

In: the length of each example, the micro-batch size, a seed. Out: indices; a data loader cuts them into micro-batches
one after another, so a micro-batch that is not full comes last. It knows nothing of accumulation: as the micro-batches
are shuffled, a step sees all lengths.

    list(LengthGroupedSampler([9, 1, 8, 2], batch_size=2, seed=0))  ->  [0, 2, 3, 1] or [3, 1, 0, 2]

The order is a pure function of seed and epoch, so that a resumed run goes on where it was. In the first epoch the
longest example comes first: what does not fit in memory shows at once, not after an hour.

Worst bug: an example that is seen twice or never in an epoch (tests/tokens/test_batching.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

POOL = 50  # micro-batches sorted together, as in transformers' sampler: more saves little padding, fewer mix better


class LengthGroupedSampler(Sampler[int]):
    """Indices 0..n-1, each exactly once, grouped by length; `set_epoch` gives another order."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = list(lengths), batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of this epoch from now on; the data loader calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        dice = random.Random(f"{self.seed}/{self.epoch}")
        indices = list(range(len(self.lengths)))
        dice.shuffle(indices)
        if self.epoch == 0 and indices:
            longest = max(range(len(indices)), key=lambda place: self.lengths[indices[place]])
            indices[0], indices[longest] = indices[longest], indices[0]

        size = self.batch_size
        batches: list[list[int]] = []
        pools = max(1, len(indices) // (size * POOL))  # the last one takes the rest: a small pool would be a mixed one
        for number in range(pools):
            end = (number + 1) * size * POOL if number + 1 < pools else len(indices)
            pool = sorted(indices[number * size * POOL : end], key=lambda index: -self.lengths[index])
            batches += [pool[at : at + size] for at in range(0, len(pool), size)]

        part = [batches.pop()] if batches and len(batches[-1]) < size else []
        first = [batches.pop(0)] if self.epoch == 0 and batches else []  # holds the longest, as its pool is sorted
        dice.shuffle(batches)
        for batch in [*first, *batches, *part]:
            yield from batch
