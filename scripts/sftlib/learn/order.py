"""The order in which a training sees its rows, whatever the micro-batch.

In come the length of each row, the rows of a step and a seed; out go indices. `tokens.batching` groups rows of like
length and shuffles the groups; here the result is cut into steps, and each step is sorted by length. So a step mixes
lengths, its micro-batches do not, and which rows share a step does not depend on how the step is split: 1x8 and 8x1
are the same training, and a smaller card changes nothing but the speed.

Several processes see one micro-batch each at a time, so an epoch has to be a whole number of such turns. What is
missing at its end is filled with blank rows, in which nothing is supervised: no row is seen twice, and the step is the
one that a single process would take.

    list(StepSampler([9, 1, 8, 2, 7, 3], step_rows=3, seed=0))  ->  e.g. [0, 2, 1, 4, 5, 3]      steps {0,2,1} {4,5,3}

Worst bug: a training that changes with the micro-batch (tests/learn/test_trainer.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from ..tokens.batching import LengthGroupedSampler
from ..tokens.dataset import ExampleDataset
from ..tokens.examples import IGNORED, Example

GROUP = 4  # rows of like length that stay together: about the micro-batch of a small card


class StepSampler(Sampler[int]):
    """Indices of every row once an epoch; a pure function of seed and epoch.

    turn: rows that all processes see at once; with more than one process the epoch is filled up to a multiple of it
        by the index after the last, which `WithBlank` knows. 1 fills nothing.
    """

    def __init__(self, lengths: Sequence[int], step_rows: int, seed: int, turn: int = 1) -> None:
        self.step_rows = step_rows
        self._blanks = -len(lengths) % turn
        self._groups = LengthGroupedSampler(lengths, min(GROUP, step_rows), seed)

    def set_epoch(self, epoch: int) -> None:
        """The order of this epoch from now on; the data loader calls it."""
        self._groups.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._groups) + self._blanks

    def __iter__(self) -> Iterator[int]:
        order = list(self._groups)
        for start in range(0, len(order), self.step_rows):
            yield from sorted(order[start : start + self.step_rows], key=lambda row: -self._groups.lengths[row])
        yield from [len(order)] * self._blanks


class WithBlank(ExampleDataset):
    """A data set with one more example behind its last: a token that nothing is learned from, and no source."""

    def __init__(self, rows: ExampleDataset) -> None:
        super().__init__(rows.examples)
        self._blank = Example(rows.examples[0].input_ids[:1], [IGNORED], "", True)

    def __getitem__(self, index: int) -> Example:
        return self._blank if index == len(self.examples) else self.examples[index]
