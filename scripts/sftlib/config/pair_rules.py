"""What an encoder-decoder (model.type: seq2seq) cannot do with a row: its prompt and its answer are two texts.

    model: {type: seq2seq}, data: {truncation: split}   ->  a fault; rules.py asks here

Worst bug: a setting that such a model quietly ignores (tests/config/test_rules.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .faults import Fault

if TYPE_CHECKING:
    from .rules import Draft

KIND = "model.type"


def check_pairs(draft: Draft) -> Iterator[Fault]:
    """Policies of length and kinds of loss that are of one text, in the whole and in each data set."""
    if draft[KIND] != "seq2seq":
        return
    for section in ("data", *(f"data.datasets.{one}" for one in draft.sets())):
        policy, loss_on = f"{section}.truncation", f"{section}.loss_on"
        if draft[policy] in ("split", "truncate_turns"):
            seen = f"`{policy}` is `{draft[policy]}`, and `{KIND}` is `seq2seq`, which trains each answer by itself."
            yield draft.fault(seen, policy, KIND, cure=f"Set {policy} to drop or truncate.")
        if draft[loss_on] == "all":
            seen = f"`{loss_on}` is `all`, and `{KIND}` is `seq2seq`, which reads its prompt and says none of it."
            yield draft.fault(seen, loss_on, KIND, cure=f"Set {loss_on} to assistant.")
