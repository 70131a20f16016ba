"""The limit above which a number stands out, by hand."""

from __future__ import annotations

import pytest

from sftlib.run.outliers import usual_and_limit


def test_the_median_and_the_spread_around_it() -> None:
    # distances from 2 are 1, 0, 0, 1, 98: their median is 1
    assert usual_and_limit([1.0, 2.0, 2.0, 3.0, 100.0], spreads=2) == pytest.approx((2.0, 2.0 + 2 * 1.4826))


def test_wild_values_do_not_raise_it() -> None:
    usual = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0]
    assert usual_and_limit([*usual, 1e9, 1e9], spreads=5)[1] < 2


def test_equal_numbers_have_no_spread() -> None:
    assert usual_and_limit([3.0, 3.0, 3.0], spreads=5) == (3.0, 3.0)
