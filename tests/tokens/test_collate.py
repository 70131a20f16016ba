"""A micro-batch by hand, with a pad token that is the end-of-turn."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from sftlib.tokens.collate import collate
from sftlib.tokens.dataset import ExampleDataset
from sftlib.tokens.examples import Example

EXAMPLES = [Example([5, 6, 2], [-100, 6, 2], "a:1"), Example([5, 2], [-100, 2], "a:2"), Example([7], [-100], "a:3")]


def test_padding_is_masked_by_position() -> None:
    batch = collate(EXAMPLES, pad_id=2)
    assert batch["input_ids"].tolist() == [[5, 6, 2], [5, 2, 2], [7, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 2], [-100, 2, -100], [-100, -100, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_dataset_in_a_data_loader() -> None:
    dataset = ExampleDataset(EXAMPLES)
    assert dataset.lengths == [3, 2, 1]
    loader = DataLoader(dataset, batch_size=2, collate_fn=lambda rows: collate(rows, pad_id=0))
    assert [batch["input_ids"].tolist() for batch in loader] == [[[5, 6, 2], [5, 2, 0]], [[7]]]
