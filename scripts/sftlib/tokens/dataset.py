"""Examples as a torch dataset: what the Trainer's data loader indexes. It holds no tensors; `collate` makes them.

    ExampleDataset([Example([1, 2, 3], [-100, 2, 3], "a:1")]).lengths  ->  [3]

Worst bug: lengths in another order than the examples (tests/tokens/test_collate.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Dataset

from .examples import Example
from .mixing import MixedTable
from .table import ExampleTable


class ExampleDataset(Dataset):
    """Examples, a table of them or a list, with the length of each for the sampler."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        is_table = isinstance(examples, ExampleTable | MixedTable)  # a table knows them without making an example
        self.lengths = examples.lengths.tolist() if is_table else [len(example.input_ids) for example in examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]
