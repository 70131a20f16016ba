"""Numbers as people read them, at their edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.units import GIB, gib, human_bytes, human_duration, percent


def test_gib_is_2_to_the_30():
    assert GIB == 1_073_741_824
    assert gib(3 * 2**29) == "1.50 GiB"
    assert gib(8_000_000_000) == "7.45 GiB"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**30, "1.00 GiB"),
        (2**41, "2048.00 GiB"),
    ],
)  # fmt: skip
def test_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"), (4.26, "4.3s"), (59.94, "59.9s"), (59.96, "1m 00s"), (65, "1m 05s"), (3599.4, "59m 59s"),
        (3599.6, "1h 00m"), (3725, "1h 02m"), (100 * 3600, "100h 00m"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert human_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e7))
def test_a_duration_never_shows_sixty(seconds):
    assert "60" not in [part.rstrip("smh") for part in human_duration(seconds).split()[1:]]
    assert human_duration(seconds) != "60.0s"


def test_percent_of_nothing_is_no_number():
    assert percent(1, 3) == "33.3 %"
    assert percent(0, 5) == "0.0 %"
    assert percent(0, 0) == "-"
