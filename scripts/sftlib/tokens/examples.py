"""An example: what one conversation is to the model, and the sums over many.

    text    <|im_start|>user\\n 2+2?<|im_end|>\\n <|im_start|>assistant\\n 4     <|im_end|> \\n
    labels  -100 -100    -100 -100 -100      -100 -100        -100   -100 19    2          -100

How it is made of a text is encoding.py, many of them in little memory columns.py and table.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import ExampleTable

IGNORED = -100  # the label that torch's cross entropy leaves out (its default ignore_index)


@dataclass(slots=True)
class Example:
    """One sequence. `labels` are the ids where they are trained, else -100; labels[0] is -100: nothing predicts it.

    decoder_at: where an encoder-decoder's decoder begins (pairs.py); 0 in a causal model, which reads all of it.
    """

    input_ids: list[int]
    labels: list[int]
    source: str
    is_complete: bool = True
    straddling: int = 0
    stray_ends: int = 0
    decoder_at: int = 0

    @property
    def supervised(self) -> int:
        """How many tokens are trained."""
        return len(self.labels) - self.labels.count(IGNORED)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over examples, for the table before training."""

    rows: int
    tokens: int
    supervised: int
    straddling: int
    stray_ends: int


def tally(examples: ExampleTable) -> Tally:
    """Sums over the examples."""
    columns = (examples.lengths, examples.supervised, examples.straddling, examples.stray_ends)
    return Tally(len(examples), *(int(column.sum()) for column in columns))
