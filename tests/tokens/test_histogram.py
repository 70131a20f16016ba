"""Every row is in one bar, and what is too long is told apart."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sftlib.tokens.histogram import MOST, Bar, bars
from sftlib.tokens.showing import show_histogram


def test_bars_by_hand() -> None:
    # the longest is 40: 16 bars of 4 tokens reach 64, of 2 only 32; the limit 30 cuts the bar 29-32 in two
    found = bars([9, 12, 29, 31, 40], max_seq_len=30)
    assert found[0] == Bar(9, 12, 2, False)
    assert [bar for bar in found if bar.rows] == [
        Bar(9, 12, 2, False), Bar(29, 30, 1, False), Bar(31, 32, 1, True), Bar(37, 40, 1, True),
    ]  # fmt: skip


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50), st.integers(8, 6000))
def test_every_row_is_in_one_bar(lengths: list[int], max_seq_len: int) -> None:
    found = bars(lengths, max_seq_len)
    assert sum(bar.rows for bar in found) == len(lengths)
    assert len(found) <= MOST + 2
    assert sum(bar.rows for bar in found if bar.is_too_long) == sum(length > max_seq_len for length in lengths)
    for left, right in itertools.pairwise(found):
        assert right.low == left.high + 1


def test_what_a_person_sees(capsys) -> None:
    show_histogram("Rows", [4] * 80 + [20], 16, "drop")
    lines = capsys.readouterr().out.splitlines()
    assert "over 16" in lines[1]
    rows = [[cell.strip() for cell in line.split("│")] for line in lines[3:]]
    assert rows[0] == ["3-4", "80", "#" * 40, ""]
    assert rows[-1] == ["19-20", "1", "#", "dropped"]
    show_histogram("Rows", [20, 20], 16, "truncate")
    assert capsys.readouterr().out.splitlines()[-1].endswith("cut    ")
