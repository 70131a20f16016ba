"""Examples and lengths as a person reads them, before anything is trained.

In: examples, their sums, a tokenizer; a length report. Out: text on the screen. Nothing is computed here.

    «Step 1: ...<|im_end|>»        what is trained: green on a terminal, in quotation marks elsewhere

Worst bug: a token shown as trained that is not (tests/tokens/test_showing.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .. import console
from ..units import percent
from .examples import IGNORED, Example, Tally
from .histogram import bars
from .length import LengthReport, Policy
from .mixing import Share

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 2  # examples: one may be odd, two show the rule
TAKEN = {"drop": "dropped", "truncate": "cut", "split": "split", "truncate_turns": "shortened"}
BAR = 40  # characters of the longest bar


def show_examples(examples: Sequence[Example], sums: Tally, tokenizer: PreTrainedTokenizerBase) -> None:
    """Print the first examples with their supervised tokens marked, and the share of supervised tokens of all."""
    for example in examples[:SHOWN]:
        console.note(f"{example.source}: {len(example.input_ids)} tokens, {example.supervised} supervised")
        console.coloured((tokenizer.decode(ids), trained) for ids, trained in pieces(example))
    share = sums.supervised / sums.tokens
    console.note(f"Supervised: {sums.supervised} of {sums.tokens} tokens ({share:.1%}).")


def pieces(example: Example) -> list[tuple[list[int], bool]]:
    """The ids in runs of equal training: [([1, 7, 9], False), ([12, 2], True)]."""
    runs: list[tuple[list[int], bool]] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        is_trained = label != IGNORED
        if not runs or runs[-1][1] != is_trained:
            runs.append(([], is_trained))
        runs[-1][0].append(token)
    return runs


def show_lengths(reports: Mapping[str, LengthReport]) -> None:
    """Print one line a split, by its name, and a warning for each kind of row that the length policy took.

    Where rows are split, how many examples the trained ones became stands beside them.
    """
    has_chunks = any(report.examples != report.rows_kept for report in reports.values())
    rows = [
        (
            name, report.rows, report.rows_kept, *([report.examples] if has_chunks else []), report.longest_shown,
            report.tokens, report.tokens_lost,
            f"{report.supervised_tokens} ({percent(report.supervised_tokens, report.tokens)})",
            report.supervised_tokens_lost,
        )
        for name, report in reports.items()
    ]  # fmt: skip
    examples = ["examples"] if has_chunks else []
    headers = ("split", "rows", "trained", *examples, "longest", "tokens", "lost", "supervised", "lost")
    console.table("", headers, rows, to_stderr=True)
    for name, report in reports.items():
        for loss in report.losses():
            console.warn(f"{name}: {loss}")


def show_shares(shares: Mapping[str, Share]) -> None:
    """Print how much of each data set a pass over the training split takes."""
    rows, tokens = (sum(getattr(share, name) for share in shares.values()) for name in ("taken", "tokens"))
    lines = [
        (name, share.rows, share.taken, percent(share.taken, rows), share.tokens, percent(share.tokens, tokens),
         share.supervised)
        for name, share in shares.items()
    ]  # fmt: skip
    headers = ("data set", "examples", "taken", "of all", "tokens", "of all", "supervised")
    console.table("A pass over the training split", headers, lines, to_stderr=True)


def show_histogram(title: str, lengths: Sequence[int], max_seq_len: int, policy: Policy) -> None:
    """Print how many rows have how many tokens, and what the length policy does to those that are too long."""
    found = bars(lengths, max_seq_len)
    tallest = max(bar.rows for bar in found)
    taken = TAKEN[policy]
    rows = [
        (
            f"{bar.low}-{bar.high}", bar.rows, "#" * math.ceil(BAR * bar.rows / tallest),
            taken if bar.is_too_long and bar.rows else "",
        )
        for bar in found
    ]  # fmt: skip
    console.table(title, ("tokens", "rows", "", f"over {max_seq_len}"), rows)
