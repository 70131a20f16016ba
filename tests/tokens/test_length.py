"""What is dropped and cut, by hand, and what is counted; `split` and `truncate_turns`: test_shortening.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.length import LengthPolicy, LengthReport, apply_length_policy, whole_lengths
from sftlib.tokens.table import ExampleTable

X = IGNORED
SHORT = Example([1, 2, 3], [X, 2, 3], "a:1")
LONG = Example([1, 2, 3, 4, 5, 6], [X, X, 3, 4, 5, 6], "a:2", stray_ends=1)
LATE = Example([1, 2, 3, 4, 5, 6], [X, X, X, X, X, 6], "a:3")
EXACT = Example([1, 2, 3, 4], [X, X, X, 4], "a:4")
UNTRAINED = Example([1, 2], [X, X], "a:5")
ALL = [SHORT, LONG, LATE, EXACT, UNTRAINED]


def test_drop() -> None:
    kept, report = apply_length_policy(ExampleTable.of(ALL), LengthPolicy(4))
    assert list(kept) == [SHORT, EXACT]
    assert report == LengthReport(
        LengthPolicy(4, "drop"), rows=5, examples=2, tokens=21, supervised_tokens=8, longest=6, rows_dropped=2,
        rows_cut=0, rows_without_supervision=1, tokens_lost=14, supervised_tokens_lost=5,
        sources={"dropped": ["a:2", "a:3"], "unsupervised": ["a:5"]},
    )  # fmt: skip
    assert report.rows_kept == 2


def test_end_cuts_and_teaches_no_end_of_turn_at_the_cut() -> None:
    kept, report = apply_length_policy(ExampleTable.of(ALL), LengthPolicy(4, "truncate"))
    assert list(kept) == [SHORT, Example([1, 2, 3, 4], [X, X, 3, 4], "a:2", is_complete=False, stray_ends=1), EXACT]
    assert report == LengthReport(
        LengthPolicy(4, "truncate"), rows=5, examples=3, tokens=21, supervised_tokens=8, longest=6, rows_dropped=0,
        rows_cut=1, rows_without_supervision=2, tokens_lost=10, supervised_tokens_lost=3,
        sources={"cut": ["a:2"], "unsupervised": ["a:3", "a:5"]},
    )  # fmt: skip


def test_start_cuts_and_teaches_the_end() -> None:
    kept, report = apply_length_policy(ExampleTable.of(ALL), LengthPolicy(4, "truncate", "start"))
    assert list(kept) == [
        SHORT,
        Example([3, 4, 5, 6], [X, 4, 5, 6], "a:2", stray_ends=1),  # nothing predicts its first
        Example([3, 4, 5, 6], [X, X, X, 6], "a:3"),
        EXACT,
    ]
    assert (report.rows_cut, report.tokens_lost, report.supervised_tokens_lost) == (2, 2 + 2 + 2, 1)
    assert kept.supervised.tolist() == [2, 3, 1, 1]
    assert report.losses()[0].endswith("longer than 4 tokens (model.max_seq_len) and cut at the start: a:2, a:3.")


def test_start_keeps_the_bos_where_there_is_one() -> None:
    limits = LengthPolicy(4, "truncate", "start", bos_id=1)
    kept, report = apply_length_policy(ExampleTable.of([LONG, Example([7, *range(5)], [X] * 5 + [4], "a:6")]), limits)
    assert [one.input_ids for one in kept] == [[1, 4, 5, 6], [1, 2, 3, 4]]
    assert [one.labels for one in kept] == [[X, 4, 5, 6], [X, X, X, 4]]
    assert kept.supervised.tolist() == [3, 1]
    assert report.tokens_lost == 4


def test_lengths_of_all_rows_are_those_before_the_policy() -> None:
    assert whole_lengths(ExampleTable.of(ALL)) == [3, 6, 6, 4, 2]


def test_losses_name_the_first_rows() -> None:
    rows = [Example([1] * 9, [X] + [1] * 8, f"raw.jsonl:{n}") for n in range(7)]
    _, report = apply_length_policy(ExampleTable.of([*rows, SHORT]), LengthPolicy(4))
    assert report.losses() == [
        "7 of 8 rows are longer than 4 tokens (model.max_seq_len) and dropped: raw.jsonl:0, raw.jsonl:1, raw.jsonl:2, "
        "raw.jsonl:3, raw.jsonl:4, ..."
    ]
    assert (report.rows_kept, report.supervised_tokens_lost) == (1, 56)
    assert apply_length_policy(ExampleTable.of([rows[0]]), LengthPolicy(4, "truncate"))[1].losses() == [
        "1 of 1 rows is longer than 4 tokens (model.max_seq_len) and cut at the end: raw.jsonl:0."
    ]
    assert apply_length_policy(ExampleTable.of([SHORT]), LengthPolicy(4))[1].losses() == []


def test_nothing_in_nothing_out() -> None:
    kept, report = apply_length_policy(ExampleTable.of([]), LengthPolicy(4))
    assert (list(kept), report.rows_kept, report.losses()) == ([], 0, [])


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=12), max_size=8),
    st.integers(1, 12),
    st.sampled_from([("drop", "end"), ("truncate", "end"), ("truncate", "start")]),
    st.sampled_from([None, 0]),
)
def test_every_row_and_token_is_accounted_for(
    masks: list[list[bool]], length: int, how: tuple[str, str], bos_id: int | None
) -> None:
    examples = [
        Example(list(range(len(mask))), [n if on and n else X for n, on in enumerate(mask)], str(row))
        for row, mask in enumerate(masks)
    ]
    kept, report = apply_length_policy(ExampleTable.of(examples), LengthPolicy(length, *how, bos_id=bos_id))
    assert all(len(example.input_ids) <= length and example.supervised for example in kept)
    assert len(kept) == report.rows_kept == report.rows - report.rows_dropped - report.rows_without_supervision
    assert sum(len(example.input_ids) for example in kept) == report.tokens - report.tokens_lost
    assert sum(example.supervised for example in kept) == report.supervised_tokens - report.supervised_tokens_lost
    assert kept.lengths.tolist() == [len(example.input_ids) for example in kept]
    assert kept.supervised.tolist() == [example.supervised for example in kept]
    assert sum(not example.is_complete for example in kept) == (report.rows_cut if how[1] == "end" else 0)
    assert all(example.labels[0] == X for example in kept)
    assert report.examples == report.rows_kept
