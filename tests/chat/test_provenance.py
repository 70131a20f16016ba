"""Sources of chunks: both ways, and no other text taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.provenance import chunk_source, row_of


@pytest.mark.parametrize(
    ("row", "chunk"),
    [
        ("faq.jsonl:17", "faq.jsonl:17#2"),
        ("C:/a b/faq.jsonl:17", "C:/a b/faq.jsonl:17#2"),
        ("mine", "mine:0#2"),  # written by hand
        ("issue#12", "issue#12:0#2"),
        ("faq.jsonl:17#3", "faq.jsonl:17#3:0#2"),
        ("x:0", "x:0:0#2"),
        ("", ":0#2"),
    ],
)
def test_by_hand(row: str, chunk: str) -> None:
    assert chunk_source(row, 2) == chunk
    assert row_of(chunk) == row


def test_what_is_no_chunk_is_its_own_row() -> None:
    assert row_of("faq.jsonl:17") == "faq.jsonl:17"
    assert row_of("issue#12") == "issue#12"
    assert row_of("") == ""


@given(st.text(st.sampled_from("a:#0123\n"), max_size=8), st.integers(1, 12))
def test_there_and_back(row: str, number: int) -> None:
    assert row_of(chunk_source(row, number)) == row
