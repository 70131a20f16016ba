"""Parts of a split: the rows that `datasets` would give, with their numbers in the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.slices import Slice
from sftlib.errors import DataError


def numbers(text: str, total: int | None) -> list[int]:
    return [number for number, _ in Slice.parse(text).rows(range(total or 10), total)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("train", 1, 10), ("train[:80%]", 1, 8), ("train[80%:]", 9, 10), ("train[2:4]", 3, 4), ("train[-3:]", 8, 10),
        ("train[:-3]", 1, 7), ("train[:]", 1, 10), ("train[-20%:]", 9, 10), ("train[:15%]", 1, 2),
        ("train[:25]", 1, 10),
    ],
)  # fmt: skip
def test_bounds(text, first, last):
    assert numbers(text, 10) == list(range(first, last + 1))


def test_an_empty_part():
    assert numbers("train[5:2]", 10) == []
    assert numbers("train[:0%]", 10) == []


def test_rows_from_the_beginning_need_no_size():
    assert numbers("train[2:4]", None) == [3, 4]
    for text in ("train[:80%]", "train[-3:]"):
        with pytest.raises(DataError, match="does not tell how many rows train has"):
            numbers(text, None)


@pytest.mark.parametrize("text", ["train[", "train[a:b]", "train[:50%]+test", "[:3]", "train[1]", ""])
def test_anything_else_is_an_error(text):
    with pytest.raises(DataError, match="neither a split nor a part of one"):
        Slice.parse(text)


@given(total=st.integers(0, 300), share=st.integers(0, 100))
def test_two_parts_at_one_bound_are_the_whole_and_share_nothing(total, share):
    before, after = numbers(f"train[:{share}%]", total or 1), numbers(f"train[{share}%:]", total or 1)
    assert before + after == list(range(1, (total or 1) + 1))
