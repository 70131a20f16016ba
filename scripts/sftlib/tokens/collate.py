"""Examples of different lengths as one micro-batch: padded on the right, masked by position.

    lengths 3 and 2, pad_id 2 ->  input_ids [[5, 6, 2], [5, 2, 2]]   attention_mask [[1, 1, 1], [1, 1, 0]]

The id of the padding never says what is padding: a pad token that is also the end-of-turn is harmless, here and in the
labels. B rows, T tokens of the longest. Of pairs (pairs.py) the two parts are padded by themselves; the decoder looks
back only and needs no mask, but what it reads is counted by one.

Worst bug: an end-of-turn taken for padding (tests/tokens/test_collate.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .examples import IGNORED, Example
from .pairs import halves


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels`, each (B, T) of int64; of pairs also the decoder's ids and mask."""
    if examples[0].decoder_at:
        given, answers = zip(*map(halves, examples), strict=True)
        encoder, decoder = _padded(given, pad_id), _padded(answers, pad_id)
        return {
            "input_ids": encoder["input_ids"], "attention_mask": encoder["attention_mask"],
            "decoder_input_ids": decoder["input_ids"], "decoder_attention_mask": decoder["attention_mask"],
            "labels": decoder["labels"],
        }  # fmt: skip
    return _padded(examples, pad_id)


def _padded(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    length = max(len(example.input_ids) for example in examples)
    input_ids_BT = torch.full((len(examples), length), pad_id, dtype=torch.long)
    attention_mask_BT = torch.zeros_like(input_ids_BT)
    labels_BT = torch.full_like(input_ids_BT, IGNORED)
    for row, example in enumerate(examples):
        used = len(example.input_ids)
        input_ids_BT[row, :used] = torch.tensor(example.input_ids, dtype=torch.long)
        attention_mask_BT[row, :used] = 1
        labels_BT[row, :used] = torch.tensor(example.labels, dtype=torch.long)
    return {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "labels": labels_BT}
