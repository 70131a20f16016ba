"""The two policies by hand, and what they count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.length import LengthReport, apply_length_policy
from sftlib.tokens.table import ExampleTable

X = IGNORED
SHORT = Example([1, 2, 3], [X, 2, 3], "a:1")
LONG = Example([1, 2, 3, 4, 5, 6], [X, X, 3, 4, 5, 6], "a:2", stray_ends=1)
LATE = Example([1, 2, 3, 4, 5, 6], [X, X, X, X, X, 6], "a:3")
EXACT = Example([1, 2, 3, 4], [X, X, X, 4], "a:4")
UNTRAINED = Example([1, 2], [X, X], "a:5")
ALL = [SHORT, LONG, LATE, EXACT, UNTRAINED]


def test_drop() -> None:
    kept, report = apply_length_policy(ExampleTable.of(ALL), 4, "drop")
    assert list(kept) == [SHORT, EXACT]
    assert report == LengthReport(
        max_seq_len=4, policy="drop", rows=5, tokens=21, supervised_tokens=8, longest=6, rows_dropped=2, rows_cut=0,
        rows_without_supervision=1, tokens_lost=14, supervised_tokens_lost=5,
        sources={"dropped": ["a:2", "a:3"], "unsupervised": ["a:5"]},
    )  # fmt: skip
    assert report.rows_kept == 2


def test_end_cuts_and_teaches_no_end_of_turn_at_the_cut() -> None:
    kept, report = apply_length_policy(ExampleTable.of(ALL), 4, "end")
    assert list(kept) == [SHORT, Example([1, 2, 3, 4], [X, X, 3, 4], "a:2", is_complete=False, stray_ends=1), EXACT]
    assert report == LengthReport(
        max_seq_len=4, policy="end", rows=5, tokens=21, supervised_tokens=8, longest=6, rows_dropped=0, rows_cut=1,
        rows_without_supervision=2, tokens_lost=10, supervised_tokens_lost=3,
        sources={"cut": ["a:2"], "unsupervised": ["a:3", "a:5"]},
    )  # fmt: skip


def test_losses_name_the_first_rows() -> None:
    rows = [Example([1] * 9, [X] + [1] * 8, f"raw.jsonl:{n}") for n in range(7)]
    _, report = apply_length_policy(ExampleTable.of([*rows, SHORT]), 4, "drop")
    assert report.losses() == [
        "7 of 8 rows are longer than 4 tokens (model.max_seq_len) and dropped: raw.jsonl:0, raw.jsonl:1, raw.jsonl:2, "
        "raw.jsonl:3, raw.jsonl:4, ..."
    ]
    assert (report.rows_kept, report.supervised_tokens_lost) == (1, 56)
    assert apply_length_policy(ExampleTable.of([rows[0]]), 4, "end")[1].losses() == [
        "1 of 1 rows is longer than 4 tokens (model.max_seq_len) and cut at the end: raw.jsonl:0."
    ]
    assert apply_length_policy(ExampleTable.of([SHORT]), 4, "drop")[1].losses() == []


def test_nothing_in_nothing_out() -> None:
    kept, report = apply_length_policy(ExampleTable.of([]), 4, "drop")
    assert (list(kept), report.rows_kept, report.losses()) == ([], 0, [])


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=12), max_size=8),
    st.integers(1, 12),
    st.sampled_from(["drop", "end"]),
)
def test_every_row_and_token_is_accounted_for(masks: list[list[bool]], length: int, policy: str) -> None:
    examples = [
        Example(list(range(len(mask))), [n if on else X for n, on in enumerate(mask)], str(row))
        for row, mask in enumerate(masks)
    ]
    kept, report = apply_length_policy(ExampleTable.of(examples), length, policy)
    assert all(len(example.input_ids) <= length and example.supervised for example in kept)
    assert len(kept) == report.rows_kept == report.rows - report.rows_dropped - report.rows_without_supervision
    assert sum(len(example.input_ids) for example in kept) == report.tokens - report.tokens_lost
    assert sum(example.supervised for example in kept) == report.supervised_tokens - report.supervised_tokens_lost
    assert kept.lengths.tolist() == [len(example.input_ids) for example in kept]
    assert kept.supervised.tolist() == [example.supervised for example in kept]
    assert sum(not example.is_complete for example in kept) == report.rows_cut
